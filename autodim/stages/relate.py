"""relate: how the tasks of a log are related, measured by short trainings (`autodim.multitask.relatedness`).

RUN/relate/relate.json    every pair: transfer, affinity, cosines, with standard errors; the losses behind them
RUN/relate/relate.html    heat maps, the course over the training, a sentence a pair
RUN/relate/parts/         one training each; run again, it is not trained again
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from autodim import artifact
from autodim.config.schema import Config, TrainConfig
from autodim.config.sections.weighting import WeightingConfig
from autodim.data.batches import Order
from autodim.data.columns import EncodedLog
from autodim.embedding.layout import uniform_layout
from autodim.errors import ConfigError
from autodim.multitask.alone import measured
from autodim.multitask.relatedness import GROUPS, Probe, ProbedStep, SharedFrom, own_parameters
from autodim.report.related import Pair, SeedRecord, pairs
from autodim.report.related_page import related_page
from autodim.stages.holdout import inputs_of
from autodim.stages.prepare import prepare
from autodim.stages.pretrain import build_log_network, log_rules, run_result
from autodim.stages.run import Run
from autodim.stages.search import write_config
from autodim.stages.session import Session
from autodim.training.device import set_up, use_bf16
from autodim.training.feed import fits
from autodim.training.interrupt import StopFlag
from autodim.training.loop import Training
from autodim.training.network import Network
from autodim.training.progress import Progress
from autodim.training.seeds import derive

PROBES = 100  # batches of a joint training that are measured where the caller does not say
VERSION = 1  # of what a part holds


@dataclass(frozen=True)
class Question:
    """What is asked besides the config.

    Attributes:
        seeds: each trains everything once.
        every: updates between two probes; 0: so that a whole joint training has about PROBES.
        lr: length of the look-ahead step, of plain gradient descent.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    every: int = 0
    lr: float = 0.1


class EachTask(Training):
    """A training that goes on until no task's validation loss has fallen for `patience` evaluations."""

    def _finished(self) -> bool:
        names = [task.name for task in self.step.tasks]
        losses = [[valid_loss(p.tasks[name]) for p in self.points] for name in names]
        if not self.points:
            return False
        return all(len(one) - 1 - one.index(min(one)) >= self.config.patience for one in losses)


def valid_loss(metrics: dict[str, float | int | None]) -> float:
    """The loss that is trained, of an evaluation's metrics (`Metrics.to_json`); infinite where there is none."""
    found = metrics.get("error", metrics.get("logloss"))
    return math.inf if found is None else float(found)


def relate(config: Config, question: Question, progress: Progress) -> tuple[dict[str, Any], list[Pair]]:
    """Measure every ordered pair of tasks; also in RUN/relate.

    The shared part is that of the config's model where all that is a task's own reads shared features
    (`shared_bottom`, `omoe`, `mmoe`), otherwise of a shared bottom on the same input. Losses are the best of a
    training on the validation rows; the test rows are not read. Settings of training are `pretrain`'s, with the plain
    sum for the joint training.

    Returns:
        What relate.json holds, and its pairs.

    Raises:
        ConfigError: fewer than two labels.

    Cost: T + 2 trainings a seed; it is said before they start.
    """
    if len(config.data.labels) == 1:
        raise ConfigError("data.labels: found 1, expected two or more: relatedness is of pairs of tasks")
    run = Run(Path(config.run), config, say=progress.line)
    with artifact.Lock(run.folder), StopFlag() as stop:
        session = Session(set_up(config.device, config.threads), progress, stop)
        write_config(run)
        log = prepare(run, session)
        if len(log.labels) < 2:
            raise ConfigError(
                f"data.labels: found {len(log.labels)}, expected two or more: relatedness is of pairs of tasks"
            )
        parts = Parts(run, log, session, question)
        progress.line(parts.cost())
        records = [parts.record(seed) for seed in question.seeds]
    found = pairs(log.labels, records, GROUPS)
    notes = parts.notes()
    result = {
        "tasks": list(log.labels),
        "model": parts.model.model_dump(mode="json"),
        "seeds": list(question.seeds),
        "lookahead": question.lr,
        "notes": notes,
        "pairs": [p.to_json() for p in found],
        "losses": [{"seed": r.seed, "control": r.control, "trained": r.trained} for r in records],
    }
    folder = run.folder / "relate"
    artifact.write_json(folder / "relate.json", result)
    artifact.write_text(folder / "relate.html", related_page(run.folder.name, log.labels, found, notes))
    return result, found


