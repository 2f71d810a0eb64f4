"""Spectral cuts whose allocation lies between that of the spectrum and an even one."""

from __future__ import annotations

import numpy as np

from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import Budget
from autodim.dimension.problem import Problem
from autodim.dimension.statistics import Statistics
from autodim.dimension.strategies.assemble import by_rank
from autodim.dimension.strategies.spectral import assembled, factors_of, with_bias


def by_tempered_spectrum(problem: Problem, budget: Budget, statistics: Statistics | None) -> Allocation:
    """Spectral tempered: the basis of `spectral`, gains lambda^gamma (`prune.gamma`; 1 is `spectral`, near 0 even).

    The spectrum of a slot says what its dimensions are worth to this model without a retrain. What a retrain recovers
    flattens it: small lambdas count for more than they seem.

    Raises:
        RunError: no spectral statistics.
        BudgetError: the smallest allocation does not fit.

    Cost: as `spectral`.

    Differs from the paper: autodim's own, no paper.
    """
    problem = with_bias(problem)
    factors = factors_of(problem, statistics, "spectral_tempered")
    largest = max((float(f.lambdas.max()) for f in factors.values()), default=0.0) or 1.0
    gains = {
        t: np.concatenate(([0.0], np.cumsum((factors[t].lambdas / largest) ** problem.settings.gamma)))
        for t in problem.limits
    }
    chosen, rule = by_rank(problem, gains, budget)
    return assembled(problem, budget, "spectral_tempered", chosen, factors, rule)
