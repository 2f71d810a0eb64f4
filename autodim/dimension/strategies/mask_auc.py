"""Slot importance: the AUC that a slot carries."""

from __future__ import annotations

import numpy as np

from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import Budget
from autodim.dimension.problem import Problem
from autodim.dimension.statistics import Statistics
from autodim.dimension.strategies.assemble import best_dimensions, measured


def by_slot_importance(problem: Problem, budget: Budget, statistics: Statistics | None) -> Allocation:
    """Mask AUC: keeps the dimensions of the slots without which the AUC drops most (the traditional importance).

    A slot's importance a is the drop of AUC when it reads as its mean, at least 0; slots that share a table add up. It
    says nothing about single dimensions: each gets its share of the table's squared norm, `a ||V_:j||^2 / ||V||^2`, so
    that a table's dimensions are worth a in all and its largest columns go first.

    Raises:
        RunError: not measured.
        BudgetError: the smallest allocation does not fit.

    Cost: one evaluation of the model a slot.

    Differs from the paper: a heuristic without one paper; it is used to rank slots, and the split over dimensions is
    autodim's.
    """
    drops = measured(problem, statistics, "mask_auc", "the AUC drop of each masked slot")
    magnitude = {} if statistics is None else statistics.magnitude
    scores = {}
    for table, c in problem.limits.items():
        norms = np.asarray(magnitude[table], np.float64)
        total = norms.sum()
        share = norms / total if total > 0 else np.full(problem.common, 1 / problem.common)
        scores[table] = share * sum(max(float(drops[s]), 0.0) for s in c.slots)
    return best_dimensions(problem, budget, "mask_auc", scores, "the AUC drop of each masked slot")
