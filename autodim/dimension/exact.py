"""The best allocation, exactly, where the problem is small: multiple-choice knapsack by dynamic programming.

Tables are taken one after the other (the widest range of costs first, then by name). A *state* is what the tables so
far cost and gain. Two rules drop states without losing the best one: a state that costs no less and gains no more than
another; and one whose gain, with all that the tables to come could gain by their hulls (whole segments by falling
gain per cost, the last one in part), stays below what `by_ratio` reaches.

Kellerer, Pferschy & Pisinger, Knapsack Problems, 2004, chapter 11 (dominance and bounds for the multiple-choice case).
"""

from __future__ import annotations

from math import prod

import numpy as np

from autodim.dimension.curves import Flat, Floats, Ints, hull

LARGEST = 50_000_000  # states x points at most; about a second
_ROUNDING = 1e-12  # of the whole gain: bounds are sums of floats in another order


def size(flat: Flat) -> int:
    """States x points at most, whatever the budget (so that all budgets of one problem are solved by one rule)."""
    counts = (flat.end - flat.first).tolist()
    spans = flat.cost[flat.end - 1] - flat.cost[flat.first]
    inside = flat.owner[1:] == flat.owner[:-1]
    unit = int(np.gcd.reduce(np.diff(flat.cost)[inside])) if inside.any() else 1
    return min(prod(counts), int(spans.sum()) // max(unit, 1) + 1) * len(flat.cost)


def solve(flat: Flat, left: int, rank: Ints, reached: float) -> Ints:
    """The most gain for at most `left` above the cheapest points; among equals the cheapest.

    Args:
        flat: the useful points of all curves.
        left: what the cheapest points leave of the budget, at least 0.
        rank: place of each curve's name in sorted order.
        reached: a gain above the cheapest points that some allocation has; only speeds it up.

    Returns:
        Per curve the position of its point in `flat`.

    Cost: at most `size(flat)` states looked at, usually a small part of them.
    """
    spans = flat.cost[flat.end - 1] - flat.cost[flat.first]
    order = np.lexsort((rank, -spans))
    stage = np.empty(len(order), dtype=np.int64)
    stage[order] = np.arange(len(order))
    before, after, ratio = hull(flat)
    falling = np.argsort(-ratio, kind="stable")
    segment_stage = stage[flat.owner[after[falling]]]
    segment_cost = (flat.cost[after] - flat.cost[before])[falling]
    segment_gain = (flat.gain[after] - flat.gain[before])[falling]
    least = reached - _ROUNDING * max(float(segment_gain.sum()), abs(reached))

    cost, gain = np.zeros(1, dtype=np.int64), np.zeros(1)
    steps: list[tuple[Ints, Ints]] = []  # per table: the state before, the point taken
    for i, table in enumerate(order.tolist()):
        points = np.arange(flat.first[table], flat.end[table])
        extra = flat.cost[points] - flat.cost[points[0]]
        more = flat.gain[points] - flat.gain[points[0]]
        all_costs = (cost[:, None] + extra).ravel()
        all_gains = (gain[:, None] + more).ravel()
        alive = np.flatnonzero(all_costs <= left)
        later = segment_stage > i
        reach = all_gains[alive] + _bound(segment_cost[later], segment_gain[later], left - all_costs[alive])
        alive = alive[reach >= least]
        alive = alive[np.lexsort((-all_gains[alive], all_costs[alive]))]
        best = np.maximum.accumulate(all_gains[alive])
        alive = alive[np.append(True, all_gains[alive][1:] > best[:-1])]
        steps.append((alive // len(points), points[alive % len(points)]))
        cost, gain = all_costs[alive], all_gains[alive]
    place = flat.first.copy()
    state = len(gain) - 1  # the states' gains rise
    for table, (parents, taken) in zip(order[::-1].tolist(), reversed(steps), strict=True):
        place[table] = taken[state]
        state = int(parents[state])
    return place


def _bound(cost: Ints, gain: Floats, left: Ints) -> Floats:
    """The most that segments, by falling gain per cost and in parts, can gain for `left`."""
    if not len(cost):
        return np.zeros(len(left))
    return np.interp(left, np.append(0, np.cumsum(cost)), np.append(0.0, np.cumsum(gain)))
