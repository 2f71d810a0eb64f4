"""The allocator that all strategies use: which width of each slot, within a budget. Torch-free, numpy only.

A *curve* is what one slot offers: widths with their costs and predicted gains. Ways to choose:

`most_gain` What strategies call: the best allocation where the problem is small (exact.py; the rule looks at the size
            of the problem and not at the budget), else `by_ratio`. `nested` makes it a prefix of one list of steps.
`by_ratio`  At every step, among all slots and all their larger widths whose extra cost still fits, take the one with
            the greatest gain per cost (ties: smaller cost, then slot name), until nothing with a gain fits.
`by_order`  Take steps by falling priority and stop at the first that does not fit (a threshold, as in SSEDS);
            `fill=True` goes on with the later steps that do fit.

Why `by_ratio` never predicts a higher loss for a larger budget. The ratios that one run takes never rise: after a
step the candidates of the other slots are the same or fewer (less fits), and a slot cannot better its own best ratio
from the point that the best ratio led to. Let two runs with budgets A < B first differ. They stand at the same
widths, and the richer sees all candidates that the poorer sees, so it takes an x that the poorer cannot afford:
cost(x) > leftover of the poorer. All that the poorer still takes has a ratio of at most ratio(x) and costs at most its
leftover, so it gains less than ratio(x) * cost(x) = gain(x), which the richer has already. `by_order` without `fill`
takes prefixes of one list, so there even the widths only grow. (Both hold for the gains as floats, up to rounding.)

No bound on the distance to the best allocation is free of the largest step: the best possible gain is at most that of
`by_ratio` plus the gain of the one hull segment that was too dear. With equal costs and falling gains it is the best.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Literal

import numpy as np

from autodim.dimension.budget import Budget
from autodim.dimension.curves import Curve, Flat, Floats, Ints, hull
from autodim.dimension.exact import LARGEST, size, solve
from autodim.errors import BudgetError

Rule = Literal["exact", "greedy", "nested", "order"]


def most_gain(curves: Sequence[Curve], budget: Budget | int, *, nested: bool = False) -> tuple[list[int], Rule]:
    """The most gain within a budget: exactly where the problem is small, else by the greatest gain per cost.

    Args:
        curves: in any order; costs and gains need not be concave, nor even ascending.
        budget: never exceeded.
        nested: the hull's steps in one fixed order up to the first that does not fit, and nothing after it; no slot
            ever gets less from a larger budget.

    Returns:
        For each curve the position of its chosen width, and the rule: `exact`, `greedy` or `nested`. The gain never
        falls as the budget rises (up to rounding), and but for `nested` no single further step with a gain fits.

    Raises:
        BudgetError: not even the cheapest width of each slot fits.
    """
    left = check_minimum(curves, budget)
    if not curves:
        return [], "nested" if nested else "exact"
    flat, rank = Flat.of(curves), _name_ranks(curves)
    place = _greedy(flat, left, rank, nested)
    if nested or size(flat) > LARGEST:
        return flat.position[place].tolist(), "nested" if nested else "greedy"
    place = solve(flat, left, rank, float((flat.gain[place] - flat.gain[flat.first]).sum()))
    left -= int((flat.cost[place] - flat.cost[flat.first]).sum())
    # a gain too small to show in the sum of all is still a gain
    finished = _tail(flat, place.tolist(), left, rank.tolist(), [], set(range(len(curves))))
    return flat.position[finished].tolist(), "exact"


def by_ratio(curves: Sequence[Curve], budget: Budget | int) -> list[int]:
    """Greatest gain per cost first; see the top of the file for the exact rule and its proof.

    Args:
        curves: in any order; costs and gains need not be concave, nor even ascending.
        budget: never exceeded.

    Returns:
        For each curve the position of its chosen width.

    Raises:
        BudgetError: not even the cheapest width of each slot fits.

    Cost: O(P log P) for P points in all; 10,000 slots of 128 widths take about a second.
    """
    left = check_minimum(curves, budget)
    if not curves:
        return []
    flat = Flat.of(curves)
    return flat.position[_greedy(flat, left, _name_ranks(curves), nested=False)].tolist()


def _greedy(flat: Flat, left: int, rank: Ints, nested: bool) -> Ints:
    """`by_ratio` on useful points: per curve the position in `flat`. `nested`: no step after the first misfit."""
    before, after, ratio = hull(flat)
    cost = flat.cost[after] - flat.cost[before]
    owner = flat.owner[after]
    # Equal ratios go by cost, but a slot's second step cannot go before its first: it inherits the larger cost.
    order = np.lexsort((rank[owner], _running_cost(owner, ratio, cost), -ratio))
    taken = int(np.searchsorted(np.cumsum(cost[order]), left, side="right"))
    place = flat.first.copy()
    place[owner[order[:taken]]] = after[order[:taken]]  # the last of a slot's steps wins
    left -= int(cost[order[:taken]].sum())
    if nested:
        return place
    rest = order[taken:]
    # From the first misfit on, the best step of a slot may be one that the hull leaves out.
    steps = zip(
        (-ratio[rest]).tolist(),
        cost[rest].tolist(),
        rank[owner[rest]].tolist(),
        owner[rest].tolist(),
        after[rest].tolist(),
        strict=True,
    )
    return np.asarray(_tail(flat, place.tolist(), left, rank.tolist(), list(steps), set()))


def by_order(
    curves: Sequence[Curve], priorities: Sequence[Floats], budget: Budget | int, *, fill: bool = False
) -> list[int]:
    """Steps by falling priority until one does not fit.

    Args:
        curves: costs must not fall with the width; every curve starts at its first width.
        priorities: per curve one number for each step from a width to the next; larger goes first. Steps of one slot
            are taken in order, so a priority above that of the step before counts as equal to it. Steps of
            priority 0 or less are never taken. Ties go by slot name.
        budget: never exceeded.
        fill: go on after the first misfit with later steps that fit (a slot whose step did not fit is done). Then no
            single further step fits, but a larger budget may give one slot less.

    Returns:
        For each curve the position of its chosen width.

    Raises:
        BudgetError: the first widths alone do not fit.

    Cost: one sort of all steps.
    """
    left = check_minimum(curves, budget, cheapest=False)
    if not curves:
        return []
    rank = _name_ranks(curves)
    counts = np.array([len(c.widths) - 1 for c in curves])
    owner = np.repeat(np.arange(len(curves)), counts)
    cost = np.concatenate([np.diff(c.costs) for c in curves]).astype(np.int64)
    assert (cost >= 0).all(), "by_order needs costs that do not fall with the width"
    target = np.concatenate([np.arange(1, n + 1) for n in counts]).astype(np.int64)
    priority = np.concatenate([np.minimum.accumulate(np.asarray(p, dtype=np.float64)) for p in priorities])
    assert len(priority) == len(cost) and np.isfinite(priority).all(), "one finite priority for each step"
    order = np.lexsort((rank[owner], -priority))
    order = order[priority[order] > 0]
    taken = int(np.searchsorted(np.cumsum(cost[order]), left, side="right"))
    place = np.zeros(len(curves), dtype=np.int64)
    place[owner[order[:taken]]] = target[order[:taken]]
    chosen = place.tolist()
    if fill:
        left -= int(cost[order[:taken]].sum())
        done: set[int] = set()
        for i in order[taken:].tolist():
            slot = int(owner[i])
            if slot in done:
                continue
            if cost[i] <= left:
                left -= int(cost[i])
                chosen[slot] = int(target[i])
            else:
                done.add(slot)
    return chosen


def check_minimum(curves: Sequence[Curve], budget: Budget | int, *, cheapest: bool = True) -> int:
    """What the smallest allocation leaves of the budget.

    Raises:
        BudgetError: it leaves less than nothing; the message names the smallest feasible budget, what forces it and
            the ways out.
    """
    limit = Budget(budget, "params", f"{budget}") if isinstance(budget, int) else budget
    floors = [(int(c.costs.min() if cheapest else c.costs[0]), c) for c in curves]
    least = sum(cost for cost, _ in floors)
    if least <= limit.amount:
        return limit.amount - least
    floors = sorted((f for f in floors if f[0] > 0), key=lambda f: (-f[0], f[1].name))
    lines = [f"  {c.name}: {cost:,}" + (f" ({c.forced})" if c.forced else "") for cost, c in floors[:8]]
    if len(floors) > 8:
        lines.append(f"  and {len(floors) - 8} more: {sum(cost for cost, _ in floors[8:]):,}")
    share = f" ({least / limit.uniform:.4%} of the uniform model)" if limit.uniform else ""
    # The reasons come from limits.py; each has its way out.
    reasons = " ".join(c.forced for _, c in floors)
    ways = [f"a budget of at least {least:,} {limit.unit}{share}: prune.budget.amount={least}"]
    if "fixed" in reasons:
        ways.append("a smaller `fixed` width, or none, of the slots above: prune.slots.NAME.fixed")
    if "min_dim" in reasons:
        ways.append("a smaller `min_dim`: prune.min_dim, prune.slots.NAME.min_dim")
    if "keep_min" in reasons or "mean" in reasons:
        ways.append("let slots that earn nothing be dropped: prune.zero=drop")
    if "spectral" in reasons:
        ways.append("a strategy that drops slots without a constant, such as prune.strategy=sseds")
    if "ladder" in reasons:
        ways.append("a lower first rung: prune.ladder")
    if limit.unit == "serving_bytes":
        ways.append("fewer bytes a number: prune.precision=int8 (or fp16)")
    if "multiple_of" in reasons:
        ways.append("a smaller `multiple_of`: prune.multiple_of, prune.slots.NAME.multiple_of")
    raise BudgetError(
        f"the budget {limit.asked} allows {limit.amount:,} {limit.unit}, but the smallest widths that the limits allow "
        f"cost {least:,}. What forces it:\n"
        + "\n".join(lines)
        + "\nWays out:\n"
        + "\n".join(f"  {i}. {way}" for i, way in enumerate(ways, 1))
    )


def _running_cost(owner: Ints, ratio: Floats, cost: Ints) -> Ints:
    """Cost, or the largest so far within a slot's run of equal ratios."""
    same = (owner[1:] == owner[:-1]) & (ratio[1:] == ratio[:-1])
    if not same.any():
        return cost
    run = np.concatenate(([0], np.cumsum(~same)))
    values, level = np.unique(cost, return_inverse=True)  # levels, so that run * levels cannot overflow
    running = np.maximum.accumulate(run * len(values) + level)
    return values[running - run * len(values)]


