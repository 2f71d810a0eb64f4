"""The run's folder: what each stage has written, from which inputs, and who owns it now.

RUN/config.yaml        the resolved config
RUN/data/              encoded columns, vocabularies, manifest          (prepare)
RUN/pretrain/model/    the uniform model                                (pretrain)
RUN/prune/             widths.yaml, scores, the cut model               (prune)
RUN/retrain/model/     the small model                                  (retrain)
RUN/evaluate/          results.json                                     (evaluate)
RUN/widen/model/       the small model with some slots wider than the uniform one (`autodim widen`)
RUN/widths.yaml, RUN/metrics.jsonl, RUN/report.html                     copies and views for people
RUN/no_safe_cut.json    whose model the folder serves after a search that found no safe cut (`autodim.stages.no_cut`)
RUN/previous/          stages of earlier settings, moved aside and never deleted
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from autodim import artifact
from autodim.config.schema import Config
from autodim.errors import RunError
from autodim.stages.advice import advice
from autodim.stages.records import (
    Done,
    check_files,
    damage_of,
    is_loose,
    loose_files,
    read_done,
    read_record,
    whole,
    write_record,
)

STAGES = ("prepare", "pretrain", "prune", "retrain", "evaluate")
PREVIOUS = "previous"  # the folder of stages of earlier settings
FOLDERS = {"prepare": "data", **{name: name for name in (*STAGES[1:], "widen")}}

VIEWS = ("config.yaml", "environment.json", "widths.yaml", "metrics.jsonl", "report.html", "baselines.json")


class Run:
    """A run's folder.

    Args:
        folder: where it is, or will be.
        config: the resolved config.
        shared: stages whose folders lie elsewhere (runs of one comparison share data and pretraining).
        say: told when a stage is replaced, and why.
    """

    def __init__(
        self,
        folder: Path,
        config: Config,
        shared: dict[str, Path] | None = None,
        say: Callable[[str], None] = lambda text: None,
    ):
        artifact.refuse_special(folder)
        if folder.is_file():
            raise RunError(f"{folder}: is a file; expected a folder for the run; choose another with run=PATH")
        self.folder = folder
        self.config = config
        self.shared = shared or {}
        self.say = say

    def stage(self, name: str) -> Path:
        """The folder of a stage."""
        return self.shared.get(name, self.folder / FOLDERS[name])

    def done(self, name: str) -> Done | None:
        """The record of a stage, if it was finished."""
        return read_done(self.stage(name))

    def is_current(self, name: str) -> bool:
        """Whether a stage is finished, and of the log that is here."""
        done = self.done(name)
        return done is not None and self._of_this_log(done)

    def need(self, name: str) -> Path:
        """The folder of a finished stage.

        Raises:
            RunError: it was not run (names the command), is of another encoding of the log than the one that is here,
                or a file directly in it is not what was written.
        """
        done = self.done(name)
        if done is None:
            raise RunError(f"{self.stage(name)}: the stage {name!r} is not finished; {advice(self.folder, name)}")
        if not self._of_this_log(done):
            raise RunError(
                f"{self.stage(name)}: made from another encoding of the log than {self.stage('prepare')} has now: "
                "settings of `data` were changed since, so that its ids mean other values; "
                f"{advice(self.folder, name)}; or go back to the earlier settings, whose log is kept in previous/"
            )
        check_files(self.stage(name), done.files)
        return self.stage(name)

    def up_to_date(self, name: str, inputs: str) -> bool:
        """Whether a stage is finished for these inputs; if finished for others, it is moved to `previous/`, and one of
        these inputs that is kept there is taken back."""
        done = self.done(name)
        folder = self.stage(name)
        if done is not None and done.inputs == inputs and self._of_this_log(done):
            damage = self.damage(name)
            if damage is None:
                return True
            self.say(f"{name}: {damage}; it is made again")
            self._move_aside(name)
            return False
        if done is not None and done.inputs == inputs:  # of ids that mean other values now
            return self._exchange(name, inputs)
        if not folder.exists() or ((folder / "started.json").is_file() and self._started(name)["inputs"] != inputs):
            return self._exchange(name, inputs)
        return False

    def adopt(self, name: str, inputs: str) -> None:
        """Take a finished stage for one of these inputs, which were found to give the very same."""
        path = self.stage(name) / "done.json"
        record = read_record(path, {"inputs": str})
        write_record(path, record | {"inputs": inputs})

    def _exchange(self, name: str, inputs: str) -> bool:
        """Move a stage of other inputs aside; True where an earlier one of these inputs could be taken back."""
        folder, kept = self.stage(name), None
        if name not in self.shared:
            found = sorted((self.folder / PREVIOUS).glob(f"{folder.name}-*"))
            kept = next((path for path in found if self._whole(path, inputs)), None)
        if folder.exists():
            self._move_aside(name)
        if kept is None:
            return False
        try:
            os.rename(kept, folder)
            artifact.sync_directory(folder.parent)
        except OSError as error:
            raise artifact.disk_error(folder, 0, error) from error
        self.say(f"{name}: taken back from {kept}, where it was kept")
        return True

    def _whole(self, folder: Path, inputs: str) -> bool:
        """Whether a folder holds a stage of these inputs, as it was written."""
        try:
            done = read_done(folder)
        except RunError:
            return False
        same = done is not None and done.inputs == inputs and self._of_this_log(done)
        return done is not None and same and damage_of(folder, done) is None

    def _of_this_log(self, done: Done) -> bool:
        """Whether a stage is of the encoded log that is here. Another encoding may give the same weights, and with them
        the same inputs to the stages after."""
        log = self.done("prepare")
        return done.log is None or log is None or done.log == log.result

    def _started(self, name: str) -> dict[str, Any]:
        return read_record(self.stage(name) / "started.json", {"inputs": str, "seconds": (int, float)})

    @contextmanager
    def working(self, name: str, inputs: str) -> Iterator[Path]:
        """Work on a stage: the record of what it is made from first, the record that it is finished last."""
        folder = self.stage(name)
        try:
            artifact.make_directory(folder)
        except OSError as error:
            raise artifact.disk_error(folder, 0, error) from error
        started = folder / "started.json"
        before = 0.0
        if started.is_file():
            before = self._started(name)["seconds"]
        write_record(started, {"inputs": inputs, "seconds": before})
        began = time.monotonic()
        try:
            yield folder
        except BaseException:
            if folder.is_dir():
                with suppress(RunError):  # a disk that refuses was told already
                    write_record(started, {"inputs": inputs, "seconds": before + time.monotonic() - began})
            raise
        seconds = before + time.monotonic() - began
        sealed = sorted(
            m.parent.relative_to(folder).as_posix()
            for m in whole(folder, artifact.MANIFEST)
            if "checkpoints" not in m.parts
        )
        record = {"inputs": inputs, "seconds": seconds, "result": result_of(folder), "sealed": sealed}
        log = self.done("prepare") if name != "prepare" else None
        made_from = {} if log is None else {"log": log.result}
        write_record(folder / "done.json", {**record, "files": loose_files(folder), **made_from})

    def write_metrics(self) -> None:
        """Gather the stages' evaluations in RUN/metrics.jsonl (no times: the same run writes the same bytes)."""
        lines = []
        for name in ("pretrain", "retrain"):
            path = self.stage(name) / "history.json"
            if path.is_file():
                lines += [json.dumps({"stage": name, **p}, sort_keys=True) for p in artifact.read_json(path)]
            path = self.stage(name) / "events.json"
            if path.is_file():
                lines += [json.dumps({"stage": name, "event": e}, sort_keys=True) for e in artifact.read_json(path)]
        path = self.stage("evaluate") / "results.json"
        if path.is_file():
            for row in artifact.read_json(path)["models"]:
                lines.append(json.dumps({"stage": "evaluate", **row}, sort_keys=True))
        artifact.write_text(self.folder / "metrics.jsonl", "".join(line + "\n" for line in lines))

    def tidy(self) -> None:
        """Remove what killed writers left; only for the owner of the folder."""
        for depth in ("", "*/", "*/checkpoints/"):
            for path in self.folder.glob(f"{depth}.tmp-[0-9]*"):
                artifact.remove(path)

    def write_views(self) -> None:
        """The copies for people, from the stages that are finished: an interruption may have come between the two."""
        for name in ("retrain", "prune"):
            path = self.stage(name) / "widths.yaml"
            if path.is_file() and self.done(name) is not None:
                artifact.write_bytes(self.folder / "widths.yaml", path.read_bytes())
                break
        if any(self.done(name) is not None for name in ("pretrain", "retrain", "evaluate")):
            self.write_metrics()

    def unseal(self, *names: str) -> None:
        """Take back what `seal` says, of some files or (no names) of all: what lies beside the stages is about to
        change."""
        if names:
            artifact.unseal_files(self.folder, names)
        else:
            (self.folder / artifact.MANIFEST).unlink(missing_ok=True)

    def seal(self) -> None:
        """Keep the sums of what lies beside the stages, for `autodim verify`."""
        artifact.seal_files(self.folder, VIEWS)

    def reseal(self, *names: str) -> None:
        """Keep the sums of single files that were written anew after `seal`."""
        if (self.folder / artifact.MANIFEST).is_file():
            artifact.seal_files(self.folder, names)

    def damage(self, name: str) -> str | None:
        """What is wrong with a finished stage's sealed folders; None where all are as written."""
        done = self.done(name)
        return None if done is None else damage_of(self.stage(name), done)

    def _move_aside(self, name: str) -> None:
        source = self.stage(name)
        if name in self.shared:
            raise RunError(f"{source}: made with other settings; a comparison never replaces it; choose another folder")
        self.say(f"{name}: what was there is kept in {artifact.set_aside(source, self.folder / PREVIOUS)}")


def result_of(folder: Path) -> str:
    """One hash over all sealed directories and files that a stage leaves."""
    parts = {}
    for path in whole(folder, "*"):
        relative = path.relative_to(folder).as_posix()
        if relative.startswith("checkpoints/"):  # no result, and a disk may have refused to remove them
            continue
        if path.name == artifact.MANIFEST or (path.parent == folder and is_loose(path)):
            parts[relative] = artifact.sha256(path)
    return artifact.digest(parts)
