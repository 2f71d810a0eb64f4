"""Widths from a file."""

from __future__ import annotations

from dataclasses import replace

from autodim.dimension.allocation import Allocation, read_widths
from autodim.dimension.budget import Budget
from autodim.dimension.problem import Problem
from autodim.dimension.statistics import Statistics
from autodim.errors import BudgetError, ConfigError


def from_file(problem: Problem, budget: Budget, statistics: Statistics | None) -> Allocation:
    """Manual: the widths of a file, `prune.widths`, checked against the budget.

    Raises:
        ConfigError: no file given, or one that does not fit the model.
        BudgetError: the file's widths cost more than the budget.

    Cost: none.

    Differs from the paper: no paper.
    """
    path = problem.settings.widths
    if path is None:
        raise ConfigError("prune.strategy manual needs a widths file: set prune.widths")
    found = read_widths(path, *problem.whole, problem.common, problem.cost)
    if found.spent > budget.amount:
        by_cost = sorted(found.entries, key=lambda e: (-e.cost, e.table))[:5]
        largest = ", ".join(f"{e.table} (width {e.width}) {e.cost:,}" for e in by_cost)
        raise BudgetError(
            f"{path}: its widths cost {found.spent:,} {budget.unit}; the budget {budget.asked} allows "
            f"{budget.amount:,}. Largest: {largest}.\nWays out:\n"
            f"  1. a budget of at least {found.spent:,} {budget.unit}: prune.budget.amount={found.spent}\n"
            "  2. smaller widths in the file"
        )
    return replace(found, strategy="manual", asked=budget.amount, budget=budget.asked)