class Parts:
    """The trainings of one question, each kept in a file of its own once it is done."""

    def __init__(self, run: Run, log: EncodedLog, session: Session, question: Question):
        self.run, self.log, self.session, self.question = run, log, session, question
        self.model = measured(run.config.model)
        self.config = plain(run.config.pretrain)
        self.steps = Order(len(log.part("train")), self.config.batch, 0).steps_per_epoch * self.config.epochs
        self.every = question.every or max(1, self.steps // PROBES)

    def record(self, seed: int) -> SeedRecord:
        """Everything of one seed."""
        tasks = range(len(self.log.labels))
        control = self.part("control", seed)["losses"]
        trained = [self.part(f"from-{t}", seed)["losses"] for t in tasks]
        return SeedRecord(seed, control, trained, self.part("joint", seed)["probes"])

    def names(self) -> list[str]:
        return ["control", *(f"from-{t}" for t in range(len(self.log.labels))), "joint"]

    def path(self, name: str, seed: int) -> Path:
        """Where a part is kept; its name has a hash of all that it depends on."""
        inputs: dict[str, Any] = {
            "version": VERSION,
            "data": run_result(self.run, "prepare"),
            "model": self.model.model_dump(mode="json"),
            "train": self.config.model_dump(mode="json"),
            **inputs_of(self.log),
        }
        if name == "joint":
            inputs |= {"every": self.every, "lr": self.question.lr}
        return self.run.folder / "relate" / "parts" / f"{name}-seed{seed}-{artifact.digest(inputs)[:16]}.json"

    def part(self, name: str, seed: int) -> dict[str, Any]:
        """One training, from its file where it is done."""
        path = self.path(name, seed)
        if path.is_file():
            return artifact.read_json(path)
        self.session.stop.check()
        found = self.train(name, seed)
        artifact.write_json(path, found)
        return found

    def train(self, name: str, seed: int) -> dict[str, Any]:
        """Best validation losses of the tasks, and of the joint training its probes."""
        network, step = self.step(name, seed)
        device, train, valid = self.session.device, self.log.part("train"), self.log.part("valid")
        if device.type != "cpu":
            train, valid = (part.to(device) if fits(part, device) else part for part in (train, valid))
        # the schedules belong to the rules that made the step
        training = EachTask(network, step, (train, valid), self.config, derive(seed, "relate"), None, self.schedules)
        title = {"control": "frozen random trunk", "joint": "all tasks"}.get(name)
        title = title or f"from {self.log.labels[int(name.removeprefix('from-'))]}"
        training.run(self.session.progress, f"relate: seed {seed}, {title}", self.session.stop)
        losses = [min(valid_loss(p.tasks[task]) for p in training.points) for task in self.log.labels]
        return {"losses": losses, "probes": [_probe_json(p) for p in step.probes]}

    def step(self, name: str, seed: int) -> tuple[Network, ProbedStep]:
        """A fresh network and what trains it."""
        log, model = self.log, self.model
        if name == "control":  # fresh tables are so short that their features would hardly depend on the row
            std = max(model.init_std, model.width**-0.5)
            model = model.model_copy(update={"init_std": std})
        layout = uniform_layout(log.slots, log.tables, model.width)
        network = build_log_network(model, layout, log, derive(seed, "relate"))
        device = self.session.device
        network.to(device)
        own = own_parameters(network)
        rules = log_rules(network, self.config, log)
        self.schedules = rules.schedules
        weighting = None
        if name != "joint":
            weighting = SharedFrom(None if name == "control" else int(name.removeprefix("from-")), own)
        step = ProbedStep(
            network,
            rules.optimizers,
            weighting,
            perturbation=rules.perturbation,
            clippers=rules.clippers,
            missing=bool(torch.isnan(log.part("train").labels).any()),
            bf16=use_bf16(self.config.bf16, device),
            tasks=log.tasks,
        )
        return network, step.probing(self.every, self.question.lr) if name == "joint" else step

    def cost(self) -> str:
        """What is about to be spent, in a sentence; times a few steps."""
        wanted = [(name, seed) for seed in self.question.seeds for name in self.names()]
        left = [one for one in wanted if not self.path(*one).is_file()]
        text = (
            f"relate: {len(wanted)} trainings ({len(self.question.seeds)} seeds x ({len(self.log.labels)} tasks, a "
            f"control, all together)) of at most {self.steps:,} steps of {self.config.batch:,} rows"
        )
        if not left:
            return f"{text}; all are done"
        network, step = self.step("joint", 0)
        train = self.log.part("train")
        order = Order(len(train), self.config.batch, 0)
        step.every, began = 0, time.perf_counter()
        for k in range(4):
            if k == 1:
                began = time.perf_counter()
            step(train.batch(order.rows(0, k % order.steps_per_epoch), self.session.device), k)
        seconds = (time.perf_counter() - began) / 3
        done = len(wanted) - len(left)
        return (
            f"{text}; {done} are done; the others take at most about {_clock(len(left) * self.steps * seconds)} at "
            f"{1000 * seconds:.2g} ms a step, less where they stop early; each seed also probes a batch in {self.every}"
        )

    def notes(self) -> list[str]:
        """How to read the figures."""
        seeds = len(self.question.seeds)
        errors = f"over {seeds} seeds" if seeds > 1 else "over the probed batches of one seed (transfer has none)"
        return [
            f"Measured with {self.model.name}, its shared part; standard errors (after ±) {errors}.",
            "Transfer: the shared part learns from the row's task alone, the column's head from its own labels; 1 is "
            "what the column's own training gives, 0 a frozen random trunk; best losses on the validation rows.",
            f"Affinity: the share by which a step of plain gradient descent ({self.question.lr:g} times the gradient) "
            "for the row's task lowers the column's loss on the same batch.",
            f"Cosines: exact, of everything shared, in one of {self.every} batches of a training of all tasks.",
        ]


def plain(config: TrainConfig) -> TrainConfig:
    """The settings of a training without what several tasks or long runs need of it."""
    change = {"weighting": WeightingConfig(), "accumulate": 1, "windows": None, "keep_state": False}
    return config.model_copy(update={k: v for k, v in change.items() if k in type(config).model_fields})


def _probe_json(found: Probe) -> dict[str, Any]:
    return {
        "step": found.step,
        "affinity": _rows(found.affinity),
        "cosines": {group: _rows(matrix) for group, matrix in found.cosines.items()},
    }


def _rows(matrix: torch.Tensor) -> list[list[float | None]]:
    return [[v if math.isfinite(v) else None for v in row] for row in matrix.tolist()]


def _clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"

