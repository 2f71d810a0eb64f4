"""One width for all slots, trained natively at that width."""

from __future__ import annotations

from dataclasses import replace

from autodim.dimension.allocation import Allocation, Entry
from autodim.dimension.budget import Budget
from autodim.dimension.problem import Problem
from autodim.dimension.statistics import Statistics
from autodim.dimension.strategies.assemble import allocation
from autodim.embedding.layout import uniform_layout
from autodim.errors import BudgetError


def at_one_width(problem: Problem, budget: Budget, statistics: Statistics | None) -> Allocation:
    """Uniform: the largest width that all slots can have, trained at it (the baseline that often wins).

    The largest w up to D with cost(all tables at w) <= budget, in multiples of `multiple_of` (or D itself). A native
    uniform model: its common width is w and it has no projections. Other limits do not apply.

    Raises:
        BudgetError: not even the smallest width fits.

    Cost: none.

    Differs from the paper: a baseline without one paper.
    """
    step = problem.settings.multiple_of
    widths = [w for w in range(problem.common, 0, -1) if w % step == 0 or w == problem.common]
    for width in widths:
        cost = replace(problem.cost, common=width)
        layout = uniform_layout(problem.slots, problem.tables, width)
        least = cost.total(layout)
        if least <= budget.amount:
            break
    else:
        share = f" ({least / budget.uniform:.4%} of the uniform model)" if budget.uniform else ""
        raise BudgetError(
            f"the budget {budget.asked} allows {budget.amount:,} {budget.unit}, but a uniform model of width "
            f"{widths[-1]} costs {least:,}.\nWays out:\n"
            f"  1. a budget of at least {least:,} {budget.unit}{share}: prune.budget.amount={least}\n"
            "  2. a strategy that gives slots different widths, such as sseds"
        )
    blocks = {b.table: b for b in layout.blocks}
    entries = [
        Entry(c.table, c.slots, 0, c.rows, width, cost=cost.of(blocks[c.table], len(c.slots)))
        for c in problem.limits.values()
    ]
    return allocation(problem, budget, "uniform", entries, common=width)
