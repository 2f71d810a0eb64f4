"""Frequency blocks: a table's rows cut into head, torso and tail, each of which gets a width of its own. Torch-free.

A strategy never sees a block. It is asked about *items*: a table, or in its place each block of the table, under the
name `table[start:stop]` and read by slots `slot[start:stop]`, with the block's rows, counts, limits and statistics. Its
entries are then told back in the words of the model (`folded`). So every strategy knows blocks.

Letters: n rows of a table, D common width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autodim.config.schema import BlocksConfig, PruneConfig
from autodim.dimension.entry import Entry, short, shorts
from autodim.embedding.layout import Slot, Table
from autodim.errors import ConfigError, did_you_mean

Counts = Mapping[str, NDArray[np.int64] | int]
Spans = Mapping[str, tuple[tuple[int, int], ...]]  # table -> (start, stop) of each of its blocks, two or more


def part(name: str, start: int, stop: int) -> str:
    """The name of a slot or a table at one block."""
    return f"{name}[{start}:{stop}]"


def spans_of(entries: Iterable[Entry]) -> dict[str, tuple[tuple[int, int], ...]]:
    """The blocks of the tables that an allocation cuts."""
    found: dict[str, list[tuple[int, int]]] = {}
    for e in entries:
        found.setdefault(e.table, []).append((e.start, e.stop))
    return {table: tuple(spans) for table, spans in found.items() if len(spans) > 1}


def spans_key(spans: Spans) -> dict[str, Any]:
    """What a hash of inputs holds of the blocks: nothing without any."""
    return {"blocks": {t: [list(s) for s in found] for t, found in spans.items()}} if spans else {}


def item(name: str, entry: Entry, spans: Spans) -> str:
    """Under which name the statistics of an entry stand; `name` is its table's or one of its slots'."""
    return part(name, entry.start, entry.stop) if entry.table in spans else name


def cut_rows(
    slots: Sequence[Slot], tables: Sequence[Table], settings: BlocksConfig, counts: Counts | None
) -> dict[str, tuple[tuple[int, int], ...]]:
    """Where the settings cut which tables.

    Row 0, the out-of-vocabulary id, belongs to the head; the others are numbered by falling training count.

    Args:
        counts: per table the training count of each row (n); needed for `by: occurrences`.

    Returns:
        Per cut table its blocks; a table that would have one block only is left out.

    Raises:
        ConfigError: an unknown slot, shares that do not rise, or no counts per row.
    """
    if not settings.slots:
        return {}
    if list(settings.shares) != sorted(set(settings.shares)) or not settings.shares:
        raise ConfigError(f"prune.blocks.shares: found {list(settings.shares)}, expected rising numbers in (0, 1)")
    names = {s.name: s.table for s in slots}
    chosen = {s.table for s in slots}
    if settings.slots != "auto":
        for name in settings.slots:
            if name not in names:
                raise ConfigError(f"prune.blocks.slots: unknown slot {name!r}{did_you_mean(name, list(names))}")
        chosen = {names[name] for name in settings.slots}
    found = {}
    for table in tables:
        if table.name in chosen:
            edges = _edges(table, settings, None if counts is None else counts[table.name])
            if len(edges) > 2:
                found[table.name] = tuple(pairwise(edges))
    return found


def _edges(table: Table, settings: BlocksConfig, counts: NDArray[np.int64] | int | None) -> list[int]:
    n = table.rows
    if settings.by == "rows":
        inner = [round(share * n) for share in settings.shares]
    else:
        if counts is None or np.ndim(counts) != 1 or len(np.atleast_1d(counts)) != n:
            raise ConfigError(
                f"prune.blocks.by: found occurrences, but the training counts of the ids of {table.name} are unknown; "
                "use by: rows"
            )
        # the out-of-vocabulary row has no place in the order of frequency
        total = np.cumsum(np.concatenate(([0], np.asarray(counts, np.int64)[1:])))
        inner = [int(np.searchsorted(total, share * total[-1])) + 1 for share in settings.shares] if n > 1 else []
    edges = [0]
    for edge in inner:
        if edge - edges[-1] >= settings.min_rows:
            edges.append(edge)
    while len(edges) > 1 and n - edges[-1] < settings.min_rows:
        edges.pop()
    return [*edges, n]


@dataclass(frozen=True)
class Items:
    """What strategies are asked about in place of slots and tables.

    Attributes:
        slots: one a slot and block. tables: one a block. settings: with the limits under the items' names.
        counts: of the items.
        parents: item -> the table it is a part of, its slots, start, stop; only items that are parts.
    """

    slots: tuple[Slot, ...]
    tables: tuple[Table, ...]
    settings: PruneConfig
    counts: Counts | None
    parents: Mapping[str, tuple[str, tuple[str, ...], int, int]]


def items(
    slots: Sequence[Slot], tables: Sequence[Table], settings: PruneConfig, counts: Counts | None, spans: Spans
) -> Items:
    """Slots and tables with every cut table replaced by its blocks; a block inherits its slots' limits."""
    if not spans:
        return Items(tuple(slots), tuple(tables), settings, counts, {})
    new_slots: list[Slot] = []
    new_tables: list[Table] = []
    limits = dict(settings.slots)
    readers: dict[str, list[str]] = {}
    for slot in slots:
        readers.setdefault(slot.table, []).append(slot.name)
        for start, stop in spans.get(slot.table, ()):
            new_slots.append(replace(slot, name=part(slot.name, start, stop), table=part(slot.table, start, stop)))
            if slot.name in settings.slots:
                limits[part(slot.name, start, stop)] = settings.slots[slot.name]
        if slot.table in spans:
            limits.pop(slot.name, None)
        else:
            new_slots.append(slot)
    new_counts: dict[str, NDArray[np.int64] | int] = {}
    parents: dict[str, tuple[str, tuple[str, ...], int, int]] = {}
    for table in tables:
        own = None if counts is None else counts[table.name]
        if table.name not in spans:
            new_tables.append(table)
            if own is not None:
                new_counts[table.name] = own
        for start, stop in spans.get(table.name, ()):
            name = part(table.name, start, stop)
            new_tables.append(Table(name, stop - start))
            parents[name] = (table.name, tuple(readers.get(table.name, ())), start, stop)
            if own is not None:
                shared = int(np.sum(own)) * (stop - start) // max(table.rows, 1)
                new_counts[name] = own[start:stop] if isinstance(own, np.ndarray) and own.ndim else shared
    changed = settings.model_copy(update={"slots": limits})
    return Items(tuple(new_slots), tuple(new_tables), changed, None if counts is None else new_counts, parents)


