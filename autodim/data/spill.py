"""A vocabulary that does not fit in memory, counted and ordered on disk: the same ids as `vocabulary.Counter` gives.

The distinct texts of every piece ("records", with their training counts) are spread over partitions by their hash, so
that equal texts meet in one partition and one partition fits in memory. Each partition is merged, its kept texts are
sorted by falling count (ties by text) into a run, and the runs are merged into the vocabulary's file a chunk at a time.
The ids then flow back the same way: per partition to its records, and per piece from all partitions.

Every step reads and writes forward only, but for the records of one partition, which lie in one place per piece.
Letters: S segments (one per piece and slot of the table), P partitions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from autodim.data.hashing import text_hashes
from autodim.data.text import TEXT, Coded
from autodim.data.vocabulary import VocabularyWriter, in_order

CHUNK = 1 << 14  # rows of a run that are in memory at once, at most
MOST = 1 << 10  # partitions

Segment = tuple[Coded, np.ndarray]  # texts, and N + 1 training counts: of missing, then of each text


class Spilled:
    """One table's vocabulary on disk.

    Args:
        folder: an empty folder of its own.
        segments: called (twice) for the S segments in order.
        partition: bytes of records that fit in memory.
        min_count: rarer texts share id 0.
        out: the vocabulary's file.

    Attributes:
        rows: ids, with id 0.
        rare: training count of id 0.
        missing_id: id of the missing value; 0 where training rows have none.

    Cost: the distinct texts of all pieces three times through the disk; memory about 5 x `partition`.
    """

    def __init__(
        self,
        folder: Path,
        segments: Callable[[], Iterator[Segment]],
        *,
        partition: int,
        min_count: int,
        out: Path,
    ) -> None:
        folder.mkdir()
        self._folder = folder
        total = sum(column.values.nbytes + 16 * len(column.values) for column, _ in segments())
        self._partitions = min(MOST, 1 + total // max(1, partition))
        self._chunk = max(64, min(CHUNK, partition // (128 * self._partitions)))  # 128: bytes a row, and its sorting
        self._sizes = self._scatter(segments())  # S x P
        self.rare = 0
        runs = self._merge_records(max(1, min_count))
        self.rows, self.missing_id = self._merge_runs(runs, out)
        self._number(runs)
        before = np.concatenate([[0], np.cumsum(self._sizes.sum(0))[:-1]])  # P: records of the partitions before
        self._starts = before + np.concatenate([np.zeros_like(self._sizes[:1]), np.cumsum(self._sizes, 0)[:-1]])
        self._firsts = np.concatenate([[0], np.cumsum(self._sizes.sum(1))])  # S + 1
        (folder / "records.arrow").unlink()

    def ids(self, segment: int) -> np.ndarray:
        """Ids of a segment's texts, and behind them the id of missing (so that code -1 reads it): N + 1 int32."""
        sizes, starts = self._sizes[segment], self._starts[segment]
        with (self._folder / "ids.bin").open("rb") as found:
            parts = [os.pread(found.fileno(), 4 * int(n), 4 * int(at)) for n, at in zip(sizes, starts, strict=True)]
        count = int(sizes.sum())
        with (self._folder / "order.bin").open("rb") as stream:
            order = np.frombuffer(os.pread(stream.fileno(), 4 * count, 4 * int(self._firsts[segment])), np.int32)
        result = np.empty(count, np.int32)
        result[order] = np.frombuffer(b"".join(parts), np.int32)
        return result

    def counts_in_parts(self) -> Iterator[np.ndarray]:
        """Training counts of ids 0.., a part at a time: int64."""
        yield np.array([self.rare], np.int64)
        with (self._folder / "counts.bin").open("rb") as stream:
            while len(part := np.fromfile(stream, np.int64, CHUNK)):
                yield part

    def _scatter(self, segments: Iterator[Segment]) -> np.ndarray:
        """Writes the records, of each segment the partitions in order; returns how many there are, S x P."""
        sizes = []
        schema = pa.schema([("value", TEXT), ("count", pa.int64())])
        with (
            pa.OSFile(str(self._folder / "records.arrow"), "wb") as stream,
            pa.ipc.new_file(stream, schema) as writer,
            (self._folder / "order.bin").open("wb") as orders,
        ):
            for column, counts in segments:
                where = (text_hashes(column.values) >> np.uint64(32)) % np.uint64(self._partitions)
                where = np.append(where, np.uint64(0))  # missing
                order = np.argsort(where, kind="stable").astype(np.int32)
                order.tofile(orders)
                sizes.append(np.bincount(where.astype(np.int64), minlength=self._partitions))
                values = pa.concat_arrays([column.values, pa.nulls(1, TEXT)]).take(pa.array(order))
                records = pa.record_batch([values, pa.array(np.roll(counts, -1)[order])], schema=schema)
                ends = np.cumsum(sizes[-1])
                for end, size in zip(ends, sizes[-1], strict=True):
                    writer.write_batch(records.slice(end - size, size))
        return np.array(sizes, np.int64).reshape(-1, self._partitions)

    def _merge_records(self, min_count: int) -> list[int]:
        """Writes per partition its run (kept texts in order) and each record's place in it; returns the runs' rows."""
        runs = []
        with (
            pa.OSFile(str(self._folder / "records.arrow"), "rb") as stream,
            (self._folder / "places.bin").open("wb") as out,
        ):
            records = pa.ipc.open_file(stream)
            for p in range(self._partitions):
                batches = [records.get_batch(s * self._partitions + p) for s in range(len(self._sizes))]
                values = pa.concat_arrays([batch.column(0) for batch in batches])
                weights = np.concatenate([batch.column(1).to_numpy() for batch in batches])
                del batches
                encoded = pc.dictionary_encode(values, null_encoding="encode")
                codes = encoded.indices.to_numpy()
                # float64 weights are exact below 2^53
                totals = np.bincount(codes, weights, len(encoded.dictionary)).astype(np.int64)
                kept = np.flatnonzero(totals >= min_count)
                self.rare += int(totals[totals < min_count].sum())
                values = encoded.dictionary.take(pa.array(kept))
                order = in_order(values, totals[kept])
                place = np.full(len(totals), -1, np.int32)
                place[kept[order]] = np.arange(len(kept), dtype=np.int32)
                place[codes].tofile(out)
                run = pa.record_batch([values.take(pa.array(order)), pa.array(totals[kept[order]])], ["value", "count"])
                with pa.OSFile(str(self._run(p)), "wb") as target, pa.ipc.new_file(target, run.schema) as writer:
                    for start in range(0, len(kept), self._chunk):
                        writer.write_batch(run.slice(start, self._chunk))
                runs.append(len(kept))
        return runs

    def _merge_runs(self, runs: list[int], out: Path) -> tuple[int, int]:
        """Writes the vocabulary, the counts, and per run the ids of its rows; returns (ids with id 0, missing's)."""
        first, missing = 1, 0
        readers = [_Run(self._run(p)) for p in range(len(runs))]
        targets = [(self._folder / f"run_{p}.bin").open("wb") for p in range(len(runs))]
        try:
            with VocabularyWriter(out) as writer, (self._folder / "counts.bin").open("wb") as counted:
                while live := [p for p, reader in enumerate(readers) if reader.fill()]:
                    values = pa.concat_arrays([readers[p].values for p in live])
                    counts = np.concatenate([readers[p].counts for p in live])
                    origin = np.repeat(live, [len(readers[p].counts) for p in live])
                    order = in_order(values, counts)
                    # what stands behind the last row of a run's chunk may also stand behind what is still on disk
                    ends = np.cumsum([len(readers[p].counts) for p in live]) - 1
                    where = np.empty(len(order), np.int64)
                    where[order] = np.arange(len(order))
                    safe = [where[end] for p, end in zip(live, ends, strict=True) if not readers[p].finished]
                    order = order[: min(safe) + 1] if safe else order
                    values, counts, origin = values.take(pa.array(order)), counts[order], origin[order]
                    writer.write(values, counts)
                    counts.tofile(counted)
                    if values.null_count:
                        missing = first + int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
                    ids = np.arange(first, first + len(order), dtype=np.int32)
                    first += len(order)
                    for p in np.unique(origin):
                        mine = ids[origin == p]
                        mine.tofile(targets[p])
                        readers[p].drop(len(mine))
        finally:
            for target in targets:
                target.close()
            for reader in readers:
                reader.close()
        return first, missing

    def _number(self, runs: list[int]) -> None:
        """Each record's place in its run becomes its id."""
        with (self._folder / "places.bin").open("rb") as places, (self._folder / "ids.bin").open("wb") as out:
            for p, rows in enumerate(runs):
                path = self._folder / f"run_{p}.bin"
                ids = np.append(np.fromfile(path, np.int32, rows), np.int32(0))  # place -1 reads the 0
                ids[np.fromfile(places, np.int32, int(self._sizes[:, p].sum()))].tofile(out)
                path.unlink()
                self._run(p).unlink()
        (self._folder / "places.bin").unlink()

    def _run(self, p: int) -> Path:
        return self._folder / f"run_{p}.arrow"


class _Run:
    """A sorted run, read a chunk at a time."""

    def __init__(self, path: Path) -> None:
        self._stream: Any = pa.OSFile(str(path), "rb")
        self._reader = pa.ipc.open_file(self._stream)
        self._next = 0
        self.values, self.counts = pa.array([], TEXT), np.empty(0, np.int64)

    @property
    def finished(self) -> bool:
        """Whether nothing is left on disk."""
        return self._next == self._reader.num_record_batches

    def fill(self) -> bool:
        """Reads the next chunk where the last one is used up; False at the end."""
        if not len(self.counts) and not self.finished:
            batch = self._reader.get_batch(self._next)
            self._next += 1
            self.values, self.counts = batch.column(0), batch.column(1).to_numpy()
        return len(self.counts) > 0

    def drop(self, rows: int) -> None:
        self.values, self.counts = self.values[rows:], self.counts[rows:]

    def close(self) -> None:
        self._stream.close()
