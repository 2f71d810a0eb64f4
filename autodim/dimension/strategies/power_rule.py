"""Widths as a power of the number of ids."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from autodim.dimension.allocate import by_order
from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import Budget
from autodim.dimension.problem import Problem
from autodim.dimension.statistics import Statistics
from autodim.dimension.strategies.assemble import widths_only


def by_power(problem: Problem, budget: Budget, statistics: Statistics | None) -> Allocation:
    """Power rule: width = base * (1 / ids)^alpha, base solved for the budget (mixed dimensions).

    Ginart et al., Mixed Dimension Embeddings with Application to Memory-Efficient Recommendation Systems, 2019,
    arXiv 1909.11810: `d_i = base * p_i^alpha`, `p_i = 1 / n_i`, `prune.alpha` from 0 (uniform) to 1.

    Raises:
        BudgetError: the smallest allocation does not fit.

    Cost: none.

    Differs from the paper: the base is solved for the budget and not set; widths are rounded to the nearest width
    that the limits allow (the paper: powers of two, at least 1); what the rule leaves of the budget is filled with its
    next steps, see `scaled`.
    """
    alpha = problem.settings.alpha
    chosen = scaled(problem, budget, lambda rows: rows**-alpha)
    return widths_only(problem, budget, "power_rule", chosen, ())


def scaled(problem: Problem, budget: Budget, shape: Callable[[int], float]) -> list[int]:
    """The largest `base` for which the widths `base * shape(n)`, rounded to the nearest allowed, fit the budget.

    Widths change only where base * shape(n) passes the middle between two allowed widths, so base is solved exactly
    by its breakpoints: these are taken in ascending order (ties by name) until one does not fit; then the later
    ones that still fit, in the same order, so that no single further step fits.

    Returns:
        Per table the position of its width.
    """
    curves, priorities = [], []
    for c in problem.limits.values():
        middles = (c.nominal[1:] + c.nominal[:-1]) / 2
        curves.append(c.curve(np.zeros(len(c.widths))))
        priorities.append(shape(max(c.rows, 1)) / middles)  # 1 / the base at which the step is taken
    return by_order(curves, priorities, budget, fill=True)
