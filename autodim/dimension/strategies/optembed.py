"""Widths by evolution over a supernet."""

from __future__ import annotations

from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import Budget
from autodim.dimension.problem import Problem
from autodim.dimension.statistics import Statistics
from autodim.dimension.strategies.assemble import by_weights, measured, widths_only


def by_supernet(problem: Problem, budget: Budget, statistics: Statistics | None) -> Allocation:
    """OptEmbed's manner: a supernet trained at random prefix widths judges widths at the budget; evolution finds them.

    Lyu et al., OptEmbed: Learning Optimal Embedding Table for Click-through Rate Prediction, CIKM 2022,
    arXiv 2208.04482, its second stage.

    Raises:
        RunError: not measured.
        BudgetError: the smallest allocation does not fit.

    Cost: one training, shared by budgets, and some hundred evaluations, `prune.optembed`.

    Differs from the paper: the number of rows is not searched (no thresholds on ids), width 0 is a choice, all
    candidates lie at the budget, and the retrain starts from the pretrained model.
    """
    weights = measured(problem, statistics, "optembed", "a search over a supernet")
    return widths_only(problem, budget, "optembed", by_weights(problem, weights, budget), ())
