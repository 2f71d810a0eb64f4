"""What the training rows teach: vocabularies, bucket edges and scales."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autodim.config.schema import DataConfig
from autodim.data import splits
from autodim.data.bags import Bags
from autodim.data.check import tables_of
from autodim.data.encoder import Encoder
from autodim.data.memory import Limits, release
from autodim.data.numeric import Scale, fit_scale, quantile_edges
from autodim.data.reader import Progress
from autodim.data.spill import Segment, Spilled
from autodim.data.splits import TRAIN
from autodim.data.text import Coded
from autodim.data.vocabulary import Counter, Vocabulary, tally
from autodim.data.work import Pieces, Work, each

SAMPLE = 1 << 20  # training rows that quantiles, moments and time thresholds see; of a longer log a fixed sample

PartOf = Callable[[Work], np.ndarray]  # part of each row of a piece, N int8


@dataclass(frozen=True)
class Learnt:
    """What an earlier log taught: vocabularies by table, edges and scales by slot (see `Encoder`)."""

    vocabularies: dict[str, Vocabulary]
    edges: dict[int, tuple[float, ...]]
    scales: dict[int, Scale]


def sampled(work: Work, total: int) -> np.ndarray | slice:
    """Rows to look at where a log has too many: a pure function of the row number."""
    if total <= SAMPLE:
        return slice(None)
    return splits.uniform(work.rows, 0, splits.SAMPLE_SALT) < SAMPLE / total


def learn(
    pieces: Pieces,
    part_of: PartOf,
    data: DataConfig,
    *,
    trained: int,
    limits: Limits,
    out: Path,
    folder: Path,
    tell: Progress,
    learnt: Learnt | None = None,
) -> Encoder:
    """Count and measure the training rows.

    Args:
        pieces: the translated log.
        part_of: part of each row of a piece.
        data: slots.
        trained: training rows.
        limits: vocabularies beyond them go to disk.
        out: where the vocabularies' files go.
        folder: for temporary files.
        tell: progress.
        learnt: of an earlier log: its ids, edges and scales hold, and new values get ids behind its own. Vocabularies
            then stay in memory, as the earlier ones do.
    """

    def gather(i: int) -> np.ndarray:
        found = []
        for work in pieces:
            chosen = part_of(work) == TRAIN
            if trained > SAMPLE:
                chosen &= sampled(work, trained)
            found.append(np.asarray(work.slots[i])[chosen])
        return np.concatenate(found)

    edges: dict[int, tuple[float, ...]] = {}
    scales: dict[int, Scale] = {}
    if learnt is not None:
        edges, scales = learnt.edges, learnt.scales
    for i, slot in enumerate(data.slots if learnt is None else ()):
        if slot.kind in ("value", "scaled"):
            scales[i] = fit_scale(gather(i))
        elif slot.kind == "buckets" and slot.buckets == "quantile":
            edges[i] = quantile_edges(gather(i), slot.bins)
    tables = tables_of(data)
    encoder = Encoder(data.slots, {}, edges, scales)
    counters = _count(pieces, part_of, encoder, tables, limits, tell, spill=learnt is None)

    def least(table: str) -> int:
        first = data.slots[tables[table][0]]
        return 1 if first.kind == "scaled" else first.min_count or data.min_count

    def finish(table: str) -> Vocabulary:
        counter = counters.pop(table)
        if learnt is not None:
            return counter.extended(learnt.vocabularies[table], least(table))
        return counter.vocabulary(least(table))

    kept = list(counters)
    vocabularies = dict(zip(kept, each(finish, kept), strict=True))
    spilled = {}
    for k, table in enumerate(tables):
        if table in vocabularies:
            vocabularies[table].save(out / vocabulary_file(k))
            continue
        slots = tables[table]
        spilled[table] = Spilled(
            folder / f"table_{k}",
            lambda slots=slots: _segments(pieces, part_of, encoder, slots),  # type: ignore[misc]
            partition=limits.partition,
            min_count=least(table),
            out=out / vocabulary_file(k),
        )
        tell("ordering", k + 1, len(tables))
    segment = {i: (place, len(slots)) for slots in tables.values() for place, i in enumerate(slots)}
    return Encoder(data.slots, vocabularies, edges, scales, spilled, segment)


def vocabulary_file(table: int) -> str:
    """By position: no name from the data becomes a file's."""
    return f"vocab_{table}.parquet"


def _count(
    pieces: Pieces,
    part_of: PartOf,
    encoder: Encoder,
    tables: dict[str, list[int]],
    limits: Limits,
    tell: Progress,
    spill: bool,
) -> dict[str, Counter]:
    """Counts of the tables that fit in memory together; the largest are given up as soon as they do not (`spill`)."""
    counters = {table: Counter() for table in tables}
    for k, work in enumerate(pieces):
        chosen = part_of(work) == TRAIN

        def count(table: str, work: Work = work, chosen: np.ndarray = chosen) -> None:
            for i in tables[table]:
                text, multi = _chosen(encoder, i, work, chosen)
                counters[table].add(text, missing=not multi)

        each(count, list(counters))
        while spill and counters and sum(counter.nbytes for counter in counters.values()) > limits.vocabularies:
            del counters[max(counters, key=lambda table: counters[table].nbytes)]
        if limits.tight:
            release()
        tell("counting", k + 1, pieces.count)
    return counters


def _chosen(encoder: Encoder, i: int, work: Work, chosen: np.ndarray) -> tuple[Coded, bool]:
    """Texts of a slot in some rows, and whether they are items of bags."""
    column, text = work.slots[i], encoder.texts(i, work)
    multi = isinstance(column, Bags)
    mask = np.repeat(chosen, np.diff(column.offsets)) if isinstance(column, Bags) else chosen
    return Coded(text.codes[mask], text.values), multi


def _segments(pieces: Pieces, part_of: PartOf, encoder: Encoder, slots: list[int]) -> Iterator[Segment]:
    for work in pieces:
        chosen = part_of(work) == TRAIN
        for i in slots:
            text, multi = _chosen(encoder, i, work, chosen)
            yield text, tally(text, missing=not multi)