def folded(
    entries: Iterable[Entry], parents: Mapping[str, tuple[str, tuple[str, ...], int, int]], common: int
) -> list[Entry]:
    """Entries about items as entries about tables; neighbouring blocks that are both stored whole become one.

    Blocks that are served in different precisions stay apart.

    Args:
        common: the width of a block that is stored whole.
    """
    found: list[Entry] = []
    for entry in entries:
        if entry.table not in parents:
            found.append(entry)
            continue
        table, slots, start, stop = parents[entry.table]
        own = replace(entry, table=table, slots=slots, start=start, stop=stop)
        if found and _one(found[-1], own, common):
            found[-1] = _joined(found[-1], own)
        else:
            found.append(own)
    return found


def _one(before: Entry, after: Entry, common: int) -> bool:
    alike = before.table == after.table and before.precision == after.precision
    return alike and all(e.width == common and not e.projected and not e.bias for e in (before, after))


def _joined(one: Entry, other: Entry) -> Entry:
    scores = None
    if one.scores is not None and other.scores is not None:
        scores = shorts(a + b for a, b in zip(one.scores, other.scores, strict=True))
    score = None if one.score is None or other.score is None else short(one.score + other.score)
    return replace(one, stop=other.stop, cost=one.cost + other.cost, score=score, scores=scores)
