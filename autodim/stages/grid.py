"""grid: named sets of settings x seeds on one log, each trained and measured; one job that can be killed and run again.

FOLDER/data/                            encoded once (or a finished run's)
FOLDER/cells/NAME/seed-K/pretrain/      one training
FOLDER/cells/NAME/seed-K/result.json    what it gave; also where it diverged

`autodim recipes` and `autodim stress` are two ways to name the cells.
"""

from __future__ import annotations

import itertools
import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autodim import artifact
from autodim.config.reader import load_config
from autodim.config.schema import Config
from autodim.config.writer import to_yaml
from autodim.data.encoded import EncodedLog
from autodim.errors import ConfigError, TrainingError
from autodim.stages.job import job
from autodim.stages.model_folder import load_network
from autodim.stages.pretrain import pretrain, run_result
from autodim.stages.run import Run
from autodim.stages.session import Session
from autodim.training.evaluation import evaluate
from autodim.training.progress import Progress
from autodim.training.watch import CHANCE


@dataclass(frozen=True)
class Cell:
    """One set of settings: its name on each axis, and its overrides (`key=value`) on top of the base config."""

    names: Mapping[str, str]
    overrides: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Its folder's name, for any names."""
        return "-".join(re.sub(r"[^\w.+]", "_", name) for name in self.names.values())


def product(axes: Mapping[str, Mapping[str, Sequence[str]]]) -> list[Cell]:
    """Every combination of the axes' entries; overrides are in the axes' order."""
    cells = []
    for chosen in itertools.product(*(entries.items() for entries in axes.values())):
        overrides = itertools.chain.from_iterable(o for _, o in chosen)
        cells.append(Cell({axis: name for axis, (name, _) in zip(axes, chosen, strict=True)}, tuple(overrides)))
    return cells


def configs(base: Config, cells: Sequence[Cell]) -> list[Config]:
    """The cells' configs, checked before anything is trained.

    Raises:
        ConfigError: a setting that cannot be meant, another `data` section, or two cells of one name.
    """
    text, found = to_yaml(base), []
    for cell in cells:
        shown = ", ".join(f"{axis} {name}" for axis, name in cell.names.items())
        config = load_config(text, cell.overrides, shown).config
        if config.data != base.data:
            raise ConfigError(f"{shown}: changes `data`; all cells are compared on one log; take it out")
        found.append(config)
    folders = [cell.folder for cell in cells]
    for name in folders:
        if folders.count(name) > 1:
            raise ConfigError(f"two cells are named {name!r}; give every entry of an axis another name")
    return found


def run_grid(
    base: Config,
    cells: Sequence[Cell],
    seeds: Sequence[int],
    folder: Path,
    progress: Progress,
    data: Path | None = None,
    save: Callable[[list[dict[str, Any]]], object] = lambda rows: None,
) -> list[dict[str, Any]]:
    """Train and measure every cell that is not finished.

    Args:
        data: a finished run's encoded log of the same data section, to be used in place.
        save: called with all rows so far after each training.

    Returns:
        One row a cell and seed: the axes' names, `seed`, test `auc`, `logloss`, `calibration`, `valid_auc`, `steps`,
        `best_step`, `seconds`, `micro` and `full` (events), `diverged` and `error`; `tasks` has all test metrics by
        label, the others are of the first.

    A training has diverged when the watch saw a full divergence, when numbers were not finite, or when its last
    evaluation shows a model that is no better than guessing (`lost`).
    """
    settings = configs(base, cells)
    rows: list[dict[str, Any]] = []
    home = Run(folder, base, {} if data is None else {"prepare": data})
    with job(home, progress) as (log, session):
        count = len(cells) * len(seeds)
        for number, (seed, (cell, config)) in enumerate(
            itertools.product(seeds, zip(cells, settings, strict=True)), start=1
        ):
            shown = ", ".join(cell.names.values())
            progress.line(f"{number} of {count}: {shown}, seed {seed}")
            run = Run(
                folder / "cells" / cell.folder / f"seed-{seed}",
                config.model_copy(update={"seed": seed}),
                {"prepare": home.stage("prepare")},
            )
            rows.append({**cell.names, "seed": seed, **_measured(run, log, session)})
            artifact.write_json(run.folder / "log.json", {"log": str(log.path.resolve())})
            save(rows)
            session.stop.check()
    return rows


