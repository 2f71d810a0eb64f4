"""A raw log into encoded columns, in bounded memory.

Pass 1 reads the log once (several logs one after another, several.py) and keeps each piece, translated, as a temporary
Arrow file. Then the parts are known, and the training rows (only they: nothing of valid or test leaks) are counted and
measured. Pass 2 writes, per part,

    ids.bin              N x S1 int32, row-major: `categorical` and `buckets` slots in the config's order
    numeric.bin          N x n float32: `value` slots, standardised, missing 0
    labels.bin           N x T float32: 0, 1, NaN missing
    time.bin             N float64: when a row was (only with a split by time)
    bag_<k>_values.bin   int32, and bag_<k>_offsets.bin, N + 1 int64: the k-th `multi` or `scaled` slot;
                         bag_<k>_weights.bin, float32, where it has weights (of `mean`: adding up to 1 in a row)

and beside them vocab_<table>.parquet, counts.bin (int64: training count of every id, tables one after another) and
manifest.json. Memory: shares of `data.memory` (memory.py): a piece, the vocabularies (those beyond their share are
counted on disk, spill.py), and up to SAMPLE numbers of one column.
The result depends on the rows and the config only, not on pieces, files, threads or memory.
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
from autodim.data.check import check_config, check_files, tables_of
from autodim.data.encoder import BAGS, Encoder, weighted
from autodim.data.hashing import Sketch
from autodim.data.learn import Learnt, PartOf, learn, sampled, vocabulary_file
from autodim.data.logs import LOGS
from autodim.data.manifest import (
    HashRecord,
    Manifest,
    NumericRecord,
    RowsRecord,
    SlotRecord,
    TableRecord,
    config_hash,
    content_hash,
)
from autodim.data.memory import Limits, release
from autodim.data.parts import write_parts
from autodim.data.reader import Progress, open_log
from autodim.data.several import named
from autodim.data.splits import PARTS, TRAIN
from autodim.data.work import Pieces, translate
from autodim.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


def encode(
    config: DataConfig,
    out: Path,
    base: Path = Path(),
    progress: Progress | None = None,
    source: pd.DataFrame | None = None,
    learnt: Learnt | None = None,
) -> Manifest:
    """Encode a log into the folder `out` (made if it is not there; the caller renames it once it is whole).

    Args:
        config: the config's data section.
        out: an empty folder.
        base: what relative paths are relative to.
        progress: told (what, units done, units in all).
        source: a frame to encode instead of `config.path`.
        learnt: an earlier log of the same slots: its ids, bucket edges and scales hold, and new values get new ids.

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
    if data.split.by == "file":
        check_files(data, base, source is not None)
    limits = Limits.of(data.memory)
    hashes = config_hash(config), content_hash(config, base, source, progress)
    folder = out / "_work"
    folder.mkdir()
    try:
        tell = progress or (lambda what, done, total: None)
        pieces, accounted, sketches = _read(data, base, folder, source, limits, tell)
        part_of, thresholds = _assign(pieces, data)
        release()
        sizes = np.zeros(len(PARTS), np.int64)
        for work in pieces:
            sizes += np.bincount(part_of(work), minlength=len(PARTS))
        splits.check_parts(sizes.tolist(), data.split)
        encoder = learn(
            pieces,
            part_of,
            data,
            trained=int(sizes[TRAIN]),
            limits=limits,
            out=out,
            folder=folder,
            tell=tell,
            learnt=learnt,
        )
        records = write_parts(pieces, part_of, encoder, data, out=out, tell=tell, limits=limits)
        tables = tuple(_table_records(data, encoder, sketches))
        with (out / "counts.bin").open("wb") as stream:
            for table in tables:
                for counts in encoder.table(table.name).counts_in_parts():
                    counts.tofile(stream)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    manifest = Manifest(
        data=data.model_copy(update={"path": config.path}),  # not the temporary place of a built log
        slots=tuple(_slot_records(data, encoder)),
        tables=tables,
        numeric=tuple(
            _numeric_record(data, encoder, i) for i in sorted(encoder.scales) if data.slots[i].kind == "value"
        ),
        labels=tuple(label.name for label in data.labels),
        parts=dict(zip(PARTS, records, strict=True)),
        rows=accounted,
        time=pieces.kind or None,
        thresholds=tuple(min(t, 1.7e308) for t in thresholds) if thresholds else None,  # JSON has no infinity
        config_hash=hashes[0],
        source_hash=hashes[1],
    )
    manifest.save(out)
    return manifest


