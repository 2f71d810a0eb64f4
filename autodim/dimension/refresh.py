"""New widths beside old ones: what a new log proposes, and what is worth a change. Torch-free.

Letters: D common width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from autodim.dimension.factor import Factors
from autodim.dimension.limits import Choices
from autodim.dimension.moments import Floats

Decision = Literal["kept", "grown", "cut", "kept (gain too small)", "kept (no need to cut)"]


@dataclass(frozen=True)
class Change:
    """One table's widths.

    Attributes:
        table: its name. slots: that read it.
        before: the old width. proposed: what the strategy gives on the new log. after: what it gets.
        gain: predicted change of the mean loss from `before` to `proposed`, nats, as a saving (negative: a cost).
        decision: why.
    """

    table: str
    slots: tuple[str, ...]
    before: int
    proposed: int
    after: int
    gain: float
    decision: Decision


def losses(factors: Factors) -> Floats:
    """Predicted loss of keeping 0 .. D dimensions, nats, D + 1 numbers: half of the lambdas that go."""
    kept = np.concatenate(([0.0], np.cumsum(factors.lambdas)))
    return 0.5 * (kept[-1] - kept)


def decide(
    limits: Mapping[str, Choices],
    before: Mapping[str, int],
    proposed: Mapping[str, int],
    loss: Mapping[str, Floats],
    amount: int,
    min_gain: float,
) -> tuple[list[int], list[Change]]:
    """Hysteresis: a slot grows only if that is predicted to save `min_gain`, and shrinks only if the budget needs it.

    Growth that is worth less is undone; then cuts are undone, the dearest in loss first, as long as the budget holds.
    So the result costs at most `amount` whenever the proposal does, and it is the old widths where nothing is worth a
    change and they still fit.

    Args:
        limits: what each table may get on the new log.
        before, proposed: width of each table.
        loss: per table what `losses` gives.
        amount: the budget.
        min_gain: nats of the mean loss.

    Returns:
        Positions of the chosen widths, in the order of the limits; and one change a table.
    """
    tables = list(limits)
    old = {t: _position(limits[t], before[t]) for t in tables}
    new = {t: _position(limits[t], proposed[t]) for t in tables}

    def loss_at(table: str, position: int) -> float:
        return float(loss[table][min(int(limits[table].widths[position]), len(loss[table]) - 1)])

    gain = {t: loss_at(t, old[t]) - loss_at(t, new[t]) for t in tables}
    chosen = {t: old[t] if new[t] > old[t] and gain[t] < min_gain else new[t] for t in tables}
    spent = sum(int(limits[t].costs[p]) for t, p in chosen.items())
    undone = set()
    for table in sorted((t for t in tables if new[t] < old[t]), key=lambda t: (gain[t], t)):
        extra = int(limits[table].costs[old[table]] - limits[table].costs[new[table]])
        if spent + extra <= amount:
            chosen[table], spent = old[table], spent + extra
            undone.add(table)
    changes = []
    for t in tables:
        decision: Decision = "kept"
        if new[t] > old[t]:
            decision = "grown" if chosen[t] == new[t] else "kept (gain too small)"
        elif new[t] < old[t]:
            decision = "kept (no need to cut)" if t in undone else "cut"
        after = int(limits[t].widths[chosen[t]])
        changes.append(Change(t, limits[t].slots, before[t], proposed[t], after, gain[t], decision))
    return [chosen[t] for t in tables], changes


def _position(choices: Choices, width: int) -> int:
    """The choice of `width`; where it is not offered the next wider one (which costs no more), else the widest."""
    return min(int(np.searchsorted(choices.widths, width)), len(choices.widths) - 1)


def change_rows(changes: Sequence[Change]) -> list[dict[str, object]]:
    """The changes as plain values, one a table."""
    return [{**vars(c), "slots": list(c.slots)} for c in changes]
