"""Translated pieces into ids and standardised numbers, with what the training rows taught."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from autodim.config.schema import SlotConfig
from autodim.data.numeric import Scale, quantile_buckets
from autodim.data.text import Bags, Coded
from autodim.data.vocabulary import Vocabulary
from autodim.data.work import Column, Work, each

GROUP_ROWS = 1 << 21  # rows whose texts are looked up together: a lookup hashes the whole vocabulary


@dataclass(frozen=True)
class Ids:
    """N encoded rows: one-hot ids N x S1 int32, numeric N x n float32, per bag slot (K int32, N + 1 int64)."""

    ids: np.ndarray
    numeric: np.ndarray
    bags: tuple[tuple[np.ndarray, np.ndarray], ...]


@dataclass(frozen=True)
class Encoder:
    """Everything learnt from the training rows.

    Attributes:
        slots: the config's slots.
        vocabularies: by table.
        edges: of the slots bucketed by quantile, by position in `slots`.
        scales: of the `value` slots, by position in `slots`.
    """

    slots: tuple[SlotConfig, ...]
    vocabularies: dict[str, Vocabulary]
    edges: dict[int, tuple[float, ...]]
    scales: dict[int, Scale]

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
            lists = [(columns[i][w], _offsets(work.slots[i])) for i, kind in enumerate(kinds) if kind == "multi"]
            result.append(
                Ids(_stack(one_hot, len(work), np.int32), _stack(values, len(work), np.float32), tuple(lists))
            )
        return result

    def texts(self, i: int, work: Work) -> Coded:
        """Slot i of a piece as texts (of all its bags' items); not for `value` slots."""
        column = work.slots[i]
        if isinstance(column, np.ndarray):
            return quantile_buckets(column, self.edges[i])
        return column.items if isinstance(column, Bags) else column

    def _column(self, i: int, works: Sequence[Work]) -> list[np.ndarray]:
        slot = self.slots[i]
        if slot.kind == "value":
            return [self.scales[i].apply(work.slots[i]) for work in works]  # type: ignore[arg-type]
        vocabulary = self.vocabularies[slot.table or slot.name]
        found = [self.texts(i, work) for work in works]
        ids = vocabulary.ids_of(pa.concat_arrays([text.values for text in found]))
        bounds = np.cumsum([0] + [len(text.values) for text in found])
        gone = np.int32(vocabulary.missing_id)  # code -1 reads what is appended
        return [np.append(ids[bounds[w] : bounds[w + 1]], gone)[text.codes] for w, text in enumerate(found)]


def grouped(works: Iterable[Work]) -> Iterator[list[Work]]:
    """Consecutive pieces, together at least GROUP_ROWS rows (but for the last group)."""
    group: list[Work] = []
    for work in works:
        group.append(work)
        if sum(len(w) for w in group) >= GROUP_ROWS:
            yield group
            group = []
    if group:
        yield group


def _offsets(column: Column) -> np.ndarray:
    assert isinstance(column, Bags)
    return column.offsets


def _stack(columns: list[np.ndarray], rows: int, kind: type) -> np.ndarray:
    """Columns side by side, row-major."""
    result: np.ndarray = np.empty((rows, len(columns)), kind)
    for j, column in enumerate(columns):
        result[:, j] = column
    return result
