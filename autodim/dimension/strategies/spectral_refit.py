"""Spectral cuts whose projections are fitted again once the cut is made."""

from __future__ import annotations

from dataclasses import replace

from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import Budget
from autodim.dimension.problem import Problem
from autodim.dimension.statistics import Statistics
from autodim.dimension.strategies.spectral import by_spectrum


def by_spectrum_refitted(problem: Problem, budget: Budget, statistics: Statistics | None) -> Allocation:
    """Spectral refit: the widths of `spectral`; the cut then solves its projections and biases anew, all at once.

    autodim's own (METHODS 1.2: projections re-fitted in closed form after the cut). `spectral` cuts each slot as if the
    others stayed whole; one Gauss-Newton step over the scored rows makes up for what they lose together, see
    `stages.refit`.

    Raises:
        RunError: no spectral statistics.
        BudgetError: the smallest allocation does not fit.

    Cost: as `spectral`, and at each cut one forward and T backwards over the scored rows and U^2 products a row for the
    U numbers of the projections and biases.

    Differs from the paper: autodim's own, no paper.
    """
    return replace(by_spectrum(problem, budget, statistics), strategy="spectral_refit")
