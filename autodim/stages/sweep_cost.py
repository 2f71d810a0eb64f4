"""What a sweep costs, against one epoch of training on the same machine at the same time."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch

from autodim.config.schema import Config
from autodim.data.batches import Order
from autodim.data.encoded import EncodedLog
from autodim.embedding.layout import uniform_layout
from autodim.stages.pretrain import build_log_network, log_rules
from autodim.stages.score import score
from autodim.stages.session import Session
from autodim.training.device import use_bf16
from autodim.training.network import Network
from autodim.training.step import Step

SHARE = 0.1  # of the log's rows that the timed pass reads


@dataclass
class Cost:
    """Seconds, by what they were spent on; None: not measured.

    Attributes:
        cuts: points that were cut without a retrain.
        cut_seconds: allocating and cutting them. evaluate_seconds: measuring them, on `rows` rows each.
        score_seconds: one scoring pass, over `score_rows` rows. epoch_seconds: one epoch of training (no evaluation).
    """

    cuts: int = 0
    cut_seconds: float = 0.0
    evaluate_seconds: float = 0.0
    rows: int = 0
    score_seconds: float | None = None
    score_rows: int | None = None
    epoch_seconds: float | None = None

    @property
    def seconds(self) -> float:
        """Of everything but the epoch."""
        return self.cut_seconds + self.evaluate_seconds + (self.score_seconds or 0.0)

    def to_json(self) -> dict[str, Any]:
        share = None if not self.epoch_seconds else self.seconds / self.epoch_seconds
        return {**asdict(self), "seconds": self.seconds, "of_an_epoch": share}

    def words(self) -> str:
        """One line for a person."""
        text = (
            f"cost: {self.cuts} cuts {self.cut_seconds:.2f} s, their evaluations on {self.rows:,} rows "
            f"{self.evaluate_seconds:.2f} s"
        )
        if self.score_seconds is not None:
            text += f", the scoring pass over {self.score_rows:,} rows {self.score_seconds:.2f} s"
        if self.epoch_seconds:
            text += (
                f"; together {self.seconds:.2f} s, {self.seconds / self.epoch_seconds:.2f} of one training epoch "
                f"({self.epoch_seconds:.2f} s)"
            )
        return text


def time_pass_and_epoch(cost: Cost, network: Network, log: EncodedLog, config: Config, session: Session) -> None:
    """Time a scoring pass over a tenth of the log (held-out rows, as far as there are so many) and one epoch."""
    valid, train = log.part("valid"), log.part("train")
    total = sum(len(log.part(name)) for name in ("train", "valid", "test"))
    cost.score_rows = min(len(valid), max(1, round(SHARE * total)))
    began = time.perf_counter()
    score(network, valid, session, cost.score_rows, config.prune.curvature, tasks=log.tasks)
    cost.score_seconds = time.perf_counter() - began
    fresh = build_log_network(config.model, uniform_layout(log.slots, log.tables, config.model.width), log, 0)
    fresh.to(session.device).train()
    rules = log_rules(fresh, config.pretrain, log)
    bf16 = use_bf16(config.pretrain.bf16, session.device)
    step = Step(
        fresh, rules.optimizers, None, rules.perturbation, rules.clippers,
        missing=bool(torch.isnan(train.labels).any()), bf16=bf16, tasks=log.tasks,
    )  # fmt: skip
    order = Order(len(train), config.pretrain.batch, 0)
    session.progress.start("sweep: one epoch, timed", order.steps_per_epoch, unit="steps")
    began = time.perf_counter()
    for number in range(order.steps_per_epoch):
        loss = step(train.batch(order.rows(0, number), session.device), number)
        if number % 50 == 0:
            session.progress.update(number)
            session.stop.check()
    float(loss.sum())  # waits for the device
    cost.epoch_seconds = time.perf_counter() - began
