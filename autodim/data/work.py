"""One piece of a log, translated: texts with codes of its own, numbers, labels, and what decides a row's part.

`encode` keeps these on disk between its passes (so the log is read once); `encode_rows` turns them into ids at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from autodim.config.schema import DataConfig, SlotConfig
from autodim.data import splits
from autodim.data.accounting import Rejects
from autodim.data.bad_rows import reject_labels, reject_numbers, reject_weights
from autodim.data.bags import Bags, bags, weighted_bags
from autodim.data.hashing import bucketed, text_hashes
from autodim.data.labels import in_sample_space, matches, read_labels
from autodim.data.numeric import log_square_buckets
from autodim.data.reader import Piece
from autodim.data.several import absent_labels
from autodim.data.text import Coded, coded, flat, numbers, refuse_rounded, times
from autodim.errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")
Column = Coded | Bags | np.ndarray


@dataclass(frozen=True)
class Work:
    """N rows of a log.

    Attributes:
        rows: N int64, number of each row in the log.
        slots: in the config's order: texts, bags, or float64 numbers (`value`, and `buckets` by quantile).
        labels: N x T float32, NaN missing.
        key: N float64 sort keys (split by time), or empty.
        kind: what the keys are, `number` or `time`.
        parts: N int8 (split by column, file or group; see `splits`), or empty.
        number: of the piece, from 0, once it is on disk.
        nbytes: of the piece's file.
        hashes: of the distinct texts of hashed slots, by position in `slots`; not kept on disk.
        log: which of `data.logs` the rows are from.
    """

    rows: np.ndarray
    slots: tuple[Column, ...]
    labels: np.ndarray
    key: np.ndarray
    kind: str
    parts: np.ndarray
    number: int = 0
    nbytes: int = 0
    hashes: Mapping[int, np.ndarray] = field(default_factory=dict)
    log: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def save(self, path: Path) -> None:
        """Write as one Arrow file, read back by memory map."""
        columns = [c if isinstance(c, np.ndarray) else c.to_arrow() for c in self.slots]
        arrays = [pa.array(self.rows), *(pa.array(c) for c in columns), *(pa.array(c) for c in self.labels.T)]
        names = ["row", *(f"s{i}" for i in range(len(columns))), *(f"l{t}" for t in range(self.labels.shape[1]))]
        for i, column in enumerate(self.slots):
            if isinstance(column, Bags) and column.weights is not None:
                arrays.append(pa.LargeListArray.from_arrays(pa.array(column.offsets, pa.int64()), column.weights))
                names.append(f"w{i}")
        for name, array in (("key", self.key), ("part", self.parts)):
            if len(array) == len(self.rows):
                arrays.append(pa.array(array))
                names.append(name)
        table = pa.table(arrays, names=names)
        with pa.OSFile(str(path), "wb") as stream, pa.ipc.new_file(stream, table.schema) as writer:
            writer.write_table(table)

    @staticmethod
    def load(path: Path, labels: int, number: int) -> Work:
        with pa.memory_map(str(path)) as stream:
            batch = pa.ipc.open_file(stream).get_batch(0)
        names = batch.schema.names
        slots = [_back(batch.column(n)) for n in names if n[0] == "s"]
        for n in names:
            if n[0] == "w":
                slots[int(n[1:])] = replace(slots[int(n[1:])], weights=batch.column(n).values.to_numpy())  # type: ignore[type-var]
        values = np.stack([batch.column(f"l{t}").to_numpy() for t in range(labels)], axis=1)
        key = batch.column("key").to_numpy() if "key" in names else np.empty(0)
        parts = batch.column("part").to_numpy() if "part" in names else np.empty(0, np.int8)
        return Work(batch.column("row").to_numpy(), tuple(slots), values, key, "", parts, number, path.stat().st_size)


class Pieces:
    """The translated pieces on disk."""

    def __init__(self, folder: Path, labels: int) -> None:
        self._folder, self._labels, self.count = folder, labels, 0
        self.kind = ""  # of the sort keys
        self._logs: list[int] = []

    def append(self, work: Work) -> None:
        work.save(self._folder / f"{self.count}.arrow")
        self.kind = work.kind
        self._logs.append(work.log)
        self.count += 1

    def __iter__(self) -> Iterator[Work]:
        for i, log in enumerate(self._logs):
            yield replace(Work.load(self._folder / f"{i}.arrow", self._labels, i), log=log)


def translate(
    piece: Piece, data: DataConfig, first_row: int, rejects: Rejects, predict: bool = False
) -> tuple[Work, int]:
    """Translate one piece.

    Args:
        piece: rows with the columns of `data`.
        data: slots, labels, drop, split.
        first_row: number of the piece's first row.
        rejects: gains the rows whose number, time or label cannot be read.
        predict: keep every row: nothing is dropped or split, and labels may be absent or (in dropped rows) odd.

    Returns:
        (the rows kept, how many were dropped by `data.drop`).
    """
    table = piece.table
    dropped = np.zeros(table.num_rows, bool)
    for column, value in data.drop.items():
        if column in table.column_names:
            dropped |= _in(piece, column, lambda c=column, v=value: matches(table[c], v, data.missing))  # type: ignore[misc]
    keep = np.ones(len(dropped), bool) if predict else ~dropped
    rows = np.flatnonzero(keep)
    if len(rows) < table.num_rows:
        table = table.take(pa.array(rows))

    found: dict[int, np.ndarray | Bags] = {}
    good = np.ones(len(rows), bool)
    for i, slot in enumerate(data.slots):
        if slot.weights is not None or slot.weight_separator is not None:
            found[i], reasons = _in(piece, slot.source, lambda s=slot: _weighted(table, s, data.missing))  # type: ignore[misc]
            for reason, bad in reasons.items():
                reject_weights(piece, rows, bad & good, slot, reason=reason, rejects=rejects)
                good &= ~bad
        elif slot.kind in ("value", "buckets", "scaled"):
            found[i], bad = _in(piece, slot.source, lambda c=slot.source: numbers(table[c], data.missing))  # type: ignore[misc]
            reject_numbers(piece, rows, bad & good, slot.source, values=flat(table[slot.source]), rejects=rejects)
            good &= ~bad
    key, kind = np.empty(0), ""
    if data.split.by == "time" and not predict:
        column = str(data.split.column)
        key, kind = _in(piece, column, lambda: times(table[column], data.missing))
        reject_numbers(piece, rows, np.isnan(key) & good, column, values=flat(table[column]), rejects=rejects)
        good &= ~np.isnan(key)
    labels = np.full((len(rows), len(data.labels)), np.nan, np.float32)
    judged = ~dropped[rows] if predict else np.ones(len(rows), bool)
    absent = absent_labels(data, piece.log)
    for t, label in enumerate(data.labels):
        if label.source in table.column_names and t not in absent:
            source = flat(table[label.source])
            source = source.filter(pa.array(judged)) if predict else source
            read = _in(piece, label.source, lambda s=source, k=label: read_labels(s, k, data.missing))  # type: ignore[misc]
            labels[judged, t] = read.values
            odd = np.zeros(len(rows), bool)
            odd[judged] = read.odd
            reject_labels(piece, rows[odd & good], label, found=read, rejects=rejects)
            good &= ~odd
    if not good.all():
        at = np.flatnonzero(good)
        table, rows = table.take(pa.array(at)), rows[at]
        found = {i: v.take(at) if isinstance(v, Bags) else v[at] for i, v in found.items()}
        key = key[at] if len(key) else key
        labels = labels[at]

    hashes: dict[int, np.ndarray] = {}

    def column_of(i: int) -> Column:
        slot = data.slots[i]
        column: Column = found[i] if i in found else _in(piece, slot.source, lambda: _texts(table, slot, data.missing))
        if isinstance(column, np.ndarray):
            return log_square_buckets(column) if slot.kind == "buckets" and slot.buckets == "log_square" else column
        if slot.hash is None:
            return column
        items, hashes[i] = bucketed(column.items if isinstance(column, Bags) else column, slot.hash)
        return replace(column, items=items) if isinstance(column, Bags) else items

    slots = tuple(each(column_of, range(len(data.slots))))
    labels = in_sample_space(labels, data.labels)
    labels[:, absent] = np.nan  # `outside: zero` too: what a log does not have is unknown
    parts = np.empty(0, np.int8)
    if data.split.by == "column" and not predict:
        named = coded(table[str(data.split.column)], data.missing)
        parts = _in(piece, str(data.split.column), lambda: splits.column_parts(named, data.split))
    elif data.split.by == "group" and not predict:
        _in(piece, str(data.split.column), lambda: refuse_rounded(table[str(data.split.column)]))
        named = coded(table[str(data.split.column)], data.missing)
        # a row without a group is one of its own
        alone = splits.random_parts(rows + first_row, data.split)
        grouped = np.append(splits.group_parts(text_hashes(named.values), data.split), np.int8(0))[named.codes]
        parts = np.where(named.codes < 0, alone, grouped).astype(np.int8)
    elif data.split.by == "file" and not predict:
        parts = np.full(len(rows), splits.file_part(Path(piece.source).name, data.split), np.int8)
    work = Work(rows + first_row, slots, labels, key, kind, parts, hashes=hashes, log=piece.log)
    return work, 0 if predict else int(dropped.sum())


def each(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`function` of every item, on as many threads as Arrow uses (it lets go of the interpreter's lock)."""
    if pa.cpu_count() == 1 or len(items) < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(min(pa.cpu_count(), len(items))) as pool:
        return list(pool.map(function, items))


