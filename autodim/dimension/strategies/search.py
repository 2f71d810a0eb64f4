"""Widths by many short trainings."""

from __future__ import annotations

from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import Budget
from autodim.dimension.problem import Problem
from autodim.dimension.statistics import Statistics
from autodim.dimension.strategies.assemble import by_weights, measured, widths_only


def by_trials(problem: Problem, budget: Budget, statistics: Statistics | None) -> Allocation:
    """Search: the widths of the best of many short trainings, proposed at random or by TPE (the expensive baseline).

    A proposal is one weight a table; its widths are the largest multiple of the weights that fits the budget, so every
    trial is at the budget.

    Raises:
        RunError: not measured.
        BudgetError: the smallest allocation does not fit.

    Cost: `prune.search.trials` trainings of `prune.search.epochs` epochs.

    Differs from the paper: a baseline without one paper (TPE: Bergstra et al. 2011, through Optuna).
    """
    weights = measured(problem, statistics, "search", "the trials of a search over widths")
    return widths_only(problem, budget, "search", by_weights(problem, weights, budget), ())
