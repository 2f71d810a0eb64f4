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
        optimizer: what the optimizers and clippers tell, by name; see `autodim.training.gauges`.
    """

    epoch: int
    step: int
    train_loss: float
    valid_auc: float
    valid_logloss: float
    lr: float
    optimizer: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON object; NaN and infinities become null, and `optimizer` is left out where it is empty."""
        return {k: _number(v) for k, v in vars(self).items() if k != "optimizer"} | (
            {"optimizer": {k: _number(v) for k, v in self.optimizer.items()}} if self.optimizer else {}
        )

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
    if math.isnan(point.valid_auc) or math.isnan(best.valid_auc):
        return point.valid_logloss < best.valid_logloss
    return point.valid_auc > best.valid_auc
