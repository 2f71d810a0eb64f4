"""Translated pieces into ids and standardised numbers, with what the training rows taught."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from autodim.config.schema import SlotConfig
from autodim.data.bags import Bags
from autodim.data.numeric import Scale, quantile_buckets
from autodim.data.spill import Spilled
from autodim.data.text import TEXT, Coded
from autodim.data.vocabulary import Vocabulary
from autodim.data.work import Work, each

BAGS = ("multi", "scaled")  # kinds whose ids lie in bags
SCALED = "value"  # the one text of a `scaled` slot's table
STACK_ROWS = 2048  # rows written side by side: within the processor's cache
GROUP_ROWS = 1 << 21  # rows whose texts are looked up together: a lookup hashes the whole vocabulary


@dataclass(frozen=True)
class Ids:
    """N encoded rows: one-hot ids N x S1 int32, numeric N x n float32, per bag slot (K int32, N + 1 int64, and
    K float32 weights or None)."""

    ids: np.ndarray
    numeric: np.ndarray
    bags: tuple[tuple[np.ndarray, np.ndarray, np.ndarray | None], ...]


@dataclass(frozen=True)
class Encoder:
    """Everything learnt from the training rows.

    Attributes:
        slots: the config's slots.
        vocabularies: by table.
        edges: of the slots bucketed by quantile, by position in `slots`.
        scales: of the `value` and `scaled` slots, by position in `slots`.
        spilled: by table, the vocabularies that are on disk.
        segment: by slot, its place among the slots of its table, and how many those are.
    """

    slots: tuple[SlotConfig, ...]
    vocabularies: dict[str, Vocabulary]
    edges: dict[int, tuple[float, ...]]
    scales: dict[int, Scale]
    spilled: dict[str, Spilled] = field(default_factory=dict)
    segment: dict[int, tuple[int, int]] = field(default_factory=dict)

    def encode(self, works: Sequence[Work]) -> list[Ids]:
        """Ids of some pieces, looked up together."""

        def column(i: int) -> list[np.ndarray]:
            return self._column(i, works)

        columns = each(column, range(len(self.slots)))
        kinds = [slot.kind for slot in self.slots]
        result: list[Ids] = []
        for w, work in enumerate(works):
            one_hot = [columns[i][w] for i, kind in enumerate(kinds) if kind in ("categorical", "buckets")]
            values = [columns[i][w] for i, kind in enumerate(kinds) if kind == "value"]
            lists = [(columns[i][w], *self._bag(i, work)) for i, kind in enumerate(kinds) if kind in BAGS]
            result.append(
                Ids(_stack(one_hot, len(work), np.int32), _stack(values, len(work), np.float32), tuple(lists))
            )
        return result

    def table(self, name: str) -> Vocabulary | Spilled:
        """A table's vocabulary, wherever it is."""
        return self.spilled[name] if name in self.spilled else self.vocabularies[name]

    def texts(self, i: int, work: Work) -> Coded:
        """Slot i of a piece as texts (of all its bags' items); not for `value` slots."""
        column = work.slots[i]
        if self.slots[i].kind == "scaled":
            return Coded(-np.isnan(column).astype(np.int32), pa.array([SCALED], TEXT))  # type: ignore[arg-type]
        if isinstance(column, np.ndarray):
            return quantile_buckets(column, self.edges[i])
        return column.items if isinstance(column, Bags) else column

    def _column(self, i: int, works: Sequence[Work]) -> list[np.ndarray]:
        slot = self.slots[i]
        if slot.kind == "value":
            return [self.scales[i].apply(work.slots[i]) for work in works]  # type: ignore[arg-type]
        table = slot.table or slot.name
        if table in self.spilled:
            place, of = self.segment[i]
            return [self.spilled[table].ids(w.number * of + place)[self.texts(i, w).codes] for w in works]
        vocabulary = self.vocabularies[table]
        found = [self.texts(i, work) for work in works]
        ids = vocabulary.ids_of(pa.concat_arrays([text.values for text in found]))
        bounds = np.cumsum([0] + [len(text.values) for text in found])
        gone = np.int32(vocabulary.missing_id)  # code -1 reads what is appended
        return [np.append(ids[bounds[w] : bounds[w + 1]], gone)[text.codes] for w, text in enumerate(found)]

    def _bag(self, i: int, work: Work) -> tuple[np.ndarray, np.ndarray | None]:
        """Offsets and weights of a bag slot: weights of `mean` add up to 1 in every bag, so that all are summed."""
        column = work.slots[i]
        if not isinstance(column, Bags):  # scaled: one id a row; a missing number reads its own vector, once
            values = np.where(np.isnan(column), np.float32(1), self.scales[i].apply(column))  # type: ignore[arg-type]
            return np.arange(len(work) + 1), values.astype(np.float32)
        if column.weights is None or self.slots[i].pooling == "sum":
            return column.offsets, column.weights
        rows = np.repeat(np.arange(len(column)), np.diff(column.offsets))
        total = np.bincount(rows, column.weights, len(column))
        total[total == 0] = 1.0
        return column.offsets, (column.weights / total[rows]).astype(np.float32)


def weighted(slot: SlotConfig) -> bool:
    """Whether a slot's ids have weights."""
    return slot.kind == "scaled" or slot.weights is not None or slot.weight_separator is not None


def grouped(works: Iterable[Work], nbytes: int | None = None) -> Iterator[list[Work]]:
    """Consecutive pieces, together at least GROUP_ROWS rows or `nbytes` bytes (but for the last group)."""
    group: list[Work] = []
    for work in works:
        group.append(work)
        heavy = nbytes is not None and sum(w.nbytes for w in group) >= nbytes
        if heavy or sum(len(w) for w in group) >= GROUP_ROWS:
            yield group
            group = []
    if group:
        yield group


def _stack(columns: list[np.ndarray], rows: int, kind: type) -> np.ndarray:
    """Columns side by side, row-major."""
    result: np.ndarray = np.empty((rows, len(columns)), kind)
    for start in range(0, rows, STACK_ROWS):
        block = slice(start, start + STACK_ROWS)
        for j, column in enumerate(columns):
            result[block, j] = column[block]
    return result
