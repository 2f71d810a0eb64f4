"""Texts into ids.

Per table: id 0 is out-of-vocabulary, always; ids 1.. are the training rows' values by falling count, ties by value
(bytes of UTF-8). A missing value is a value like any other (stored as null, after all texts of its count), so it has
an id only where training rows have it. Counts are merged in batches that grow with the vocabulary, so a value's cost
is O(log pieces) and the result does not depend on how the log was cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from autodim.data.text import TEXT, Coded
from autodim.errors import RunError

PENDING = 1 << 16  # distinct values gathered before the first merge


class Counter:
    """Counts of texts, over many pieces."""

    def __init__(self) -> None:
        self._values: list[pa.Array] = [pa.array([], TEXT)]  # the first is what is merged, the rest is pending
        self._counts: list[np.ndarray] = [np.empty(0, np.int64)]
        self._rows = 0

    def add(self, column: Coded, missing: bool = True) -> None:
        """Count the values of a column (training rows only); `missing`: count the missing ones too."""
        counts = np.bincount(column.codes + 1, minlength=len(column.values) + 1)
        values = column.values
        if not missing:
            counts[0] = 0
        seen = np.flatnonzero(counts[1:])
        values = values.take(pa.array(seen))
        totals = counts[1:][seen]
        if counts[0]:
            values = pa.concat_arrays([values, pa.array([None], TEXT)])
            totals = np.append(totals, counts[0])
        self._values.append(values)
        self._counts.append(totals)
        self._rows += len(values)
        if self._rows > max(PENDING, len(self._counts[0])):
            self._merge()

    def vocabulary(self, min_count: int = 1) -> Vocabulary:
        """The vocabulary of everything counted; values rarer than `min_count` share id 0."""
        self._merge()
        table = pa.table({"value": self._values[0], "count": self._counts[0]})
        order = pc.sort_indices(table, sort_keys=[("count", "descending"), ("value", "ascending")])
        counts = self._counts[0][order.to_numpy()]
        kept = int(np.searchsorted(-counts, -min_count, side="right"))
        values = self._values[0].take(order[:kept])
        return Vocabulary(values, np.concatenate([[counts[kept:].sum()], counts[:kept]]).astype(np.int64))

    def _merge(self) -> None:
        encoded = pc.dictionary_encode(pa.concat_arrays(self._values), null_encoding="encode")
        # float64 weights are exact below 2^53
        totals = np.bincount(encoded.indices.to_numpy(), np.concatenate(self._counts), len(encoded.dictionary))
        self._values, self._counts, self._rows = [encoded.dictionary], [totals.astype(np.int64)], 0


@dataclass(frozen=True)
class Vocabulary:
    """The ids of one table.

    Attributes:
        values: texts of ids 1.. (null: the missing value).
        counts: training count of ids 0.. (0: of all values that were too rare).
    """

    values: pa.Array
    counts: np.ndarray

    @property
    def rows(self) -> int:
        return len(self.counts)

    @property
    def missing_id(self) -> int:
        """Id of the missing value; 0 where training rows have none."""
        where = np.flatnonzero(self.values.is_null().to_numpy(zero_copy_only=False))
        return int(where[0]) + 1 if len(where) else 0

    def ids_of(self, values: pa.Array) -> np.ndarray:
        """Ids of texts: N int32. Cost: hashes the vocabulary once a call, so ask for many texts at a time."""
        found = pc.index_in(values, value_set=self.values)
        return found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32) + np.int32(1)

    def save(self, path: Path) -> None:
        table = pa.table({"value": self.values, "count": pa.array(self.counts[1:])})
        pq.write_table(table, path, write_page_checksum=True, compression="zstd")

    @staticmethod
    def load(path: Path, rare: int = 0) -> Vocabulary:
        """Read what `save` wrote; `rare` is the count of id 0.

        Raises:
            RunError: missing or damaged.
        """
        try:
            table = pq.read_table(path, page_checksum_verification=True, memory_map=False)
            values = pa.concat_arrays([c.cast(TEXT) for c in table["value"].chunks] or [pa.array([], TEXT)])
            return Vocabulary(values, np.concatenate([[rare], table["count"].to_numpy()]).astype(np.int64))
        except (OSError, pa.ArrowException, KeyError) as error:
            raise RunError(f"{path}: the vocabulary cannot be read ({error}); run prepare again") from None
