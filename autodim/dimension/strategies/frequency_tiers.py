"""Widths from a ladder, by how often the ids of a slot are seen."""

from __future__ import annotations

import numpy as np

from autodim.config.sections.prune import TIERS
from autodim.dimension.allocate import by_order
from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import Budget
from autodim.dimension.curves import Curve
from autodim.dimension.problem import Problem
from autodim.dimension.statistics import Statistics
from autodim.dimension.strategies.assemble import widths_only
from autodim.errors import BudgetError


def by_tiers(problem: Problem, budget: Budget, statistics: Statistics | None) -> Allocation:
    """Frequency tiers: slots whose ids are seen more often climb a ladder of widths (1, 4, 8, ... by default).

    Let f be the mean number of training occurrences of an id of the slot. A slot stands on the highest rung l of the
    ladder with `f >= t * l`: the thresholds are the rungs times one number t, which is solved for the budget. In other
    words the climbs (slot to rung l) are taken by falling f / l, ties by name, until one does not fit; then the
    later climbs that still fit are taken in the same order, so that no single further climb fits. Rungs above D are D;
    a rung that the limits do not allow is the next allowed width below it.

    With `prune.thresholds` given, one for each rung, a slot stands on the highest rung l with `f >= threshold(l)`, and
    nothing is filled up. `nested` leaves the later climbs out.

    Raises:
        BudgetError: the smallest allocation does not fit, or the given thresholds cost more than the budget.

    Cost: none.

    Differs from the paper: a common heuristic without one paper; thresholds are usually set by hand.
    """
    if problem.settings.thresholds:
        return _given(problem, budget)
    ladder = problem.settings.ladder or TIERS
    curves, priorities, positions = [], [], []
    for table, c in problem.limits.items():
        rung: dict[int, int] = {}  # position -> the lowest rung that reaches it
        for width in sorted(min(w, problem.common) for w in ladder):
            rung.setdefault(c.position(width), width)
        rung.pop(0, None)
        use = np.array([0, *rung])
        positions.append(use)
        curves.append(Curve(table, c.widths[use], c.costs[use], np.zeros(len(use)), c.forced))
        frequency = max(problem.frequency(table), np.finfo(float).tiny * 1e9)  # unseen slots climb last, but climb
        priorities.append(frequency / np.array(list(rung.values()), dtype=np.float64))
    chosen = by_order(curves, priorities, budget, fill=not problem.settings.nested)
    note = [] if problem.counts is not None else ["no training counts: frequency taken as 1 / rows"]
    return widths_only(
        problem, budget, "frequency_tiers", [int(p[i]) for p, i in zip(positions, chosen, strict=True)], note
    )


def _given(problem: Problem, budget: Budget) -> Allocation:
    settings = problem.settings
    rungs = sorted(zip(settings.ladder or TIERS, settings.thresholds, strict=True))
    chosen = []
    for table, c in problem.limits.items():
        width = max((w for w, threshold in rungs if problem.frequency(table) >= threshold), default=0)
        chosen.append(c.position(min(width, problem.common)))
    spent = {t: int(c.costs[p]) for (t, c), p in zip(problem.limits.items(), chosen, strict=True)}
    total = sum(spent.values())
    if total > budget.amount:
        largest = ", ".join(f"{t} {cost:,}" for t, cost in sorted(spent.items(), key=lambda x: (-x[1], x[0]))[:5])
        raise BudgetError(
            f"prune.thresholds: the tiers cost {total:,} {budget.unit}; the budget {budget.asked} allows "
            f"{budget.amount:,}. Largest: {largest}.\nWays out:\n"
            f"  1. a budget of at least {total:,} {budget.unit}: prune.budget.amount={total}\n"
            "  2. higher thresholds, or none: they are then solved for the budget"
        )
    return widths_only(problem, budget, "frequency_tiers", chosen, ())
