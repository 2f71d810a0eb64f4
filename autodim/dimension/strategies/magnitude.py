"""Magnitude pruning of dimensions."""

from __future__ import annotations

from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import Budget
from autodim.dimension.problem import Problem
from autodim.dimension.statistics import Statistics
from autodim.dimension.strategies.assemble import best_dimensions


def by_magnitude(problem: Problem, budget: Budget, statistics: Statistics | None) -> Allocation:
    """Magnitude: keeps the dimensions with the largest columns, ||V_:j||^2, normalised to sum 1 (no data needed).

    The classical baseline; also what SSEDS degenerates into on converged training rows with L2 weight decay.

    Raises:
        RunError: no magnitudes.
        BudgetError: the smallest allocation does not fit.

    Cost: one pass over the tables.

    Differs from the paper: a baseline without one paper; ranks like `sseds`, so that only the scores differ.
    """
    scores = None if statistics is None else statistics.magnitude
    return best_dimensions(problem, budget, "magnitude", scores, "squared norms of the columns", statistics)
