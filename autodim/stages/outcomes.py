"""outcomes: a model of several tasks against a model of each task alone, over seeds, on the same rows.

FOLDER/data/                        encoded once
FOLDER/seed-K/                      all tasks: pretrain (and cut and retrained, with a share)
FOLDER/seed-K/alone-T/              the T-th label alone
FOLDER/outcomes.{json,md}           the table
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from autodim import artifact
from autodim.config.schema import BudgetConfig, Config
from autodim.config.sections.prune import TasksConfig
from autodim.config.sections.weighting import WeightingConfig
from autodim.data.columns import Columns
from autodim.data.encoded import EncodedLog
from autodim.data.several import LogRows
from autodim.data.tasks import Task
from autodim.errors import ConfigError
from autodim.multitask.alone import alone
from autodim.report.compare import spread
from autodim.report.differences import interval
from autodim.report.outcomes import TaskOutcome, outcome, outcome_markdown
from autodim.stages.compare import Place, seed_run
from autodim.stages.differences import logits_on_test
from autodim.stages.job import job
from autodim.stages.model_folder import load_network
from autodim.stages.pretrain import pretrain
from autodim.stages.prune import prune
from autodim.stages.retrain import retrain
from autodim.stages.run import Run
from autodim.stages.session import Session
from autodim.training.bounds import Lost, lost
from autodim.training.metrics import evaluate_logits
from autodim.training.progress import Progress


@dataclass(frozen=True)
class OneLabel(EncodedLog):
    """A log of several labels, of which one is seen; the rows, the parts and the ids are the same.

    Attributes:
        whole: the log. task: the label's position.
    """

    whole: EncodedLog = field(kw_only=True)
    task: int = field(kw_only=True)

    @staticmethod
    def of(whole: EncodedLog, task: int) -> OneLabel:
        return OneLabel(whole.path, whole.manifest, whole=whole, task=task)

    @property
    def labels(self) -> tuple[str, ...]:
        return (self.whole.labels[self.task],)

    @property
    def tasks(self) -> tuple[Task, ...]:
        return (self.whole.tasks[self.task],)

    def logs(self, part: str) -> tuple[LogRows, ...]:
        return tuple(replace(one, tasks=(0,) if self.task in one.tasks else ()) for one in self.whole.logs(part))

    def part(self, name: str) -> Columns:
        columns = self.whole.part(name)
        return replace(columns, labels=columns.labels[:, self.task : self.task + 1].contiguous())


@dataclass
class _Measured:
    """What is gathered of one task over the seeds."""

    alone: list[float]
    together: list[float]
    lost: list[Lost]


def outcomes(
    config: Config, place: Place, seeds: tuple[int, ...], share: float | None, progress: Progress
) -> tuple[dict[str, Any], list[TaskOutcome]]:
    """Train all tasks together, and each main task alone, at every seed; compare them on the test rows.

    The single models read the same input with the same settings (`autodim.multitask.alone` says which model it is);
    rows without their label teach them nothing, as in the joint model. Auxiliary tasks are trained together only.

    Args:
        share: budget of the embeddings, as a share of the uniform model's, at which every model is cut and retrained;
            None: the uncut models are compared.

    Returns:
        What FOLDER/outcomes.json holds, and its rows.

    Raises:
        ConfigError: fewer than two labels.

    Cost: 1 + (main tasks) trainings a seed, twice as many with a share; finished ones are kept.
    """
    config = _with_budget(config, share)
    stage = "pretrain" if share is None else "retrain"
    base = place.home(config)
    with job(base, progress) as (log, session):
        if len(log.labels) < 2:
            raise ConfigError(f"data.labels: found {len(log.labels)}, expected two or more to compare with each alone")
        main = [t for t, task in enumerate(log.tasks) if task.role == "main"]
        progress.line(
            f"outcomes: {len(seeds)} seeds x (all tasks, and {len(main)} alone) = {len(seeds) * (1 + len(main))} models"
            + ("" if share is None else ", each trained twice (cut and retrained)")
            + "; finished ones are kept"
        )
        columns = log.part("test")
        labels = columns.labels.to(session.device)
        found = {t: _Measured([], [], []) for t in main}
        sizes: dict[str, Any] = {}
        for seed in seeds:
            parent = seed_run(base, place, seed)
            progress.line(f"seed {seed}: all tasks")
            _train(parent, log, session, share)
            together = logits_on_test(parent, stage, columns, session.device)
            sizes.setdefault("together", _size(parent, stage, session.device))
            for t in main:
                progress.line(f"seed {seed}: {log.labels[t]} alone")
                one, run = OneLabel.of(log, t), _alone_run(parent, t)
                _train(run, one, session, share)
                own = logits_on_test(run, stage, one.part("test"), session.device)
                sizes.setdefault("alone", {}).setdefault(log.labels[t], _size(run, stage, session.device))
                _measure(found[t], together[:, t : t + 1], own, labels[:, t : t + 1], log.tasks[t])
                session.stop.check()
        rows = [_row(log.tasks[t], found[t]) for t in main]
        words = outcome([r.change for r in rows])
        notes = _notes(config, seeds, share, sizes)
        result = {
            "outcome": words,
            "seeds": list(seeds),
            "share": share,
            "model": config.model.name,
            "alone": alone(config.model).model_dump(mode="json"),
            "sizes": sizes,
            "tasks": [r.to_json() for r in rows],
            "per_seed": {log.labels[t]: {"alone": m.alone, "together": m.together} for t, m in found.items()},
        }
        artifact.write_json(place.folder / "outcomes.json", result)
        artifact.write_text(place.folder / "outcomes.md", outcome_markdown(rows, notes))
    return result, rows


def _with_budget(config: Config, share: float | None) -> Config:
    budget = BudgetConfig(unit=config.prune.budget.unit, share=0.25 if share is None else share)
    return config.model_copy(update={"prune": config.prune.model_copy(update={"budget": budget})})


def _alone_run(parent: Run, task: int) -> Run:
    """The run of one label: the same settings but for what weighs tasks against each other."""
    config = parent.config
    label = config.data.labels[task].model_copy(update={"where": None}) if config.data.labels else None
    plain: dict[str, Any] = {"weighting": WeightingConfig(), "select_by": "first"}
    config = config.model_copy(
        update={
            "model": alone(config.model),
            "data": config.data.model_copy(update={"labels": () if label is None else (label,)}),
            "pretrain": config.pretrain.model_copy(update=plain),
            "retrain": config.retrain.model_copy(update=plain),
            "prune": config.prune.model_copy(update={"tasks": TasksConfig()}),
        }
    )
    return Run(parent.folder / f"alone-{task}", config, {"prepare": parent.stage("prepare")}, say=parent.say)


def _train(run: Run, log: EncodedLog, session: Session, share: float | None) -> None:
    pretrain(run, log, session)
    session.stop.check()
    if share is not None:
        prune(run, log, session)
        session.stop.check()
        retrain(run, log, session)
        session.stop.check()


def _measure(found: _Measured, together: Tensor, own: Tensor, labels: Tensor, task: Task) -> None:
    one, other = (evaluate_logits(scores, labels, [task])[0] for scores in (own, together))
    found.alone.append(one.auc if task.kind == "binary" else one.loss)
    found.together.append(other.auc if task.kind == "binary" else other.loss)
    found.lost.append(lost(together, own, labels, [task])[0])


def _row(task: Task, found: _Measured) -> TaskOutcome:
    auc = None
    if task.kind == "binary":
        auc = interval([0.0 - x.auc for x in found.lost], [x.auc_error for x in found.lost])
    loss = interval([x.loss for x in found.lost], [x.loss_error for x in found.lost])
    return TaskOutcome(task.name, task.kind, spread(found.alone), spread(found.together), auc, loss)


def _size(run: Run, stage: str, device: torch.device) -> dict[str, int]:
    network, _ = load_network(run.stage(stage) / "model", device)
    return {
        "embeddings": network.tables.layout.parameters,
        "dense": sum(p.numel() for p in network.model.parameters()),
    }


def _notes(config: Config, seeds: tuple[int, ...], share: float | None, sizes: dict[str, Any]) -> list[str]:
    single = alone(config.model)
    each = sizes["alone"]
    dense = ", ".join(f"{name} {size['dense']:,}" for name, size in each.items())
    spent = "uncut" if share is None else f"cut to {share:.4g} of the uniform embeddings and retrained"
    hidden = f" with layers {list(single.hidden)}" if single.name == "single" else ""
    how = f"the same rows, settings and {len(seeds)} seeds"
    return [
        f"Together: {config.model.name} ({sizes['together']['dense']:,} dense parameters); alone: "
        f"{single.name}{hidden} ({dense}); {spent}, {how}; figures of the test rows, mean ± standard deviation over "
        "seeds; half widths of 95 % intervals of the difference over seeds (t) and over rows (paired).",
    ]
