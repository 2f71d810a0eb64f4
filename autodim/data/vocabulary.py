"""Texts into ids.

Per table: id 0 is out-of-vocabulary, always; ids 1.. are the training rows' values by falling count, ties by value
(bytes of UTF-8). A missing value is a value like any other (stored as null, after all texts of its count), so it has
an id only where training rows have it. Counts are merged in batches that grow with the vocabulary, so a value's cost
is O(log pieces) and the result does not depend on how the log was cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from autodim.data.text import TEXT, Coded
from autodim.errors import RunError

PENDING = 1 << 16  # distinct values gathered before the first merge
ROW_GROUP = 1 << 17  # ids of a row group of the file


class Counter:
    """Counts of texts, over many pieces."""

    def __init__(self) -> None:
        self._values: list[pa.Array] = [pa.array([], TEXT)]  # the first is what is merged, the rest is pending
        self._counts: list[np.ndarray] = [np.empty(0, np.int64)]
        self._rows = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the texts and counts held."""
        return sum(int(values.nbytes) for values in self._values) + sum(counts.nbytes for counts in self._counts)

    def add(self, column: Coded, missing: bool = True) -> None:
        """Count the values of a column (training rows only); `missing`: count the missing ones too."""
        counts = tally(column, missing)
        values = column.values
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
        order = in_order(self._values[0], self._counts[0])
        counts = self._counts[0][order]
        kept = int(np.searchsorted(-counts, -min_count, side="right"))
        values = self._values[0].take(pa.array(order[:kept]))
        return Vocabulary(values, np.concatenate([[counts[kept:].sum()], counts[:kept]]).astype(np.int64))

    def extended(self, old: Vocabulary, min_count: int = 1) -> Vocabulary:
        """The old ids, then those of new values that occur at least `min_count` times; counts are of what was counted
        here."""
        found = self.vocabulary()
        places = old.ids_of(found.values)  # 0: a new value
        counts = np.zeros(old.rows, np.int64)
        known = places > 0
        counts[places[known]] = found.counts[1:][known]
        added = ~known & (found.counts[1:] >= min_count)
        counts[0] = found.counts[1:][~known & ~added].sum()
        values = pa.concat_arrays([old.values, found.values.take(pa.array(np.flatnonzero(added)))])
        return Vocabulary(values, np.concatenate([counts, found.counts[1:][added]]).astype(np.int64))

    def _merge(self) -> None:
        encoded = pc.dictionary_encode(pa.concat_arrays(self._values), null_encoding="encode")
        # float64 weights are exact below 2^53
        totals = np.bincount(encoded.indices.to_numpy(), np.concatenate(self._counts), len(encoded.dictionary))
        self._values, self._counts, self._rows = [encoded.dictionary], [totals.astype(np.int64)], 0


def tally(column: Coded, missing: bool = True) -> np.ndarray:
    """Rows of each text of a column of V texts: V + 1 int64, the first of missing (0 unless `missing`)."""
    counts = np.bincount(column.codes + 1, minlength=len(column.values) + 1)
    if not missing:
        counts[0] = 0
    return counts


def in_order(values: pa.Array, counts: np.ndarray) -> np.ndarray:
    """Positions of texts by falling count, ties by text, missing last: N int64."""
    table = pa.table({"value": values, "count": counts})
    order = pc.sort_indices(table, sort_keys=[("count", "descending"), ("value", "ascending")])
    return order.to_numpy().astype(np.int64)


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
    def rare(self) -> int:
        """Training count of id 0."""
        return int(self.counts[0])

    def counts_in_parts(self) -> Iterator[np.ndarray]:
        """Training counts of ids 0..: int64."""
        yield self.counts.astype(np.int64)

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
        with VocabularyWriter(path) as writer:
            writer.write(self.values, self.counts[1:])

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


class VocabularyWriter:
    """A vocabulary's file, written in parts; the bytes do not depend on the parts."""

    def __init__(self, path: Path) -> None:
        schema = pa.schema([("value", TEXT), ("count", pa.int64())])
        self._writer = pq.ParquetWriter(path, schema, write_page_checksum=True, compression="zstd")
        self._rest = schema.empty_table()

    def write(self, values: pa.Array, counts: np.ndarray) -> None:
        part = pa.table([values, pa.array(counts.astype(np.int64))], schema=self._rest.schema)
        table = pa.concat_tables([self._rest, part]).combine_chunks()
        whole = len(table) // ROW_GROUP * ROW_GROUP
        if whole:
            self._writer.write_table(table[:whole], row_group_size=ROW_GROUP)
        self._rest = table[whole:]

    def __enter__(self) -> VocabularyWriter:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self._writer.write_table(self._rest.combine_chunks(), row_group_size=ROW_GROUP)
        self._writer.close()
