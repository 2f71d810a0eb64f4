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
from typing import TYPE_CHECKING

import numpy as np

from autodim.config.schema import DataConfig
from autodim.data import splits
from autodim.data.accounting import Rejects
from autodim.data.check import check_config, tables_of
from autodim.data.encoder import Encoder
from autodim.data.logs import LOGS
from autodim.data.manifest import (
    Manifest,
    NumericRecord,
    RowsRecord,
    SlotRecord,
    TableRecord,
    config_hash,
    source_hash,
)
from autodim.data.numeric import Scale, fit_scale, quantile_edges
from autodim.data.parts import write_parts
from autodim.data.reader import Progress, open_log
from autodim.data.splits import PARTS, TRAIN
from autodim.data.vocabulary import Counter, Vocabulary
from autodim.data.work import Pieces, Work, each, translate
from autodim.errors import DataError

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

    Cost: one reading of the log; 1 M rows x 39 slots of CSV with 1.2 M ids take about 7 s on one core (4 s of it
    reading); disk for the codes twice.
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
        records = write_parts(pieces, parts, encoder, data, out=out, tell=tell)
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
        data=data.model_copy(update={"path": config.path}),  # not the temporary place of a built log
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


def _read(
    data: DataConfig, base: Path, folder: Path, source: pd.DataFrame | None, tell: Progress
) -> tuple[Pieces, RowsRecord]:
    rejects = Rejects(data.max_bad_rows)
    pieces = Pieces(folder, len(data.labels))
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


def _assign(pieces: Pieces, data: DataConfig) -> tuple[list[np.ndarray], tuple[float, float] | None]:
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


def _learn(pieces: Pieces, parts: list[np.ndarray], data: DataConfig, tell: Progress) -> Encoder:
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
    tables = tables_of(data)
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
