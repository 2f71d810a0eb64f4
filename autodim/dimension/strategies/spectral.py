"""Spectral cuts: along the basis that the loss prefers, and not along the axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np

from autodim.dimension.allocate import Rule, check_minimum
from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import Budget
from autodim.dimension.entry import Entry, short, shorts
from autodim.dimension.factor import Factors, factorise
from autodim.dimension.limits import choices
from autodim.dimension.moments import Moments
from autodim.dimension.problem import Problem
from autodim.dimension.rounding import spectral_losses
from autodim.dimension.statistics import Statistics
from autodim.dimension.strategies.assemble import allocation, by_rank, entry
from autodim.errors import RunError


def by_spectrum(problem: Problem, budget: Budget, statistics: Statistics | None) -> Allocation:
    """Spectral: the dimensions that the loss needs most, in the basis that serves it best (one pass, no training).

    autodim's own (METHODS 1.2): each table is factored along the eigenvectors of `H^{1/2} C H^{1/2}`; the eigenvalues
    are the gains of its dimensions, and the allocator takes the greatest gain per cost (`rank: score`: the greatest).
    A slot that gets nothing reads its mean.

    Raises:
        RunError: no spectral statistics.
        BudgetError: the smallest allocation does not fit.

    Cost: the statistics are one forward and backward over the scored rows; here two eigen-decompositions a table.

    Differs from the paper: autodim's own, no paper.
    """
    problem = with_bias(problem)
    factors = factors_of(problem, statistics, "spectral")
    limits = problem.limits
    total = sum(float(f.lambdas.sum()) for f in factors.values()) or 1.0
    gains = {t: np.concatenate(([0.0], np.cumsum(factors[t].lambdas / total))) for t in limits}
    chosen, rule = by_rank(problem, gains, budget, spectral_losses(problem, statistics, factors, total))
    return assembled(problem, budget, "spectral", chosen, factors, rule)


def at_one_spectral_width(problem: Problem, budget: Budget, statistics: Statistics | None) -> Allocation:
    """Spectral basis, one width for all: the largest that fits (tells the gain of the basis from the allocation's).

    Every table gets the same number of dimensions, or what its limits and its rows allow next to it; a table that is
    cheaper whole is stored whole.

    Raises:
        RunError: no spectral statistics.
        BudgetError: the smallest allocation does not fit.

    Cost: as `spectral`.

    Differs from the paper: autodim's own, no paper.
    """
    problem = with_bias(problem)
    factors = factors_of(problem, statistics, "spectral_uniform")
    limits = list(problem.limits.values())
    check_minimum([c.curve(np.zeros(len(c.widths))) for c in limits], budget)
    chosen = [0] * len(limits)
    for width in range(problem.common, -1, -1):
        chosen = [c.position(width) for c in limits]
        if sum(int(c.costs[p]) for c, p in zip(limits, chosen, strict=True)) <= budget.amount:
            break
    return assembled(problem, budget, "spectral_uniform", chosen, factors)


def with_bias(problem: Problem) -> Problem:
    """The same problem where every factored block pays for its biases."""
    cost = replace(problem.cost, bias=True)
    limits = choices(problem.slots, problem.tables, cost, problem.settings)
    return replace(problem, cost=cost, limits=limits)


def factors_of(problem: Problem, statistics: Statistics | None, strategy: str) -> dict[str, Factors]:
    """Factors of every table, from the moments in `statistics.extra["spectral"]` (slot -> Moments).

    Raises:
        RunError: none there, or of another width.
    """
    found = None if statistics is None else statistics.extra.get("spectral")
    moments: Mapping[str, Moments] = found if isinstance(found, Mapping) else {}
    for slot in problem.slots:
        if slot.name not in moments or len(moments[slot.name].mean) != problem.common:
            width = len(moments[slot.name].mean) if slot.name in moments else "none"
            raise RunError(
                f"strategy {strategy} needs spectral statistics of width {problem.common} for slot {slot.name}; found "
                f"{width}; `autodim.spectral` collects them"
            )
    return {
        table: factorise({s: moments[s] for s in c.slots}, problem.settings.ridge)
        for table, c in problem.limits.items()
    }


def assembled(
    problem: Problem,
    budget: Budget,
    strategy: str,
    chosen: list[int],
    factors: Mapping[str, Factors],
    rule: Rule | Literal[""] = "",
) -> Allocation:
    """The allocation of spectral cuts at the chosen positions; scores are the lambdas, in nats (twice the loss)."""
    entries: list[Entry] = []
    for (table, c), position in zip(problem.limits.items(), chosen, strict=True):
        lambdas = factors[table].lambdas
        score = short(float(lambdas[: int(c.widths[position])].sum()))
        entries.append(entry(problem, c, position, score=score, scores=shorts(lambdas.tolist())))
    return allocation(problem, budget, strategy, entries, rule=rule)
