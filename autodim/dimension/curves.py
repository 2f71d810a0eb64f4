"""What slots offer: widths with costs and gains, and the arithmetic of many such curves at once. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curve:
    """What one slot (table) offers.

    Attributes:
        name: unique; breaks ties.
        widths: allowed widths, ascending, at least one.
        costs: what each costs in all (not the extra).
        gains: predicted gain of each in all; any zero.
        forced: what forces the smallest width, for the message of a budget that is too small.
    """

    name: str
    widths: Ints
    costs: Ints
    gains: Floats
    forced: str = field(default="")


@dataclass(frozen=True, eq=False)
class Flat:
    """The useful points of all curves, one after the other: cost and gain both rise within a curve.

    `first` and `end` bound each curve's points; `position` is where a point was in its curve.
    """

    first: Ints
    end: Ints
    owner: Ints
    position: Ints
    cost: Ints
    gain: Floats

    @staticmethod
    def of(curves: Sequence[Curve]) -> Flat:
        useful = [_pareto(c) for c in curves]
        counts = np.array([len(u) for u in useful])
        end = np.cumsum(counts)
        cost = np.concatenate([np.asarray(c.costs)[u] for c, u in zip(curves, useful, strict=True)]).astype(np.int64)
        gain = np.concatenate([np.asarray(c.gains)[u] for c, u in zip(curves, useful, strict=True)]).astype(np.float64)
        assert np.isfinite(gain).all(), "gains are finite"
        owner = np.repeat(np.arange(len(curves)), counts)
        return Flat(end - counts, end, owner, np.concatenate(useful), cost, gain)


def _pareto(curve: Curve) -> Ints:
    """Positions of the points that no other beats: by rising cost, each with more gain than all cheaper ones."""
    cost, gain = np.asarray(curve.costs), np.asarray(curve.gains)
    assert len(cost) == len(gain) == len(curve.widths) > 0, "a curve has as many costs and gains as widths"
    if (cost[1:] > cost[:-1]).all() and (gain[1:] > gain[:-1]).all():
        return np.arange(len(cost))
    order = np.lexsort((-gain, cost))  # stable: of equal points the smaller width
    best = np.maximum.accumulate(gain[order])
    return order[np.concatenate(([True], gain[order][1:] > best[:-1]))]


def hull(flat: Flat) -> tuple[Ints, Ints, Floats]:
    """Segments of each curve's upper concave hull (points on a straight line stay): from, to, gain per cost."""
    alive = np.arange(len(flat.cost))
    # A point below the line of its neighbours is not on the hull, whatever else goes with it: a few rounds for all
    # curves at once. A long tail of dents would need a round each: the curves that are left go one by one.
    for _ in range(4):
        before, after, ratio = _segments(flat, alive)
        dent = after[:-1][(before[1:] == after[:-1]) & (ratio[:-1] < ratio[1:])]
        if not len(dent):
            return before, after, ratio
        last, alive = alive, np.setdiff1d(alive, dent, assume_unique=True)
    dented = np.isin(flat.owner[last], flat.owner[dent])
    points = last[dented]
    parts = [last[~dented]]
    for group in np.split(points, np.flatnonzero(np.diff(flat.owner[points])) + 1):
        parts.append(_stack(group, flat.cost[group].tolist(), flat.gain[group].tolist()))
    return _segments(flat, np.sort(np.concatenate(parts)))


def _segments(flat: Flat, alive: Ints) -> tuple[Ints, Ints, Floats]:
    """Neighbours among the points `alive` (ascending) of the same curve, and the gain per cost between them."""
    inside = flat.owner[alive[1:]] == flat.owner[alive[:-1]]
    before, after = alive[:-1][inside], alive[1:][inside]
    return before, after, (flat.gain[after] - flat.gain[before]) / (flat.cost[after] - flat.cost[before])


def _stack(points: Ints, cost: list[int], gain: list[float]) -> Ints:
    """Upper hull of one curve by the monotone stack."""
    kept: list[int] = []
    slopes: list[float] = []  # slopes[i]: from kept[i] to kept[i + 1]
    for i in range(len(cost)):
        slope = 0.0
        while kept:
            slope = (gain[i] - gain[kept[-1]]) / (cost[i] - cost[kept[-1]])
            if not slopes or slopes[-1] >= slope:
                break
            kept.pop()
            slopes.pop()
        if kept:
            slopes.append(slope)
        kept.append(i)
    return points[kept]
