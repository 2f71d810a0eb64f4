"""continue: a trained run goes on with new rows, online: new ids get rows of their own, everything learnt is kept.

OUT/data/                 the new rows, encoded with the old ids and new ones behind them
OUT/retrain/ (pretrain/)  the model, trained on; a run like any other, so it can be predicted with and continued
OUT/continue.json         the model before and after, on the new rows' test part
OUT/next/                 a new continuation, where OUT has another one in service until it is complete
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from autodim import artifact
from autodim.config.schema import Config, ModelConfig
from autodim.data.encode import encode
from autodim.data.encoded import EncodedLog
from autodim.data.frame import learnt
from autodim.data.manifest import source_hash
from autodim.data.several import check_single
from autodim.dimension.allocation import Allocation
from autodim.embedding.grow import grow_state, grow_weights, grown_layout
from autodim.embedding.layout import uniform_layout
from autodim.errors import ConfigError, RunError
from autodim.optim.rows import RowOptimizer
from autodim.stages.advice import CONTINUED
from autodim.stages.model_folder import build_network, load_network
from autodim.stages.predict import open_run
from autodim.stages.prepare import check_parts, open_log
from autodim.stages.pretrain import finish, summary, train_network
from autodim.stages.prune import cost_model
from autodim.stages.run import Run
from autodim.stages.search import write_config
from autodim.stages.session import Session
from autodim.stages.successor import place, take_over
from autodim.training.checkpoints import load_state, states_of
from autodim.training.device import set_up
from autodim.training.evaluation import evaluate
from autodim.training.interrupt import StopFlag
from autodim.training.network import Network
from autodim.training.progress import Progress
from autodim.training.seeds import derive

STAGES = {"small": "retrain", "uniform": "pretrain"}


def continue_run(folder: Path, config: Config, data: Path, which: str, progress: Progress) -> dict[str, Any]:
    """Train a run's model on with new rows.

    Args:
        folder: the finished run. config: its config with the user's overrides; `config.run` is the new run's folder.
        data: the new rows: a file with the same columns, labels included. They are split as `data.split` says.
        which: `small` (the cut model) or `uniform`.

    Returns:
        `new_ids` per table, `kept_state`, and per label `before` and `after`: metrics on the new rows' test part.

    Raises:
        RunError: no such model. ConfigError: the new folder is the old one or another run's, or settings that would
            need another model.
        Interrupted: a signal came; the same command continues.
    """
    old, out = open_run(folder), Path(config.run)
    if out.resolve() == folder.resolve():
        raise ConfigError(f"--out: found {out}, the run itself; expected another folder, so that it is kept")
    if config.model != old.config.model:
        raise ConfigError("model: an online continuation trains the run's own model; take the overrides of `model` out")
    stage = STAGES[which]
    source = old.need(stage)
    old_log = open_log(old)
    check_single(old.config.data, "continue")
    if any(task.kind == "regression" for task in old_log.tasks):
        raise ConfigError(
            "data.labels: a regression is learnt in units of its own training rows, which new rows change; an online "
            "continuation takes binary labels only; search the new rows instead"
        )
    _check_target(out, folder)
    device = set_up(config.device, config.threads)
    read: dict[str, Any] = {"path": str(data), "log": None, "options": {}, "max_bad_rows": config.data.max_bad_rows}
    section = old_log.manifest.data.model_copy(update=read)
    config = config.model_copy(update={"data": section})
    with artifact.Lock(out), StopFlag() as stop:
        session = Session(device, progress, stop)
        train = config.retrain if stage == "retrain" else config.pretrain
        state = source / "optimizer"
        read_from = source_hash(section, Path.cwd())
        inputs = artifact.digest(
            {
                "from": artifact.fingerprint(source / "model"),
                "state": artifact.fingerprint(state) if state.is_dir() else None,
                "data": read_from,
                "train": train.model_dump(mode="json"),
                "seed": config.seed,
            }
        )
        data_inputs = artifact.digest(
            {"data": section.model_dump(mode="json"), "source": read_from, "ids": artifact.fingerprint(old_log.path)}
        )
        final = Run(out, config, say=progress.line)
        run = place(final, stage, data_inputs, inputs)
        artifact.write_json(run.folder / CONTINUED, {"from": str(folder.resolve())})
        write_config(run)
        log = _prepare(run, old_log, session, data_inputs)
        before, about = load_network(source / "model", device)
        network = grown(before, about, log).to(device)
        first = [m.to_json() for m in evaluate(network, log.part("test"), device, log.tasks)]
        if run.up_to_date(stage, inputs):
            progress.line(f"{stage}: up to date")
        else:
            with run.working(stage, inputs) as work:
                begin = None
                if state.is_dir():
                    begin = _Begin(before, network, load_state(state))
                else:
                    progress.line(
                        f"{stage}: {folder} kept no optimizer state ({stage}.keep_state), so the optimizers start fresh"
                    )
                if stage == "retrain":
                    artifact.write_text(work / "widths.yaml", _grown_widths(source / "widths.yaml", log, config))
                seed = derive(config.seed, "online")
                trained = train_network(network, log, train, seed, work, session, start=begin, counts_start=True)
                finish(work, network, ModelConfig(**about["model"]), log, trained)
            progress.line(summary(stage, trained))
        network, _ = load_network(run.need(stage) / "model", device)
        after = [m.to_json() for m in evaluate(network, log.part("test"), device, log.tasks)]
        rows = {t.name: t.rows for t in old_log.tables}
        result = {
            "from": str(folder),
            "model": which,
            "kept_state": state.is_dir(),
            "new_ids": {t.name: t.rows - rows[t.name] for t in log.tables},
            "labels": list(log.labels),
            "rows": {part: len(log.part(part)) for part in ("train", "valid", "test")},
            "before": first,
            "after": after,
        }
        artifact.write_json(run.folder / "continue.json", result)
        take_over(final, run)
    return result


def _check_target(out: Path, folder: Path) -> None:
    """Raises ConfigError where the new folder is another run's: it would be taken over."""
    if not (out / "config.yaml").is_file():
        return
    mark = out / CONTINUED
    found = artifact.read_json(mark)["from"] if mark.is_file() else None
    if found != str(folder.resolve()):
        what = "a run of its own" if found is None else f"the continuation of {found}"
        raise ConfigError(f"--out: {out} is {what}; expected a new folder, or the continuation of {folder}")


