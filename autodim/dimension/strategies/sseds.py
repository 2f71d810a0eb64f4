"""SSEDS: one-shot saliency of dimensions."""

from __future__ import annotations

from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import Budget
from autodim.dimension.problem import Problem
from autodim.dimension.statistics import Statistics
from autodim.dimension.strategies.assemble import best_dimensions


def by_saliency(problem: Problem, budget: Budget, statistics: Statistics | None) -> Allocation:
    """SSEDS: keeps the dimensions on which the loss depends most (one pass over held-out rows).

    Qu et al., Single-shot Embedding Dimension Search in Recommender System, SIGIR 2022, arXiv 2204.03281:
    `s_ij = |g_ij| / sum |g|`, kept from the greatest down until the budget is spent.

    Raises:
        RunError: no saliencies.
        BudgetError: the smallest allocation does not fit.

    Cost: the scores are one forward and backward over the scored rows; allocating is a sort.

    Differs from the paper: dimensions rank by score per cost (`rank: ratio`; the paper's raw ranking is `rank: score`),
    budgets also in params and bytes, limits per slot, small tables stored whole. `preset: paper` undoes all of it.
    """
    scores = None if statistics is None else statistics.scores
    return best_dimensions(problem, budget, "sseds", scores, "saliencies of the trained model", statistics)
