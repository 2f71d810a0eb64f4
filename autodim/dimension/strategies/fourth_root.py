"""Widths as the fourth root of the number of ids."""

from __future__ import annotations

from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import Budget
from autodim.dimension.problem import Problem
from autodim.dimension.statistics import Statistics
from autodim.dimension.strategies.assemble import widths_only
from autodim.dimension.strategies.power_rule import scaled


def by_fourth_root(problem: Problem, budget: Budget, statistics: Statistics | None) -> Allocation:
    """Fourth root: width = base * ids^0.25, base solved for the budget (the `auto` of CTR libraries, base 6).

    The rule of thumb of the TensorFlow guides; DeepCTR and torch-rechub use `6 * n^0.25`. The widths that the rule
    would give without a budget stand in the notes.

    Raises:
        BudgetError: the smallest allocation does not fit.

    Cost: none.

    Differs from the paper: a rule without one paper; the base is solved for the budget as in `power_rule`, and widths
    end at D.
    """
    chosen = scaled(problem, budget, lambda rows: rows**0.25)
    plain = ", ".join(f"{s} {int(6 * c.rows**0.25)}" for c in problem.limits.values() for s in c.slots)
    return widths_only(problem, budget, "fourth_root", chosen, [f"without a budget, 6 * ids^0.25: {plain}"])
