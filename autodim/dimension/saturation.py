"""Slots that want more dimensions than the uniform model had. Torch-free.

A slot that keeps all D dimensions, and whose last dimension is still worth something, is *saturated*: the search cannot
tell how wide it should be, since nothing beyond D was ever trained. `autodim widen` gives it more.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from autodim.dimension.allocation import Allocation
from autodim.dimension.entry import Entry

LAST = 0.25  # the last dimension is not small: worth at least this share of the slot's mean dimension


def is_saturated(entry: Entry, common: int, last: float = LAST) -> bool:
    """Whether an entry keeps all D dimensions and its least one is worth at least `last` of its mean one.

    A table of at most D rows needs no more dimensions than it has, whatever they are worth; an entry without scores
    says nothing.
    """
    if entry.width < common or entry.projected or entry.rows <= common or not entry.scores:
        return False
    mean = sum(entry.scores) / len(entry.scores)
    return mean > 0 and min(entry.scores) >= last * mean


def saturated(allocation: Allocation, last: float = LAST) -> tuple[Entry, ...]:
    """The saturated entries of an allocation (none of a native uniform model, which has no scores)."""
    return tuple(e for e in allocation.entries if is_saturated(e, allocation.common, last))


def saturation_notes(entries: Sequence[Entry], cut: Collection[str] = ()) -> list[str]:
    """A remark for each saturated entry.

    Args:
        cut: tables that are cut into blocks: their rows are named.
    """
    notes = []
    for e in entries:
        assert e.scores is not None
        part = min(e.scores) * len(e.scores) / sum(e.scores)
        rows = f" rows {e.start} to {e.stop - 1}" if e.start or e.table in cut else ""
        notes.append(
            f"slot {', '.join(e.slots)}{rows} is saturated: it keeps all {e.width} dimensions and the last is worth "
            f"{part:.0%} of its mean one; autodim widen may help"
        )
    return notes
