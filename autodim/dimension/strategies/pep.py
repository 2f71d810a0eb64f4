"""Widths from the entries that learned thresholds keep."""

from __future__ import annotations

import numpy as np

from autodim.dimension.allocate import by_order
from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import Budget
from autodim.dimension.problem import Problem
from autodim.dimension.statistics import Statistics
from autodim.dimension.strategies.assemble import measured, widths_only


def by_thresholds(problem: Problem, budget: Budget, statistics: Statistics | None) -> Allocation:
    """PEP: widths are the kept entries a row of a training whose embeddings pass learned soft thresholds.

    Liu et al., Learnable Embedding Sizes for Recommender Systems, ICLR 2021, arXiv 2101.07577. An entry is kept where
    `|V| > g(s)`. All thresholds move together until the budget holds: a table gets another dimension while its kept
    entries, divided by its rows, pass the middle to it.

    Raises:
        RunError: not measured.
        BudgetError: the smallest allocation does not fit.

    Cost: one training with thresholds, `prune.pep`.

    Differs from the paper: the paper keeps single entries (sparse tables) of a training that runs until the budget is
    met, and trains them again from their first values; here whole dimensions are kept, the budget is met by one shift
    of all thresholds, thresholds start at -6 and not at -15 (whose gradient vanishes in Adam's epsilon), and the
    retrain starts from the pretrained model.
    """
    margins = measured(problem, statistics, "pep", "a training with learned thresholds")
    curves, priorities = [], []
    for table, c in problem.limits.items():
        middles = c.nominal[1:] + c.nominal[:-1]  # in half dimensions: their ranks are measured
        curves.append(c.curve(np.zeros(len(c.widths))))
        # margins lie above -1; what the thresholds would not keep is taken last, but taken
        priorities.append(np.maximum(np.asarray(margins[table])[middles - 1] + 1.0, np.finfo(float).tiny))
    fill = not problem.settings.nested
    return widths_only(problem, budget, "pep", by_order(curves, priorities, budget, fill=fill), ())
