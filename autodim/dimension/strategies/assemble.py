"""From chosen positions to an allocation: what all strategies share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from autodim.dimension.allocate import Rule, by_order, most_gain
from autodim.dimension.allocation import Allocation
from autodim.dimension.blocks import folded
from autodim.dimension.budget import Budget
from autodim.dimension.entry import Entry, drop_notes, short, shorts
from autodim.dimension.limits import Choices
from autodim.dimension.problem import Problem
from autodim.dimension.rounding import scored_losses
from autodim.dimension.scores import Floats, normalise
from autodim.dimension.statistics import Statistics
from autodim.embedding.precision import Precision
from autodim.errors import RunError


def best_dimensions(
    problem: Problem,
    budget: Budget,
    strategy: str,
    scores: Mapping[str, Floats] | None,
    what: str,
    statistics: Statistics | None = None,
) -> Allocation:
    """Keeps the dimensions with the greatest scores, per cost (`rank: ratio`) or as they are (`rank: score`).

    A table's dimensions go in the order of their scores. `ratio`: the gain of a width is the sum of the scores that it
    keeps, and the allocator takes the greatest gain per cost. `score`: one global ranking, cut where the budget ends
    (SSEDS); a step of several dimensions ranks by their mean.

    Args:
        scores: per table D numbers; only their absolute values matter. They are normalised to sum 1.
        what: where they come from, for the message if they are missing.
        statistics: `extra["rows"]`, needed where the precision is chosen too.

    Raises:
        RunError: no scores, or of the wrong shape, or not finite.
        BudgetError: the smallest allocation does not fit.
    """
    limits = problem.limits
    for table in limits:
        values = None if scores is None else scores.get(table)
        if values is None or np.shape(values) != (problem.common,) or not np.isfinite(values).all():
            found = "none" if values is None else f"{np.shape(values)}, finite: {bool(np.isfinite(values).all())}"
            raise RunError(
                f"strategy {strategy} needs {what}: {problem.common} finite numbers for table {table}; found {found}"
            )
    assert scores is not None or not limits
    unit = dict(
        zip(limits, normalise([np.asarray(scores[t], np.float64) for t in limits] if scores else []), strict=True)
    )
    order = {t: np.argsort(-unit[t], kind="stable") for t in limits}
    gains = {t: np.concatenate(([0.0], np.cumsum(unit[t][order[t]]))) for t in limits}
    chosen, rule = by_rank(problem, gains, budget, scored_losses(problem, statistics, unit, order))
    entries = []
    for (table, c), position in zip(limits.items(), chosen, strict=True):
        width = int(c.widths[position])
        kept = tuple(sorted(order[table][:width].tolist()))
        rounded = shorts(unit[table].tolist())
        score = short(float(unit[table][list(kept)].sum()))
        entries.append(entry(problem, c, position, kept=kept, score=score, scores=rounded))
    return allocation(problem, budget, strategy, entries, rule=rule)


def widths_only(
    problem: Problem, budget: Budget, strategy: str, chosen: Sequence[int], notes: Sequence[str]
) -> Allocation:
    """An allocation of a rule that knows widths but no dimensions."""
    entries = [entry(problem, c, position) for c, position in zip(problem.limits.values(), chosen, strict=True)]
    return allocation(problem, budget, strategy, entries, notes)


def entry(
    problem: Problem,
    c: Choices,
    position: int,
    *,
    kept: tuple[int, ...] | None = None,
    score: float | None = None,
    scores: tuple[float, ...] | None = None,
) -> Entry:
    """The entry of one table at one of its choices, its cost taken from the actual block."""
    block, precision = c.block(position, problem.cost), c.precision(position)
    return Entry(
        table=c.table,
        slots=c.slots,
        start=0,
        stop=c.rows,
        width=block.width,
        kept=kept,
        projected=block.projected,
        bias=block.bias,
        cost=replace(problem.cost, precision=precision).of(block, len(c.slots)),
        score=score,
        scores=scores,
        precision=precision,
    )


def allocation(
    problem: Problem,
    budget: Budget,
    strategy: str,
    entries: Sequence[Entry],
    notes: Sequence[str] = (),
    *,
    common: int | None = None,
    rule: Rule | Literal[""] = "",
) -> Allocation:
    """Adds up the entries; the budget holds by construction and is asserted."""
    common = problem.common if common is None else common
    entries = folded(entries, problem.parents, common)
    spent = sum(e.cost for e in entries)
    assert spent <= budget.amount, f"{strategy} spent {spent} of {budget.amount}"
    return Allocation(
        strategy=strategy,
        unit=budget.unit,
        asked=budget.amount,
        spent=spent,
        uniform=problem.cost.reference(problem.uniform),
        common=common,
        entries=tuple(entries),
        budget=budget.asked,
        source=problem.source,
        notes=(*notes, *drop_notes(entries)),
        rule=rule,
    )


def by_rank(
    problem: Problem,
    gains: Mapping[str, Floats],
    budget: Budget,
    losses: Mapping[str, Mapping[Precision, Floats]] | None = None,
) -> tuple[list[int], Rule]:
    """Positions of the chosen widths, by gain per cost or (`rank: score`) by the raw gain of a dimension; and the rule.

    Args:
        gains: per table, in the order of the limits, the cumulative gain of 0 .. D dimensions.
        losses: per table and precision what rounding takes from that gain; None: nothing.
    """
    limits = problem.limits
    curves = [c.curve(gains[t][c.widths] - _lost(c, (losses or {}).get(t, {}))) for t, c in limits.items()]
    if problem.settings.rank == "ratio":
        return most_gain(curves, budget, nested=problem.settings.nested)
    steps = [np.diff(gains[t][c.nominal]) / np.diff(c.nominal) for t, c in limits.items()]
    return by_order(curves, steps, budget), "order"


def by_weights(problem: Problem, weights: Mapping[str, float], budget: Budget) -> list[int]:
    """Positions of the widths `base * weight`, rounded to the nearest allowed, with the largest `base` that fits.

    Widths change only where base * weight passes the middle between two allowed widths, so base is solved exactly
    by its breakpoints: these are taken in ascending order (ties by name) until one does not fit; then the later
    ones that still fit, in the same order, so that no single further step fits (not where `nested` asks for widths
    that only grow).

    Args:
        weights: per table, above 0.
    """
    curves, priorities = [], []
    for table, c in problem.limits.items():
        middles = (c.nominal[1:] + c.nominal[:-1]) / 2
        curves.append(c.curve(np.zeros(len(c.widths))))
        priorities.append(weights[table] / middles)  # 1 / the base at which the step is taken
    return by_order(curves, priorities, budget, fill=not problem.settings.nested)


def measured(problem: Problem, statistics: Statistics | None, strategy: str, what: str) -> Any:
    """What a strategy measured for itself, `statistics.extra[strategy]`; nothing where there are no slots.

    Raises:
        RunError: it did not.
    """
    if not problem.limits:
        return {}
    found = None if statistics is None else statistics.extra.get(strategy)
    if found is None:
        raise RunError(
            f"strategy {strategy} needs {what}; found none. It is measured on a run's trained model: "
            f"`autodim prune RUN prune.strategy={strategy}`"
        )
    return found


def _lost(c: Choices, losses: Mapping[Precision, Floats]) -> Floats:
    """What rounding takes from the gain of each choice."""
    found = np.zeros(len(c.widths))
    for k, width in enumerate(c.widths.tolist()) if losses else ():
        found[k] = losses[c.precision(k)][width]
    return found
