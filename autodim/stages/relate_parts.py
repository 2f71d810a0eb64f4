"""The trainings that relatedness is measured by, each kept in a file of its own once it is done: RUN/relate/parts/."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from autodim import artifact
from autodim.config.schema import TrainConfig
from autodim.config.sections.train import WatchConfig
from autodim.config.sections.weighting import WeightingConfig
from autodim.data.batches import Order
from autodim.data.encoded import EncodedLog
from autodim.embedding.layout import uniform_layout
from autodim.files import finite
from autodim.multitask.alone import measured
from autodim.multitask.relatedness import Probe, ProbedStep, SharedFrom, own_parameters
from autodim.report.related import SeedRecord, intervals
from autodim.stages.holdout import inputs_of
from autodim.stages.pretrain import build_log_network, log_rules, run_result
from autodim.stages.run import Run
from autodim.stages.session import Session
from autodim.training.device import use_bf16
from autodim.training.feed import fits
from autodim.training.history import Point
from autodim.training.loop import Training
from autodim.training.metrics import Metrics
from autodim.training.network import Network
from autodim.training.seeds import derive

PROBES = 100  # batches of a joint training that are measured where the caller does not say
VERSION = 2  # of what a part holds


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


class OfOneTask(Training):
    """A training that ends with the weights at the best validation loss of one task, and stops when it no longer falls.

    Attributes:
        source: the task's position.
    """

    source: int = 0

    def _judged(self, found: Sequence[Metrics]) -> tuple[dict[str, dict[str, float | int | None]], float]:
        return super()._judged(found)[0], -found[self.source].loss


class OfEachTask(Training):
    """A training that goes on until no task's validation loss has fallen for `patience` evaluations."""

    def _finished(self) -> bool:
        if self.stopped or not self.points:
            return self.stopped
        losses = [[valid_loss(p.tasks[task.name]) for p in self.points] for task in self.step.tasks]
        return all(len(one) - 1 - one.index(min(one)) >= self.config.patience for one in losses)


