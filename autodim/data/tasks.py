"""What a model learns from a column of labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Task:
    """One label as a task.

    Attributes:
        name: the label's.
        kind: binary: the logit's sigmoid is the probability of 1. regression: the model's number is in units of the
            training rows' standard deviation, from their mean.
        role: auxiliary tasks are trained, but neither predicted nor counted in the scoring of dimensions.
        mean, std: of the training rows, std above 0; 0 and 1 where the task is binary.
        rate: the share of ones among the training rows; None for a regression, and where no row has the label.
    """

    name: str
    kind: Literal["binary", "regression"] = "binary"
    role: Literal["main", "auxiliary"] = "main"
    mean: float = 0.0
    std: float = 1.0
    rate: float | None = None
