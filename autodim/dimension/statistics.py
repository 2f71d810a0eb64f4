"""What strategies may know of the trained model, and how stable an allocation is. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import Budget
from autodim.dimension.problem import Problem
from autodim.dimension.scores import Floats, spearman


@dataclass(frozen=True, eq=False)
class Statistics:
    """Numbers about each table of the uniform model.

    Attributes:
        scores: per table D signed saliencies g, summed over all scored examples (and over slots that share it).
        magnitude: per table D squared norms of the columns, ||V_:j||^2.
        halves: `scores` from two disjoint halves of the scored batches, or None.
        rows: examples scored.
        extra: room for strategies with statistics of their own, by their name.
    """

    scores: Mapping[str, Floats] = field(default_factory=dict)
    magnitude: Mapping[str, Floats] = field(default_factory=dict)
    halves: tuple[Mapping[str, Floats], Mapping[str, Floats]] | None = None
    rows: int = 0
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Stability:
    """How much of an allocation is noise (METHODS 1.4).

    Attributes:
        spearman: rank correlation of |g| between two halves of the scored rows, -1 to 1; None if undefined.
        width_difference: mean |d_i - d_i'| over tables, between the allocations of the two halves.
    """

    spearman: float | None
    width_difference: float


def stability(
    strategy: Callable[[Problem, Budget, Statistics | None], Allocation],
    problem: Problem,
    budget: Budget,
    statistics: Statistics,
) -> Stability | None:
    """Allocates once from each half of the scored rows and compares; None where there are no halves or no slots.

    Cost: two allocations; no pass over data.
    """
    if statistics.halves is None or not problem.limits:
        return None
    first, second = statistics.halves
    tables = list(problem.limits)
    both = (np.abs(np.concatenate([half[t] for t in tables])) for half in (first, second))
    one, other = (
        {e.table: e.width for e in strategy(problem, budget, replace(statistics, scores=half)).entries}
        for half in (first, second)
    )
    return Stability(spearman(*both), float(np.mean([abs(one[t] - other[t]) for t in tables])))
