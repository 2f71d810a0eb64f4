"""DataFrames in, and new rows for a model that is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autodim.config.schema import DataConfig, LabelConfig, SlotConfig
from autodim.data.accounting import Rejects
from autodim.data.columns import Columns
from autodim.data.encoded import EncodedLog
from autodim.data.encoder import Encoder, Ids, grouped
from autodim.data.learn import Learnt
from autodim.data.numeric import Scale
from autodim.data.reader import columns_of, open_log
from autodim.data.work import translate
from autodim.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd


def log_from_frame(
    df: pd.DataFrame,
    data: DataConfig | None = None,
    label: str | LabelConfig | Sequence[str | LabelConfig] | None = None,
    slots: Sequence[str | SlotConfig] | None = None,
) -> DataConfig:
    """A data section for `encode(..., source=df)`.

    Args:
        df: the log.
        data: where the rest (split, min_count, ...) comes from; its slots and labels hold where not given here.
        label: name(s) of 0/1 columns, or LabelConfig(s).
        slots: the input fields; default: every column that is no label, no split and no drop column. Floats become
            `value`, lists `multi`, all else `categorical`.

    Raises:
        DataError: no label, or a column that is not there.
    """
    data = data or DataConfig()
    given = [label] if isinstance(label, str | LabelConfig) else list(label or ())
    labels = tuple(LabelConfig.model_validate(item) for item in given) or data.labels
    names = [str(name) for name in df.columns]
    if not labels:
        raise DataError(f"no label is named: give label= a column of 0 and 1{did_you_mean('label', names)}")
    taken: set[str | None] = {*(item.source for item in labels), *data.drop}
    taken |= {data.split.column} if data.split.by in ("time", "column") else set()
    chosen = tuple(SlotConfig.model_validate(item) for item in slots) if slots is not None else data.slots
    if not chosen:
        chosen = tuple(
            SlotConfig(name=name, kind=_kind(df.iloc[:, i])) for i, name in enumerate(names) if name not in taken
        )
    result = data.model_copy(update={"labels": labels, "slots": chosen, "path": None, "log": None, "logs": ()})
    for column in columns_of(result):
        if column not in names:
            raise DataError(f"the DataFrame has no column {column!r}{did_you_mean(column, names)}")
    return result


def encode_rows(
    source: str | Path | pd.DataFrame,
    encoded: EncodedLog,
    base: Path = Path(),
    rejects: Rejects | None = None,
    places: list[int] | None = None,
) -> Columns:
    """New rows, in memory, with the vocabularies and scales of an encoded log.

    Every row of the source is kept, in order: a row that cannot be read is an error (unless `rejects` allows for it),
    `drop` and `split` do nothing. Unseen values get id 0; a missing value that training rows never had, too.

    Args:
        source: file(s) as in `data.path`, or a frame, with the slots' columns.
        encoded: what the model was trained on.
        base: what a relative path is relative to.
        rejects: counts rows that cannot be read; default: none may be.
        places: gains, for each row of the result, its line (CSV), row of its file (Parquet, from 1) or of the frame
            (from 0).

    Returns:
        Columns of N rows; a label whose column is absent is NaN.

    Raises:
        DataError: a source that is not as the log was described.
    """
    import pandas as pd

    data = encoded.manifest.data.model_copy(update={"logs": ()})  # new rows may have any of the labels
    known = learnt(encoded)
    encoder = Encoder(data.slots, known.vocabularies, known.edges, known.scales)

    frame = source if isinstance(source, pd.DataFrame) else None
    read = data if frame is not None else data.model_copy(update={"path": str(source)})
    wanted = list(dict.fromkeys(c for slot in data.slots for c in (slot.source, slot.weights) if c is not None))
    optional = [c for c in (*(label.source for label in data.labels), *data.drop) if c not in wanted]
    rejects, rows = rejects or Rejects(0), 0
    works = []
    for piece in open_log(read, base, wanted, optional=optional, rejects=rejects, source=frame):
        works.append(translate(piece, data, rows, rejects, predict=True)[0])
        if places is not None:
            places += [piece.lines.of(int(row)) for row in works[-1].rows - rows]
        rows += piece.table.num_rows
    parts = [ids for group in grouped(works) for ids in encoder.encode(group)]
    if not parts:
        raise DataError(f"{'the DataFrame' if frame is not None else source}: no rows")
    return Columns.from_arrays(
        np.concatenate([p.ids for p in parts]),
        np.concatenate([p.numeric for p in parts]),
        np.concatenate([w.labels for w in works]),
        {name: _joined(parts, k) for k, name in enumerate(encoded.multi_slots)},
        encoded.one_hot_slots,
        {
            name: np.concatenate([p.bags[k][2] for p in parts])
            for k, name in enumerate(encoded.multi_slots)
            if parts[0].bags[k][2] is not None
        },
    )


def learnt(encoded: EncodedLog) -> Learnt:
    """What an encoded log taught: its vocabularies, bucket edges and scales."""
    manifest = encoded.manifest
    numeric = iter(manifest.numeric)
    named = {record.name: record for record in manifest.slots}
    slots = list(enumerate(manifest.data.slots))
    return Learnt(
        {t.name: encoded.vocabulary(t.name) for t in manifest.tables},
        {i: named[s.name].edges or () for i, s in slots if s.kind == "buckets"},
        {i: _scale(next(numeric)) for i, s in slots if s.kind == "value"}
        | {i: _scale(named[s.name].scale) for i, s in slots if s.kind == "scaled"},
    )


def _scale(record: object) -> Scale:
    return Scale(record.mean, record.std, record.log)  # type: ignore[attr-defined]


def _joined(parts: list[Ids], k: int) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.concatenate([np.diff(p.bags[k][1]) for p in parts])
    return np.concatenate([p.bags[k][0] for p in parts]), np.concatenate([[0], np.cumsum(lengths)])


def _kind(column: pd.Series) -> str:
    import pandas as pd

    if pd.api.types.is_float_dtype(column.dtype):
        return "value"
    there = column.dropna()
    first = there.iloc[0] if len(there) else None
    return "multi" if isinstance(first, list | tuple | np.ndarray) else "categorical"
