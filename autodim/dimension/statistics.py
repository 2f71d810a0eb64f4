"""What strategies may know of the trained model, and how stable an allocation is. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import Budget
from autodim.dimension.entry import Entry
from autodim.dimension.factor import factorise, worth
from autodim.dimension.problem import Problem
from autodim.dimension.scores import Floats, spearman

SPECTRAL = ("spectral", "spectral_uniform", "spectral_refit", "spectral_tempered")  # scored by their moments


@dataclass(frozen=True, eq=False)
class Statistics:
    """Numbers about each table of the uniform model.

    Attributes:
        scores: per table D signed saliencies g, summed over all scored examples (and over slots that share it).
        magnitude: per table D squared norms of the columns, ||V_:j||^2.
        halves: `scores` from two disjoint halves of the scored batches, or None.
        rows: examples scored.
        extra: room for strategies with statistics of their own, by their name: `spectral` (slot -> Moments), and
            `spectral_halves`, two of them from disjoint halves.
        tasks: of several main tasks each one's own statistics, by name; the others here are of all together.
    """

    scores: Mapping[str, Floats] = field(default_factory=dict)
    magnitude: Mapping[str, Floats] = field(default_factory=dict)
    halves: tuple[Mapping[str, Floats], Mapping[str, Floats]] | None = None
    rows: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)
    tasks: Mapping[str, Statistics] = field(default_factory=dict)

    def half(self, number: int) -> Statistics:
        """The statistics of one half of the rows (magnitudes are of the weights, and stay)."""
        assert self.halves is not None
        extra = dict(self.extra)
        if "spectral_halves" in extra:
            extra["spectral"] = extra["spectral_halves"][number]
        tasks = {name: task.half(number) for name, task in self.tasks.items()}
        return replace(self, scores=self.halves[number], extra=extra, tasks=tasks)


@dataclass(frozen=True)
class Stability:
    """How much of an allocation is noise (METHODS 1.4).

    Attributes:
        spearman: rank correlation of |g| between two halves of the scored rows, -1 to 1; None if undefined. For
            spectral strategies of what each dimension of the cut is worth by either half.
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
    tables = list(problem.limits)
    found = [strategy(problem, budget, statistics.half(k)) for k in (0, 1)]
    one, other = (item_widths(problem, a) for a in found)
    if found[0].strategy in SPECTRAL and "spectral_halves" in statistics.extra:
        scores = [_worths(problem, statistics, k) for k in (0, 1)]
    else:
        scores = [np.abs(np.concatenate([half[t] for t in tables])) for half in statistics.halves]
    return Stability(spearman(*scores), float(np.mean([abs(one[t] - other[t]) for t in tables])))


def item_widths(problem: Problem, allocation: Allocation) -> dict[str, int]:
    """Width of each of the problem's tables (or of the blocks that stand for them)."""
    entries: dict[str, list[Entry]] = {}
    for e in allocation.entries:
        entries.setdefault(e.table, []).append(e)
    widths = {}
    for table in problem.limits:
        name, _, start, _ = problem.parents.get(table, (table, (), 0, 0))
        widths[table] = next(e.width for e in reversed(entries[name]) if e.start <= start)
    return widths


def _worths(problem: Problem, statistics: Statistics, half: int) -> Floats:
    """What the dimensions of the cut from all rows are worth by half of them."""
    everything, part = statistics.extra["spectral"], statistics.extra["spectral_halves"][half]
    return np.concatenate(
        [
            worth(factorise({s: everything[s] for s in c.slots}, problem.settings.ridge), {s: part[s] for s in c.slots})
            for c in problem.limits.values()
        ]
    )
