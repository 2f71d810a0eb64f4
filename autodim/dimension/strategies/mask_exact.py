"""The brute force that one-shot scores stand in for."""

from __future__ import annotations

import numpy as np

from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import Budget
from autodim.dimension.problem import Problem
from autodim.dimension.statistics import Statistics
from autodim.dimension.strategies.assemble import best_dimensions, measured


def by_brute_force(problem: Problem, budget: Budget, statistics: Statistics | None) -> Allocation:
    """Mask exact: keeps the dimensions whose removal, one at a time, raises the loss most (the oracle of SSEDS).

    Qu et al., SIGIR 2022, arXiv 2204.03281, equation 4: tables x D evaluations instead of one pass. A dimension whose
    removal lowers the loss is worth nothing.

    Raises:
        RunError: not measured.
        BudgetError: the smallest allocation does not fit.

    Cost: tables x D evaluations of the model on the scored rows (`prune.rows` bounds them), said before they start.

    Differs from the paper: the paper takes the size of the change, here a gain from masking counts as 0; ranks like
    `sseds`, so that only the scores differ.
    """
    what = "the loss without each dimension"
    rises = measured(problem, statistics, "mask_exact", what)
    scores = {t: np.maximum(np.asarray(rises[t], np.float64), 0.0) for t in problem.limits}
    return best_dimensions(problem, budget, "mask_exact", scores, what)
