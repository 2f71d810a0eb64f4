"""What a report says of several tasks: which slots serve which, how gates mix experts, weights and losses over time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from autodim.report import numbers

Series = tuple[tuple[float, float], ...]  # (step, value)

APART = 10.0  # times that the largest loss of a task may be the smallest


@dataclass(frozen=True)
class TaskShares:
    """Which slots serve which task.

    Attributes:
        tasks: T names. slots: name -> T shares of what all slots are worth to the task, each 0..1.
        lost: T shares of that worth that the cut is predicted to lose; empty where that is unknown.
        measure: `spectral` or `saliency`. combine: `sum` or `worst`.
    """

    tasks: tuple[str, ...]
    slots: Mapping[str, tuple[float, ...]]
    lost: tuple[float, ...] = ()
    measure: str = "saliency"
    combine: str = "sum"


@dataclass(frozen=True)
class GateRow:
    """One gate over the test rows: mean and spread of the weight of each of its experts."""

    name: str
    level: int
    experts: tuple[str, ...]
    mean: tuple[float, ...]
    spread: tuple[float, ...]


@dataclass(frozen=True)
class TaskCourse:
    """One training of several tasks.

    Attributes:
        weights, losses: task -> its weight, and its loss before any weight, over the steps.
        conflict: share of the pairs of tasks whose gradients point apart. cosine: mean of that of all pairs.
    """

    weights: Mapping[str, Series] = field(default_factory=dict)
    losses: Mapping[str, Series] = field(default_factory=dict)
    conflict: Series = ()
    cosine: Series = ()


@dataclass(frozen=True)
class TaskReport:
    """Everything about several tasks; `gates_of` names the model whose gates are shown."""

    shares: TaskShares | None = None
    gates: tuple[GateRow, ...] = ()
    gates_of: str = ""
    courses: Mapping[str, TaskCourse] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def loss_warning(stage: str, losses: Mapping[str, Series]) -> str:
    """That the tasks' losses are of different size, where their means over a training differ more than ten times."""
    means = {task: sum(v for _, v in s) / len(s) for task, s in losses.items() if s}
    means = {task: value for task, value in means.items() if math.isfinite(value) and value > 0}
    if len(means) < 2:
        return ""
    large, small = max(means, key=lambda t: means[t]), min(means, key=lambda t: means[t])
    times = means[large] / means[small]
    if times <= APART:
        return ""
    return (
        f"{stage}: the loss of {large} ({numbers.ratio(means[large])}) is {times:,.0f} times that of {small} "
        f"({numbers.ratio(means[small])}): a plain sum of losses serves {large} first; see the settings "
        "`weighting` and `prune.tasks`."
    )
