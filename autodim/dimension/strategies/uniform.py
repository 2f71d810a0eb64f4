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

    The largest w up to D with cost(all tables at w) <= budget, in multiples of `multiple_of` and on the `ladder` (or D
    itself). A native uniform model: its common width is w and it has no projections. Other limits do not apply.

    Raises:
        BudgetError: not even the smallest width fits.

    Cost: none.

    Differs from the paper: a baseline without one paper.
    """
    return _at_one_width(problem, budget, "uniform")


def at_one_width_int8(problem: Problem, budget: Budget, statistics: Statistics | None) -> Allocation:
    """Uniform int8: the largest width that all slots can have, trained at it and served in rows of 8 bits.

    As `uniform`, with tables in row-wise int8 (a byte a number and 4 bytes a row): with a budget in serving_bytes the
    plain answer, often hard to beat. Other units do not see the precision.

    Raises:
        BudgetError: not even the smallest width fits.

    Cost: none.

    Differs from the paper: a baseline without one paper.
    """
    return _at_one_width(replace(problem, cost=replace(problem.cost, precision="int8")), budget, "uniform_int8")


def _at_one_width(problem: Problem, budget: Budget, strategy: str) -> Allocation:
    step, ladder = problem.settings.multiple_of, problem.settings.ladder
    widths = [
        w
        for w in range(problem.common, 0, -1)
        if w == problem.common or (w % step == 0 and (ladder is None or w in ladder))
    ]
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
        Entry(
            c.table,
            c.slots,
            0,
            c.rows,
            width,
            cost=cost.of(blocks[c.table], len(c.slots)),
            precision=cost.precision,
        )
        for c in problem.limits.values()
    ]
    return allocation(problem, budget, strategy, entries, common=width)