def _prepare(run: Run, old: EncodedLog, session: Session, inputs: str) -> EncodedLog:
    data = run.config.data
    if not run.up_to_date("prepare", inputs):
        with run.working("prepare", inputs) as folder, artifact.fresh_directory(folder / "log") as temporary:
            session.progress.line(f"prepare: {data.path}")
            encode(data, temporary, Path.cwd(), learnt=learnt(old))
    log = open_log(run)
    check_parts(log)
    return log


def grown(old: Network, about: dict[str, Any], log: EncodedLog) -> Network:
    """A trained network with rows for a log's new ids; it predicts as before (see `grow_weights`), but for new ids of
    tables that are cut into blocks.

    Raises:
        RunError: the log does not fit the model.
    """
    try:
        layout = grown_layout(old.tables.layout, log.tables)
    except ValueError as error:
        raise RunError(f"{log.path}: {error}; it was not encoded for this model") from error
    network = build_network(ModelConfig(**about["model"]), layout, about["numeric"], len(about["labels"]), seed=0)
    state = {k: v for k, v in old.state().items() if not k.startswith("tables.")}
    state |= {f"tables.{k}": v for k, v in grow_weights(old.tables, network.tables).items()}
    network.load_state(state)
    return network


class _Begin:
    """Puts fresh optimizers where the earlier training left them; rates and penalties are the new config's."""

    def __init__(self, old: Network, new: Network, state: tuple[dict[str, torch.Tensor], list[dict[str, Any]]]):
        self.old, self.new, (self.tensors, self.rest) = old, new, state

    def __call__(self, optimizers: list[torch.optim.Optimizer]) -> None:
        if len(self.rest) != len(optimizers):
            raise RunError(f"the kept state is of {len(self.rest)} optimizers, the model has {len(optimizers)}")
        for optimizer, kept in zip(optimizers, states_of(self.tensors, self.rest), strict=True):
            states = kept
            if isinstance(optimizer, RowOptimizer):
                states = grow_state(self.old.tables, self.new.tables, optimizer, kept)
            current = optimizer.state_dict()
            self._same_rule(current, optimizer, states)
            optimizer.load_state_dict({"state": states, "param_groups": current["param_groups"]})

    def _same_rule(
        self, current: dict[str, Any], optimizer: torch.optim.Optimizer, states: dict[int, dict[str, Any]]
    ) -> None:
        """Raises ConfigError where the kept state is another rule's."""
        if not isinstance(optimizer, RowOptimizer) or not states:
            return
        wanted = set(optimizer.fresh(optimizer.param_groups[0]["params"][0].detach()[:1], optimizer.param_groups[0]))
        found = set(next(iter(states.values())))
        if wanted != found:
            raise ConfigError(
                f"optimizer.tables: the kept state has {', '.join(sorted(found))}, but {type(optimizer).__name__} "
                f"needs {', '.join(sorted(wanted)) or 'none'}; continue with the rule that the run was trained with"
            )


def _grown_widths(path: Path, log: EncodedLog, config: Config) -> str:
    """The run's widths for the grown tables; costs are those of the rows that there are now."""
    allocation = Allocation.from_yaml(path.read_text())
    rows = {t.name: t.rows for t in log.tables}
    ends = {t: max(e.stop for e in allocation.entries if e.table == t) for t in rows}
    cost = replace(cost_model(config), common=allocation.common, unit=allocation.unit)
    entries = []
    for entry in allocation.entries:
        stop = rows[entry.table] if entry.stop == ends[entry.table] else entry.stop
        long = replace(entry, stop=stop)
        entries.append(replace(long, cost=replace(cost, precision=long.precision).of(long.block, len(long.slots))))
    spent, whole = sum(e.cost for e in entries), uniform_layout(log.slots, log.tables, allocation.common)
    note = "grown with new rows; the budget was kept when it was cut"
    notes = tuple(dict.fromkeys((*allocation.notes, note)))
    return replace(
        allocation, entries=tuple(entries), spent=spent, uniform=cost.reference(whole), notes=notes
    ).to_yaml()
