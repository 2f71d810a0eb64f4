"""What a training leaves beside its weights: its evaluations, the best of them, and what the watch saw."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from autodim.training.watch import Event


@dataclass(frozen=True)
class Point:
    """One evaluation during training.

    Attributes:
        lr: rate of the first optimizer (the tables', where there are any) at the next step.
        valid_auc, valid_logloss: of the first task; NaN where it is a regression.
        optimizer: what the optimizers, clippers and the weighting tell, by name; see `autodim.training.gauges`.
        tasks: per label its metrics on valid (`Metrics.to_json`); empty where one binary label is all.
        score: what the best evaluation has most of; NaN (one class in valid) leaves the choice to the log loss.
    """

    epoch: int
    step: int
    train_loss: float
    valid_auc: float
    valid_logloss: float
    lr: float
    optimizer: dict[str, float] = field(default_factory=dict)
    tasks: dict[str, dict[str, float | int | None]] = field(default_factory=dict)
    score: float = math.nan

    def to_json(self) -> dict[str, Any]:
        """A JSON object; NaN and infinities become null; `optimizer` is left out where it is empty, `tasks` and
        `score` where the AUC of one binary label says it all."""
        found: dict[str, Any] = {
            k: _number(v) for k, v in vars(self).items() if k not in ("optimizer", "tasks", "score")
        }
        if self.optimizer:
            found["optimizer"] = {k: _number(v) for k, v in self.optimizer.items()}
        if self.tasks:
            found |= {"tasks": self.tasks, "score": _number(self.score)}
        return found

    @staticmethod
    def from_json(value: dict[str, Any]) -> Point:
        return Point(
            epoch=value["epoch"],
            step=value["step"],
            **{
                k: math.nan if value[k] is None else value[k]
                for k in ("train_loss", "valid_auc", "valid_logloss", "lr")
            },
            optimizer={k: math.nan if v is None else v for k, v in value.get("optimizer", {}).items()},
            tasks=value.get("tasks", {}),
            score=math.nan if (score := value.get("score", value["valid_auc"])) is None else score,
        )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class FitResult:
    """How a training went.

    Attributes:
        points: its evaluations. best: the one whose weights were kept.
        seconds: of this process. steps: updates done.
        events: what the watch saw.
    """

    points: tuple[Point, ...]
    best: Point
    seconds: float
    steps: int
    events: tuple[Event, ...] = ()


def better(point: Point, best: Point) -> bool:
    """Whether an evaluation is better than the best so far, by score; by log loss where there is none."""
    if math.isnan(point.score) or math.isnan(best.score):
        return point.valid_logloss < best.valid_logloss
    return point.score > best.score


def best_words(point: Point) -> str:
    """An evaluation in a few words: `AUC 0.8012`, or its score where the first task is a regression."""
    if math.isnan(point.valid_auc) and point.tasks:
        return f"score {point.score:.4f}"
    return f"AUC {point.valid_auc:.4f}"
