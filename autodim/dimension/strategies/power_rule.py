"""Widths as a power of the number of ids."""

from __future__ import annotations

from collections.abc import Callable

from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import Budget
from autodim.dimension.problem import Problem
from autodim.dimension.statistics import Statistics
from autodim.dimension.strategies.assemble import by_weights, widths_only


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

    Returns:
        Per table the position of its width; see `by_weights`.
    """
    return by_weights(problem, {t: shape(max(c.rows, 1)) for t, c in problem.limits.items()}, budget)
