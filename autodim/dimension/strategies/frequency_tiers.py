"""Widths from a ladder, by how often the ids of a slot are seen."""

from __future__ import annotations

import numpy as np

from autodim.dimension.allocate import by_order
from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import Budget
from autodim.dimension.curves import Curve
from autodim.dimension.problem import Problem
from autodim.dimension.statistics import Statistics
from autodim.dimension.strategies.assemble import widths_only


def by_tiers(problem: Problem, budget: Budget, statistics: Statistics | None) -> Allocation:
    """Frequency tiers: slots whose ids are seen more often climb a ladder of widths (1, 4, 8, ... by default).

    Let f be the mean number of training occurrences of an id of the slot. A slot stands on the highest rung l of the
    ladder with `f >= t * l`: the thresholds are the rungs times one number t, which is solved for the budget. In other
    words the climbs (slot to rung l) are taken by falling f / l, ties by name, until one does not fit; then the
    later climbs that still fit are taken in the same order, so that no single further climb fits. Rungs above D are D;
    a rung that the limits do not allow is the next allowed width below it.

    Raises:
        BudgetError: the smallest allocation does not fit.

    Cost: none.

    Differs from the paper: a common heuristic without one paper; thresholds are usually set by hand.
    """
    curves, priorities, positions = [], [], []
    for table, c in problem.limits.items():
        rung: dict[int, int] = {}  # position -> the lowest rung that reaches it
        for width in sorted(min(w, problem.common) for w in problem.settings.ladder):
            rung.setdefault(c.position(width), width)
        rung.pop(0, None)
        use = np.array([0, *rung])
        positions.append(use)
        curves.append(Curve(table, c.widths[use], c.costs[use], np.zeros(len(use)), c.forced))
        frequency = max(problem.frequency(table), np.finfo(float).tiny * 1e9)  # unseen slots climb last, but climb
        priorities.append(frequency / np.array(list(rung.values()), dtype=np.float64))
    chosen = by_order(curves, priorities, budget, fill=True)
    note = [] if problem.counts is not None else ["no training counts: frequency taken as 1 / rows"]
    return widths_only(
        problem, budget, "frequency_tiers", [int(p[i]) for p, i in zip(positions, chosen, strict=True)], note
    )
