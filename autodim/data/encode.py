"""A raw log into encoded columns, in bounded memory.

Pass 1 reads the log once and keeps each piece, translated, as a temporary Arrow file. Then the parts are known, and
the training rows (only they: nothing of valid or test leaks) are counted and measured. Pass 2 writes, per part,

    ids.bin              N x S1 int32, row-major: `categorical` and `buckets` slots in the config's order
    numeric.bin          N x n float32: `value` slots, standardised, missing 0
    labels.bin           N x T float32: 0, 1, NaN missing
    bag_<k>_values.bin   int32, and bag_<k>_offsets.bin, N + 1 int64: the k-th `multi` slot

and beside them vocab_<table>.parquet, counts.bin (int64: training count of every id, tables one after another) and
manifest.json. Memory: one piece, the vocabularies, and (quantiles, moments) up to SAMPLE numbers of one column.
The result depends on the rows and the config only, not on pieces, files or threads.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from autodim.config.schema import DataConfig
from autodim.data import splits
from autodim.data.accounting import Rejects
from autodim.data.labels import check_classes
from autodim.data.logs import LOGS
from autodim.data.manifest import (
    Manifest,
    NumericRecord,
    PartRecord,
    RowsRecord,
    SlotRecord,
    TableRecord,
    config_hash,
    source_hash,
)
from autodim.data.numeric import Scale, fit_scale, quantile_edges
from autodim.data.reader import Progress, open_log
from autodim.data.splits import PARTS, TRAIN
from autodim.data.vocabulary import Counter, Vocabulary
from autodim.data.work import Encoder, Ids, Work, each, grouped, translate
from autodim.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

SAMPLE = 1 << 24  # training rows that quantiles, moments and time thresholds see; of a longer log a fixed sample


def encode(
    config: DataConfig,
    out: Path,
    base: Path = Path(),
    progress: Progress | None = None,
    source: pd.DataFrame | None = None,
) -> Manifest:
    """Encode a log into the folder `out` (made if it is not there; the caller renames it once it is whole).

    Args:
        config: the config's data section.
        out: an empty folder.
        base: what relative paths are relative to.
        progress: told (what, units done, units in all).
        source: a frame to encode instead of `config.path`.

    Raises:
        ConfigError: a section that cannot be meant (no slots, a label that is a slot too, ...).
        DataError: a log that is not as described.

    Cost: one reading of the log; 1 M rows x 39 slots of CSV take about 4 s on one core; disk for the codes twice.
    """
    out.mkdir(parents=True, exist_ok=True)
    data = config
    if config.log is not None and source is None:
        data = LOGS[config.log](config, out / "log")
    check_config(data)
    hashes = config_hash(config), source_hash(config, base, source)
    folder = out / "_work"
    folder.mkdir()
    try:
        tell = progress or (lambda what, done, total: None)
        pieces, accounted = _read(data, base, folder, source, tell)
        parts, thresholds = _assign(pieces, data)
        sizes = [int(sum((p == part).sum() for p in parts)) for part in range(len(PARTS))]
        splits.check_parts(sizes, data.split)
        encoder = _learn(pieces, parts, data, tell)
        records = _write(pieces, parts, encoder, data, out, tell)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    tables = tuple(
        TableRecord(name=name, rows=v.rows, file=f"vocab_{k}.parquet", missing=v.missing_id, rare=int(v.counts[0]))
        for k, (name, v) in enumerate(encoder.vocabularies.items())
    )
    for table in tables:
        encoder.vocabularies[table.name].save(out / table.file)
    with (out / "counts.bin").open("wb") as stream:
        for vocabulary in encoder.vocabularies.values():
            vocabulary.counts.astype(np.int64).tofile(stream)
    manifest = Manifest(
        data=data,
        slots=tuple(_slot_records(data, encoder)),
        tables=tables,
        numeric=tuple(
            NumericRecord(name=data.slots[i].name, mean=s.mean, std=s.std, log=s.log)
            for i, s in sorted(encoder.scales.items())
        ),
        labels=tuple(label.name for label in data.labels),
        parts=dict(zip(PARTS, records, strict=True)),
        rows=accounted,
        thresholds=tuple(min(t, 1.7e308) for t in thresholds) if thresholds else None,  # JSON has no infinity
        config_hash=hashes[0],
        source_hash=hashes[1],
    )
    manifest.save(out)
    return manifest


def check_config(data: DataConfig) -> None:
    """Raises ConfigError for a data section that cannot be encoded."""
    if not data.slots:
        raise ConfigError("data.slots is empty: name the input fields of the log")
    if not data.labels:
        raise ConfigError("data.labels is empty: name at least one label")
    for what, names in (("slots", [s.name for s in data.slots]), ("labels", [label.name for label in data.labels])):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"data.{what} names {twice[0]!r} more than once; give each its own name")
    for label in data.labels:
        for slot in data.slots:
            if slot.source == label.source:
                raise ConfigError(
                    f"slot {slot.name!r} reads column {slot.source!r}, which is label {label.name!r}: the model would "
                    "be told the answer; remove the slot"
                )
    for table, slots in _tables(data).items():
        limits = {data.slots[i].min_count or data.min_count for i in slots}
        if len(limits) > 1:
            raise ConfigError(f"the slots of table {table!r} have different min_count ({sorted(limits)}); give one")
    splits.check_split(data.split)


def _tables(data: DataConfig) -> dict[str, list[int]]:
    """Positions in `data.slots` of the slots of each table, tables in order of appearance."""
    found: dict[str, list[int]] = {}
    for i, slot in enumerate(data.slots):
        if slot.kind != "value":
            found.setdefault(slot.table or slot.name, []).append(i)
    return found


class _Pieces:
    """The translated pieces on disk."""

    def __init__(self, folder: Path, labels: int) -> None:
        self._folder, self._labels, self.count = folder, labels, 0

    def append(self, work: Work) -> None:
        work.save(self._folder / f"{self.count}.arrow")
        self.count += 1

    def __iter__(self) -> Iterator[Work]:
        return (Work.load(self._folder / f"{i}.arrow", self._labels) for i in range(self.count))


def _read(
    data: DataConfig, base: Path, folder: Path, source: pd.DataFrame | None, tell: Progress
) -> tuple[_Pieces, RowsRecord]:
    rejects = Rejects(data.max_bad_rows)
    pieces = _Pieces(folder, len(data.labels))
    rows = used = dropped = 0
    kinds: set[str] = set()
    for piece in open_log(data, base, rejects=rejects, source=source, progress=tell):
        work, left_out = translate(piece, data, rows, rejects)
        rows += piece.table.num_rows
        used, dropped = used + len(work), dropped + left_out
        if len(work):
            pieces.append(work)
            kinds.add(work.kind)
    if len(kinds) > 1:
        raise DataError(f"split column {data.split.column!r} holds numbers in some rows and times in others")
    if not used:
        raise DataError(f"no row is left of {data.path or 'the log'}: {dropped} dropped, {rejects.rejected} rejected")
    read = used + dropped + rejects.rejected
    return pieces, RowsRecord(
        read=read,
        used=used,
        rejected=rejects.rejected,
        dropped=dropped,
        blank_lines=rejects.blank,
        rejected_examples=tuple(rejects.examples),
    )


def _assign(pieces: _Pieces, data: DataConfig) -> tuple[list[np.ndarray], tuple[float, float] | None]:
    """Part of each row, per piece."""
    if data.split.by == "random":
        return [splits.random_parts(work.rows, data.split) for work in pieces], None
    if data.split.by == "column":
        return [splits.resolve_from(work.parts, work.rows, data.split) for work in pieces], None
    total = sum(len(work) for work in pieces)
    keys = np.concatenate([work.key[_sampled(work, total)] for work in pieces])
    thresholds = splits.time_thresholds(keys, data.split)
    return [splits.time_parts(work.key, thresholds) for work in pieces], thresholds


def _sampled(work: Work, total: int) -> np.ndarray | slice:
    """Rows to look at where a log has too many: a pure function of the row number."""
    if total <= SAMPLE:
        return slice(None)
    return splits.uniform(work.rows, 0, splits.SAMPLE_SALT) < SAMPLE / total


def _learn(pieces: _Pieces, parts: list[np.ndarray], data: DataConfig, tell: Progress) -> Encoder:
    """Vocabularies, edges and scales, from the training rows."""
    trained = sum(int((p == TRAIN).sum()) for p in parts)

    def gather(i: int) -> np.ndarray:
        found = []
        for work, part in zip(pieces, parts, strict=True):
            chosen = part == TRAIN
            if trained > SAMPLE:
                chosen &= _sampled(work, trained)
            found.append(np.asarray(work.slots[i])[chosen])
        return np.concatenate(found)

    edges: dict[int, tuple[float, ...]] = {}
    scales: dict[int, Scale] = {}
    for i, slot in enumerate(data.slots):
        if slot.kind == "value":
            scales[i] = fit_scale(gather(i))
        elif slot.kind == "buckets" and slot.buckets == "quantile":
            edges[i] = quantile_edges(gather(i), slot.bins)
    tables = _tables(data)
    counters = {table: Counter() for table in tables}
    encoder = Encoder(data.slots, {}, edges, scales)
    for k, (work, part) in enumerate(zip(pieces, parts, strict=True)):

        def count(table: str, work: Work = work, chosen: np.ndarray = part == TRAIN) -> None:
            for i in tables[table]:
                column, text = work.slots[i], encoder.texts(i, work)
                multi = data.slots[i].kind == "multi"
                mask = np.repeat(chosen, np.diff(column.offsets)) if multi else chosen  # type: ignore[union-attr]
                counters[table].add(type(text)(text.codes[mask], text.values), missing=not multi)

        each(count, list(tables))
        tell("counting", k + 1, pieces.count)

    def finish(table: str) -> Vocabulary:
        return counters[table].vocabulary(data.slots[tables[table][0]].min_count or data.min_count)

    vocabularies = dict(zip(tables, each(finish, list(tables)), strict=True))
    return Encoder(data.slots, vocabularies, edges, scales)


def _write(
    pieces: _Pieces, parts: list[np.ndarray], encoder: Encoder, data: DataConfig, out: Path, tell: Progress
) -> list[PartRecord]:
    """Pass 2: the columns of every part."""
    writers = [_Part(out / name, data) for name in PARTS]
    k = 0
    try:
        for group in grouped(pieces):
            for work, ids in zip(group, encoder.encode(group), strict=True):
                for part, writer in enumerate(writers):
                    writer.append(work, ids, np.flatnonzero(parts[k] == part))
                k += 1
                tell("writing", k, pieces.count)
    finally:
        for writer in writers:
            writer.close()
    train = writers[TRAIN]
    for t, label in enumerate(data.labels):
        check_classes(label.name, train.positives[t], int(train.labelled[t]), train.rows)
    return [writer.record() for writer in writers]


class _Part:
    """The open files of one part."""

    def __init__(self, folder: Path, data: DataConfig) -> None:
        folder.mkdir()
        self.rows = 0
        self.labelled = np.zeros(len(data.labels), np.int64)
        self.positives = np.zeros(len(data.labels))
        bag_count = sum(slot.kind == "multi" for slot in data.slots)
        names = ["ids", "numeric", "labels"]
        names += [f"bag_{k}_{what}" for k in range(bag_count) for what in ("values", "offsets")]
        self._files: dict[str, IO[bytes]] = {name: (folder / f"{name}.bin").open("wb") for name in names}
        self._ends = [0] * bag_count
        for k in range(bag_count):
            np.zeros(1, np.int64).tofile(self._files[f"bag_{k}_offsets"])

    def append(self, work: Work, ids: Ids, rows: np.ndarray) -> None:
        labels = work.labels[rows]
        self.rows += len(rows)
        self.labelled += (~np.isnan(labels)).sum(0)
        self.positives += np.nansum(labels, 0, dtype=np.float64)
        for name, array in (("ids", ids.ids[rows]), ("numeric", ids.numeric[rows]), ("labels", labels)):
            array.tofile(self._files[name])
        for k, (values, offsets) in enumerate(ids.bags):
            lengths = np.diff(offsets)
            chosen = np.zeros(len(lengths), bool)
            chosen[rows] = True
            values[np.repeat(chosen, lengths)].tofile(self._files[f"bag_{k}_values"])
            ends = self._ends[k] + np.cumsum(lengths[rows])
            ends.astype(np.int64).tofile(self._files[f"bag_{k}_offsets"])
            self._ends[k] = int(ends[-1]) if len(ends) else self._ends[k]

    def close(self) -> None:
        for stream in self._files.values():
            stream.close()

    def record(self) -> PartRecord:
        rates = [float(p / n) if n else None for p, n in zip(self.positives, self.labelled, strict=True)]
        return PartRecord(
            rows=self.rows, labelled=tuple(int(n) for n in self.labelled), positive_rate=tuple(rates)
        )


def _slot_records(data: DataConfig, encoder: Encoder) -> Iterator[SlotRecord]:
    one_hot = multi = 0
    for i, slot in enumerate(data.slots):
        if slot.kind == "value":
            continue
        position = multi if slot.kind == "multi" else one_hot
        yield SlotRecord(
            name=slot.name,
            table=slot.table or slot.name,
            kind=slot.kind,
            pooling=slot.pooling,
            position=position,
            edges=encoder.edges.get(i),
        )
        multi, one_hot = multi + (slot.kind == "multi"), one_hot + (slot.kind != "multi")
