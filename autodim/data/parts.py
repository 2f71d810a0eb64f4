"""Pass 2's files: the encoded columns of train, valid and test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np

from autodim.config.schema import DataConfig
from autodim.data.encoder import BAGS, Encoder, Ids, grouped, weighted
from autodim.data.labels import check_classes, check_spread
from autodim.data.manifest import PartRecord
from autodim.data.memory import Limits, release
from autodim.data.reader import Progress
from autodim.data.several import check_rows
from autodim.data.splits import PARTS, TRAIN
from autodim.data.work import Pieces, Work

CHUNK = 1 << 20  # rows of labels that are read back at once


def write_parts(
    pieces: Pieces,
    part_of: Callable[[Work], np.ndarray],
    encoder: Encoder,
    data: DataConfig,
    *,
    out: Path,
    tell: Progress,
    limits: Limits,
) -> list[PartRecord]:
    """Pass 2: the columns of every part.

    Args:
        pieces: the translated log.
        part_of: part of each row of a piece, N int8.
        encoder: what the training rows taught.
        data: slots and labels.
        out: a folder, which gains one folder a part.
        tell: progress.
        limits: of memory.
    """
    writers = [_Part(out / name, data) for name in PARTS]
    k = 0
    try:
        for group in grouped(pieces, limits.group):
            for work, ids in zip(group, encoder.encode(group), strict=True):
                parts = part_of(work)
                for part, writer in enumerate(writers):
                    writer.append(work, ids, np.flatnonzero(parts == part))
                k += 1
                tell("writing", k, pieces.count)
            if limits.tight:
                release()
    finally:
        for writer in writers:
            writer.close()
    check_rows(data, {name: writer.logs for name, writer in zip(PARTS, writers, strict=True)})
    train = writers[TRAIN]
    for t, label in enumerate(data.labels):
        labelled = int(train.labelled[t])
        if label.kind == "regression":
            found = train.spread()[t]
            check_spread(label.name, None if found is None else found[1], labelled, train.rows)
        else:
            check_classes(label.name, train.sums[t], labelled, train.rows)
    return [writer.record() for writer in writers]


class _Part:
    """The open files of one part."""

    def __init__(self, folder: Path, data: DataConfig) -> None:
        folder.mkdir()
        self.rows = 0
        self.logs = [0] * len(data.logs)
        self.labelled = np.zeros(len(data.labels), np.int64)
        self.sums = np.zeros(len(data.labels))
        self.folder, self.kinds = folder, [label.kind for label in data.labels]
        bags = [slot for slot in data.slots if slot.kind in BAGS]
        bag_count = len(bags)
        names = ["ids", "numeric", "labels", *(["time"] if data.split.by == "time" else [])]
        names += [f"bag_{k}_{what}" for k in range(bag_count) for what in ("values", "offsets")]
        names += [f"bag_{k}_weights" for k, slot in enumerate(bags) if weighted(slot)]
        self._files: dict[str, IO[bytes]] = {name: (folder / f"{name}.bin").open("wb") for name in names}
        self._ends = [0] * bag_count
        for k in range(bag_count):
            np.zeros(1, np.int64).tofile(self._files[f"bag_{k}_offsets"])

    def append(self, work: Work, ids: Ids, rows: np.ndarray) -> None:
        labels = work.labels[rows]
        self.rows += len(rows)
        if self.logs:
            self.logs[work.log] += len(rows)
        self.labelled += (~np.isnan(labels)).sum(0)
        self.sums += np.nansum(labels, 0, dtype=np.float64)
        for name, array in (("ids", ids.ids[rows]), ("numeric", ids.numeric[rows]), ("labels", labels)):
            array.tofile(self._files[name])
        if "time" in self._files:
            work.key[rows].tofile(self._files["time"])
        for k, (values, offsets, weights) in enumerate(ids.bags):
            lengths = np.diff(offsets)
            chosen = np.zeros(len(lengths), bool)
            chosen[rows] = True
            items = np.repeat(chosen, lengths)
            values[items].tofile(self._files[f"bag_{k}_values"])
            if weights is not None:
                weights[items].tofile(self._files[f"bag_{k}_weights"])
            ends = self._ends[k] + np.cumsum(lengths[rows])
            ends.astype(np.int64).tofile(self._files[f"bag_{k}_offsets"])
            self._ends[k] = int(ends[-1]) if len(ends) else self._ends[k]

    def close(self) -> None:
        for stream in self._files.values():
            stream.close()

    def spread(self) -> list[tuple[float, float] | None]:
        """Mean and standard deviation of each regression, None for other labels and where there is no value.

        Read back from the closed file in pieces of a fixed size, so that the digits do not depend on how the log came.
        """
        shape = (self.rows, len(self.kinds))
        file = self.folder / "labels.bin"
        return [
            mean_and_std(np.memmap(file, np.float32, "r", shape=shape)[:, t]) if kind == "regression" and n else None
            for t, (kind, n) in enumerate(zip(self.kinds, self.labelled, strict=True))
        ]

    def record(self) -> PartRecord:
        found = self.spread()
        means = [float(p / n) if n else None for p, n in zip(self.sums, self.labelled, strict=True)]
        return PartRecord(
            rows=self.rows,
            labelled=tuple(int(n) for n in self.labelled),
            positive_rate=tuple(mean if own is None else own[0] for mean, own in zip(means, found, strict=True)),
            spread=tuple(None if own is None else own[1] for own in found),
            logs=tuple(self.logs),
        )


def mean_and_std(values: np.ndarray) -> tuple[float, float]:
    """Of N float32 but for NaN, in float64; a mean far from zero costs no digits (Chan et al. 1979)."""
    count, mean, squares = 0, 0.0, 0.0
    for start in range(0, len(values), CHUNK):
        piece = values[start : start + CHUNK].astype(np.float64)
        piece = piece[~np.isnan(piece)]
        if not len(piece):
            continue
        own, both = float(piece.mean()), count + len(piece)
        squares += float(((piece - own) ** 2).sum()) + (own - mean) ** 2 * count * len(piece) / both
        mean += (own - mean) * len(piece) / both
        count = both
    return mean, (squares / max(count, 1)) ** 0.5