def _texts(table: pa.Table, slot: SlotConfig, missing: tuple[str, ...]) -> Coded | Bags:
    refuse_rounded(table[slot.source])
    if slot.kind == "multi":
        return bags(table[slot.source], slot.separator, missing)
    return coded(table[slot.source], missing, slot.prefix)


def _weighted(table: pa.Table, slot: SlotConfig, missing: tuple[str, ...]) -> tuple[Bags, dict[str, np.ndarray]]:
    refuse_rounded(table[slot.source])
    return weighted_bags(
        table[slot.source],
        None if slot.weights is None else table[slot.weights],
        separator=slot.separator,
        weight_separator=slot.weight_separator,
        missing=missing,
        negative=slot.pooling == "sum",
    )


def _in(piece: Piece, column: str, function: Callable[[], Result]) -> Result:
    """`function()`, whose DataError gains the place."""
    try:
        return function()
    except DataError as error:
        place = f"{piece.unit}s from {piece.lines.of(0)}" if len(piece.table) else "no rows"
        raise DataError(f"{piece.source}, {place}, column {column!r}: {error}") from None


def _back(array: pa.Array) -> Column:
    if pa.types.is_dictionary(array.type):
        return Coded.from_arrow(array)
    return Bags.from_arrow(array) if pa.types.is_large_list(array.type) else array.to_numpy()