def _measured(run: Run, log: EncodedLog, session: Session) -> dict[str, Any]:
    """A cell's result, kept from an earlier time where its settings are the same."""
    config, path = run.config, run.folder / "result.json"
    inputs = artifact.digest(
        {
            "data": run_result(run, "prepare"),
            "model": config.model.model_dump(mode="json"),
            "pretrain": config.pretrain.model_dump(mode="json"),
            "seed": config.seed,
        }
    )
    if path.is_file():
        known = artifact.read_json(path)
        if known["inputs"] == inputs:
            return known["result"]
    result = dict.fromkeys(
        (
            "auc",
            "logloss",
            "calibration",
            "valid_auc",
            "steps",
            "best_step",
            "seconds",
            "micro",
            "full",
            "error",
            "tasks",
        )
    )
    try:
        pretrain(run, log, session)
    except TrainingError as error:
        result |= {"diverged": True, "error": str(error)}
    else:
        stage, done = run.stage("pretrain"), run.done("pretrain")
        network, about = load_network(stage / "model", session.device)
        tests = [m.to_json() for m in evaluate(network, log.part("test"), session.device, log.tasks)]
        test = tests[0]
        events = artifact.read_json(stage / "events.json") if (stage / "events.json").is_file() else []
        kinds = [e["kind"] for e in events]
        result |= {k: test[k] for k in ("auc", "logloss", "calibration")}
        result["tasks"] = dict(zip(log.labels, tests, strict=True))
        result |= {"valid_auc": about["best"]["valid_auc"], "best_step": about["best"]["step"]}
        result |= {"steps": about["steps"], "seconds": done.seconds if done else None}
        result |= {"micro": kinds.count("micro"), "full": kinds.count("full")}
        last = artifact.read_json(stage / "history.json")[-1]
        rate = log.manifest.parts["valid"].positive_rate[0]
        result["diverged"] = "full" in kinds or lost(last["valid_auc"], last["valid_logloss"], rate)
    artifact.write_json(path, {"inputs": inputs, "result": result})
    return result


def lost(auc: float | None, logloss: float | None, rate: float | None) -> bool:
    """Whether an evaluation is that of a model which is no better than guessing.

    Args:
        auc: below CHANCE is guessing; None: one class only. logloss: None: not finite.
        rate: share of ones among the labels, whose constant prediction has the log loss `H(rate)`. More than twice that
            is lost, whatever the AUC: rates so high from the start leave the watch no calm beginning to compare with.
    """
    if logloss is None or (auc is not None and auc < CHANCE):
        return True
    if rate is None or not 0 < rate < 1:
        return False
    return logloss > -2 * (rate * math.log(rate) + (1 - rate) * math.log1p(-rate))


def summary(rows: Sequence[Mapping[str, Any]], axes: Sequence[str]) -> list[dict[str, Any]]:
    """Per cell, over seeds: mean and sample standard deviation of AUC and log loss, mean seconds, how many diverged.

    Diverged trainings that still gave a model count in the means; those that gave none do not.
    """
    found = []
    for key in dict.fromkeys(tuple(r[a] for a in axes) for r in rows):
        group = [r for r in rows if tuple(r[a] for a in axes) == key]
        line: dict[str, Any] = dict(zip(axes, key, strict=True))
        for name in ("auc", "logloss"):
            values = [r[name] for r in group if r[name] is not None]
            line[name] = statistics.fmean(values) if values else None
            line[f"{name}_sd"] = statistics.stdev(values) if len(values) > 1 else None
        for task in _others(group):
            values = [_quality(r["tasks"][task]) for r in group if r["tasks"]]
            line[task] = statistics.fmean(values)
            line[f"{task}_sd"] = statistics.stdev(values) if len(values) > 1 else None
        seconds = [r["seconds"] for r in group if r["seconds"] is not None]
        line["seconds"] = statistics.fmean(seconds) if seconds else None
        line["others"] = _others(group)
        found.append({**line, "diverged": sum(bool(r["diverged"]) for r in group), "tried": len(group)})
    return found


def _others(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The labels behind the first."""
    return list(next((r["tasks"] for r in rows if r.get("tasks")), {}))[1:]


def _quality(metrics: Mapping[str, Any]) -> float:
    """What a task is judged by: AUC, or the root mean square error of a regression; NaN where it has none."""
    value = metrics.get("rmse") if metrics["auc"] is None else metrics["auc"]
    return math.nan if value is None else float(value)


def summary_table(lines: Sequence[Mapping[str, Any]], axes: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Head and cells of a summary, for a terminal or markdown."""

    def spread(line: Mapping[str, Any], name: str) -> str:
        if line.get(name) is None:
            return "–"
        return f"{line[name]:.4f}" + (f" ± {line[f'{name}_sd']:.4f}" if line[f"{name}_sd"] is not None else "")

    others = list(dict.fromkeys(task for line in lines for task in line["others"]))
    head = [*axes, "test AUC", *(f"test {task}" for task in others), "logloss", "seconds", "diverged"]
    body = []
    for line in lines:
        seconds = "–" if line["seconds"] is None else f"{line['seconds']:.0f}"
        figures = [
            spread(line, "auc"),
            *(spread(line, task) for task in others),
            spread(line, "logloss"),
            seconds,
            f"{line['diverged']} / {line['tried']}",
        ]
        body.append([*(str(line[a]) for a in axes), *figures])
    return head, body


def markdown(head: Sequence[str], body: Sequence[Sequence[str]], names: int) -> str:
    """A markdown table; the first `names` columns are text, the others numbers."""
    rule = ["---"] * names + ["---:"] * (len(head) - names)
    return "".join("| " + " | ".join(row) + " |\n" for row in (head, rule, *body))


def write_summary(folder: Path, name: str, rows: list[dict[str, Any]], axes: Sequence[str]) -> Path:
    """FOLDER/NAME.json (all rows and the summary) and FOLDER/NAME.md; returns the latter."""
    lines = summary(rows, axes)
    artifact.write_json(folder / f"{name}.json", {"axes": list(axes), "rows": rows, "summary": lines})
    artifact.write_text(folder / f"{name}.md", markdown(*summary_table(lines, axes), len(axes)))
    return folder / f"{name}.md"
