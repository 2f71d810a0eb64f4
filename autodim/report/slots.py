"""From an allocation to the rows that a report draws: one row per block. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

from autodim.dimension.allocation import Allocation, Entry
from autodim.dimension.blocks import spans_of
from autodim.report.data import SlotRow, State


def slot_rows(allocation: Allocation, uniform_width: int | None = None) -> tuple[SlotRow, ...]:
    """One row per block, in slot order.

    Args:
        allocation: the widths.
        uniform_width: D of the model that was cut; default: the allocation's common width (right for every strategy
            but a native `uniform`).

    The uniform model's cost of a block is its part of `allocation.uniform` by rows (every row costs alike there); in
    dims it is D. A table that several slots read is one row, since it is stored and paid once.
    """
    width = uniform_width if uniform_width is not None else allocation.common
    rows = sum(e.rows for e in allocation.entries) or 1
    total = sum(sum(e.scores or ()) for e in allocation.entries)
    spans = spans_of(allocation.entries)
    return tuple(
        SlotRow(
            name=block_name(allocation, e),
            rows=e.rows,
            uniform_width=width,
            width=e.width,
            cost=e.cost,
            uniform_cost=width if allocation.unit == "dims" else allocation.uniform * e.rows / rows,
            share=sum(e.scores) / total if e.scores and total > 0 else None,
            scores=e.scores,
            kept=e.kept,
            state=_state(e, width),
            table=e.table if e.table in spans else "",
        )
        for e in allocation.entries
    )


def block_sentence(slots: Sequence[SlotRow]) -> str:
    """What `[start:stop)` means, where tables are cut into blocks; empty where none is."""
    cut = len({s.table for s in slots if s.table})
    if not cut:
        return ""
    which = "One table is" if cut == 1 else f"{cut} tables are"
    return (
        f"{which} cut into blocks of rows, each with a width of its own: [a:b) are the ids a to b - 1, numbered by "
        "falling training frequency (0 is the unknown id), so that the first block is that of the most frequent ids."
    )


def block_name(allocation: Allocation, entry: Entry) -> str:
    """The slot's name; `table (a, b)` where slots share it; ` [start:stop)` where the table is cut into blocks."""
    name = entry.slots[0] if len(entry.slots) == 1 else f"{entry.table} ({', '.join(entry.slots)})"
    blocks = sum(e.table == entry.table for e in allocation.entries)
    return name if blocks == 1 else f"{name} [{entry.start}:{entry.stop})"


def _state(entry: Entry, uniform_width: int) -> State:
    if entry.width == 0:
        return "mean" if entry.bias else "dropped"
    if entry.projected:
        return "projected"
    return "whole" if entry.width >= uniform_width else "native"