def _read(
    data: DataConfig, base: Path, folder: Path, source: pd.DataFrame | None, limits: Limits, tell: Progress
) -> tuple[Pieces, RowsRecord, dict[str, Sketch]]:
    rejects = Rejects(data.max_bad_rows)
    pieces = Pieces(folder, len(data.labels))
    rows = used = dropped = 0
    kinds: set[str] = set()
    sketches: dict[str, Sketch] = {}
    for piece in open_log(data, base, rejects=rejects, source=source, progress=tell, block_bytes=limits.block):
        work, left_out = translate(piece, data, rows, rejects)
        rows += piece.table.num_rows
        if limits.tight:
            del piece
            release()
        used, dropped = used + len(work), dropped + left_out
        if len(work):
            pieces.append(work)
            kinds.add(work.kind)
        for i, hashes in work.hashes.items():
            table = data.slots[i].table or data.slots[i].name
            sketches[table] = Sketch.of([*([sketches[table].smallest] if table in sketches else []), hashes])
    if len(kinds) > 1:
        raise DataError(f"split column {data.split.column!r} holds numbers in some rows and times in others")
    if not used:
        raise DataError(f"no row is left of {named(data)}: {dropped} dropped, {rejects.rejected} rejected")
    read = used + dropped + rejects.rejected
    accounted = RowsRecord(
        read=read,
        used=used,
        rejected=rejects.rejected,
        dropped=dropped,
        blank_lines=rejects.blank,
        rejected_examples=tuple(rejects.examples),
    )
    return pieces, accounted, sketches


def _assign(pieces: Pieces, data: DataConfig) -> tuple[PartOf, tuple[float, float] | None]:
    """Part of each row of a piece, computed again for each pass: it is cheaper than a number a row in memory."""
    split = data.split
    if split.by == "random":
        return lambda work: splits.random_parts(work.rows, split), None
    if split.by == "group":
        return lambda work: work.parts, None
    if split.by in ("column", "file"):
        return lambda work: splits.resolve_from(work.parts, work.rows, split), None
    total = sum(len(work) for work in pieces)
    keys = np.concatenate([work.key[sampled(work, total)] for work in pieces])
    thresholds = splits.time_thresholds(keys, split)
    return lambda work: splits.time_parts(work.key, thresholds), thresholds


def _table_records(data: DataConfig, encoder: Encoder, sketches: dict[str, Sketch]) -> Iterator[TableRecord]:
    for k, (name, slots) in enumerate(tables_of(data).items()):
        found, sketch, buckets = encoder.table(name), sketches.get(name), data.slots[slots[0]].hash
        yield TableRecord(
            name=name,
            rows=found.rows,
            file=vocabulary_file(k),
            missing=found.missing_id,
            rare=found.rare,
            hashed=HashRecord(buckets=buckets, distinct=sketch.distinct(), exact=sketch.exact)
            if sketch and buckets
            else None,
        )


def _numeric_record(data: DataConfig, encoder: Encoder, i: int) -> NumericRecord:
    scale = encoder.scales[i]
    return NumericRecord(name=data.slots[i].name, mean=scale.mean, std=scale.std, log=scale.log)


def _slot_records(data: DataConfig, encoder: Encoder) -> Iterator[SlotRecord]:
    one_hot = bag = 0
    for i, slot in enumerate(data.slots):
        if slot.kind == "value":
            continue
        position = bag if slot.kind in BAGS else one_hot
        yield SlotRecord(
            name=slot.name,
            table=slot.table or slot.name,
            kind=slot.kind,
            pooling=slot.pooling,
            position=position,
            edges=encoder.edges.get(i),
            weighted=weighted(slot),
            scale=_numeric_record(data, encoder, i) if slot.kind == "scaled" else None,
        )
        bag, one_hot = bag + (slot.kind in BAGS), one_hot + (slot.kind not in BAGS)