def valid_loss(metrics: dict[str, float | int | None]) -> float:
    """The loss that is trained, of an evaluation's metrics (`Metrics.to_json`); infinite where there is none."""
    found = metrics.get("error", metrics.get("logloss"))
    return math.inf if found is None else float(found)


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
        """Best validation losses of the tasks, and of the joint training its probes.

        Transfer has two trainings: the shared part from its task; then it is frozen, and fresh heads learn. So the
        heads of all shared parts, the control's too, have had the same training; and they are not those that the
        shared part has learned to suit, which would favour its own task.
        """
        network = self.network(name, seed)
        if name == "joint":
            step = self.step(network, None).probing(self.every, self.question.lr)
        else:
            if name != "control":
                source = int(name.removeprefix("from-"))
                self.fit(network, self.step(network, SharedFrom(source, own_parameters(network))), seed, source)
            fresh = self.network(name, derive(seed, "heads"))
            with torch.no_grad():
                for mine, drawn in zip(own_parameters(network), own_parameters(fresh), strict=True):
                    for parameter, value in zip(mine, drawn, strict=True):
                        parameter.copy_(value)
            step = self.step(network, SharedFrom(None, own_parameters(network)))
        title = {"control": "heads on a random trunk", "joint": "all tasks"}.get(name, "heads on that")
        points = self.fit(network, step, seed, None, title)
        losses = [min(valid_loss(p.tasks[task]) for p in points) for task in self.log.labels]
        return {"losses": losses, "probes": [_probe_json(p) for p in step.probes]}

    def fit(
        self, network: Network, step: ProbedStep, seed: int, source: int | None, title: str = ""
    ) -> tuple[Point, ...]:
        """One training to its end: of one task, or of each."""
        device, train, valid = self.session.device, self.log.part("train"), self.log.part("valid")
        if device.type != "cpu":
            train, valid = (part.to(device) if fits(part, device) else part for part in (train, valid))
        made = OfEachTask if source is None else OfOneTask
        training = made(network, step, (train, valid), self.config, derive(seed, "relate"), None, self.schedules)
        if isinstance(training, OfOneTask):
            training.source = source or 0
            title = f"shared part from {self.log.labels[training.source]}"
        return training.run(self.session.progress, f"relate: seed {seed}, {title}", self.session.stop).points

    def network(self, name: str, seed: int) -> Network:
        """A fresh network."""
        log, model = self.log, self.model
        if name == "control":  # fresh tables are so short that their features would hardly depend on the row
            std = max(model.init_std, model.width**-0.5)
            model = model.model_copy(update={"init_std": std})
        layout = uniform_layout(log.slots, log.tables, model.width)
        return build_log_network(model, layout, log, derive(seed, "relate")).to(self.session.device)

    def step(self, network: Network, weighting: SharedFrom | None) -> ProbedStep:
        """What trains it, with fresh optimizers."""
        rules = log_rules(network, self.config, self.log)
        self.schedules = rules.schedules
        return ProbedStep(
            network,
            rules.optimizers,
            weighting,
            perturbation=rules.perturbation,
            clippers=rules.clippers,
            missing=bool(torch.isnan(self.log.part("train").labels).any()),
            bf16=use_bf16(self.config.bf16, self.session.device),
            tasks=self.log.tasks,
        )

    def cost(self) -> str:
        """What is about to be spent, in a sentence; times a few steps."""
        tasks, seeds = len(self.log.labels), len(self.question.seeds)
        wanted = [(name, seed) for seed in self.question.seeds for name in self.names()]
        left = [one for one in wanted if not self.path(*one).is_file()]
        text = (
            f"relate: {seeds * (2 * tasks + 2)} trainings ({seeds} seeds x ({tasks} shared parts and the heads on "
            "each, heads on a random one, all together)), each of at most "
            f"{self.steps:,} steps of {self.config.batch:,} rows"
        )
        if not left:
            return f"{text}; all are done"
        step = self.step(self.network("joint", 0), None)
        train = self.log.part("train")
        order = Order(len(train), self.config.batch, 0)
        began = time.perf_counter()
        for k in range(4):
            if k == 1:
                began = time.perf_counter()
            step(train.batch(order.rows(0, k % order.steps_per_epoch), self.session.device), k)
        seconds = (time.perf_counter() - began) / 3
        count = sum(2 if name.startswith("from-") else 1 for name, _ in left)
        done = seeds * (2 * tasks + 2) - count
        return (
            f"{text}; {done} are done; the others take at most about {_clock(count * self.steps * seconds)} at "
            f"{1000 * seconds:.2g} ms a step, less where they stop early; each seed also probes a batch in {self.every}"
        )

    def notes(self) -> list[str]:
        """How to read the figures."""
        return [
            f"Measured with {self.model.name}, its shared part; {intervals(len(self.question.seeds))}.",
            "Transfer: the shared part learns from the row's task alone and is frozen, then the column's head learns "
            "from its own labels; 1 is what a shared part from the column's task gives, 0 a random one; best losses on "
            "the validation rows.",
            f"Affinity: the share by which a step of plain gradient descent ({self.question.lr:g} times the gradient) "
            "for the row's task lowers the column's loss on the same batch.",
            f"Cosines: exact, of everything shared, in one of {self.every} batches of a training of all tasks.",
        ]


def plain(config: TrainConfig) -> TrainConfig:
    """The settings of a training without what would set tasks against each other, or goes back to checkpoints."""
    change = {
        "weighting": WeightingConfig(),
        "plateau": 1.0,  # it looks at one task
        "accumulate": 1,
        "windows": None,
        "alternate": "never",  # probes compare all tasks on one batch
        "watch": WatchConfig(k=1e6),  # numbers that are not finite still end it; a jump of a loss is no news here
        "keep_state": False,
    }
    return config.model_copy(update=change)


def _probe_json(found: Probe) -> dict[str, Any]:
    return {
        "step": found.step,
        "affinity": finite(found.affinity.tolist()),
        "cosines": {group: finite(matrix.tolist()) for group, matrix in found.cosines.items()},
    }


def _clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