def _tail(
    flat: Flat,
    place: list[int],
    left: int,
    rank: list[int],
    steps: list[tuple[float, int, int, int, int]],
    loose: set[int],
) -> list[int]:
    """The rule from the first misfit on: hull steps in order, merged with the best fitting steps of loose slots.

    A slot comes loose when its hull step does not fit; from then on its best step among those that fit waits in a
    heap. What fits only becomes less, so a key in the heap is never too bad: one that no longer fits is remade.
    """
    heap: list[tuple[float, int, int, int, int]] = []
    inside = flat.owner[1:] == flat.owner[:-1]
    smallest = int(np.diff(flat.cost)[inside].min()) if inside.any() else left + 1

    def wait(owner: int) -> None:
        here, end = place[owner], int(flat.end[owner])
        last = here + int(np.searchsorted(flat.cost[here:end], flat.cost[here] + left, side="right"))
        if last > here + 1:
            extra = flat.cost[here + 1 : last] - flat.cost[here]
            ratio = (flat.gain[here + 1 : last] - flat.gain[here]) / extra
            best = int(np.argmax(ratio))  # the first of equals is the cheapest
            heappush(heap, (-float(ratio[best]), int(extra[best]), rank[owner], owner, here + 1 + best))

    if left >= smallest:
        for owner in sorted(loose):
            wait(owner)
    i = 0
    while left >= smallest and (i < len(steps) or heap):
        if i < len(steps) and steps[i][3] in loose:
            i += 1
            continue
        if i == len(steps) or (heap and heap[0][:3] < steps[i][:3]):
            step = heappop(heap)
        else:
            step = steps[i]
            i += 1
        _, cost, _, owner, target = step
        if cost <= left:
            left -= cost
            place[owner] = target
            if owner in loose:
                wait(owner)
        else:
            loose.add(owner)
            wait(owner)
    return place


def _name_ranks(curves: Sequence[Curve]) -> Ints:
    """Place of each curve's name in sorted order."""
    names = [c.name for c in curves]
    rank = {name: i for i, name in enumerate(sorted(names))}
    assert len(rank) == len(names), "names of curves are unique"
    return np.array([rank[name] for name in names])
