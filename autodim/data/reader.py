"""A log, wherever it lies, as pieces of rows in a fixed order.

CSV, TSV (.gz too) and Parquet files, one, many by a pattern, or a folder of them (in the order of their names), or a
DataFrame. A piece holds the wanted columns only; of CSV every column is text, of Parquet and frames the stored type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from autodim.config.schema import DataConfig
from autodim.data import csvfile
from autodim.data.accounting import Rejects, excerpt, printable
from autodim.data.csvlines import Lines
from autodim.data.files import is_parquet, log_files
from autodim.data.logs import DERIVED
from autodim.data.several import sources
from autodim.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

EVERY = ". Each of data.logs needs the columns of all slots, of data.drop and of data.split, and of its own labels"
PARQUET_ROWS = 1 << 17  # rows of a piece of Parquet or of a frame

Progress = Callable[[str, int, int], None]  # what is being done, units done, units in all


@dataclass(frozen=True)
class Piece:
    """Some rows.

    Attributes:
        table: the wanted columns, under their names in the log.
        source: the file, or `the DataFrame`.
        lines: which line (CSV) or row (else) of the source each row was.
        unit: `line` or `row`.
        log: which of `data.logs` it is from.
    """

    table: pa.Table
    source: str
    lines: Lines
    unit: str = "row"
    log: int = 0

    def where(self, row: int) -> str:
        return f"{self.source}, {self.unit} {self.lines.of(row)}"


@dataclass(frozen=True)
class _Wish:
    """Columns to read, columns to read where they are there, and how columns that are not stored are made."""

    wanted: Sequence[str]
    optional: Sequence[str]
    derived: dict[str, tuple[str, Callable[[Any], Any]]]
    hint: str = ""  # where a column is not there


def columns_of(data: DataConfig) -> list[str]:
    """Every column that the config names, each once: slots and their weights, labels, drop, split."""
    named = (
        [c for s in data.slots for c in (s.source, s.weights) if c is not None]
        + [label.source for label in data.labels]
        + list(data.drop)
    )
    return list(dict.fromkeys([*named, *([data.split.column] if data.split.column else [])]))


def open_log(
    data: DataConfig,
    base: Path,
    columns: Sequence[str] | None = None,
    *,
    optional: Sequence[str] = (),
    rejects: Rejects | None = None,
    source: pd.DataFrame | None = None,
    progress: Progress | None = None,
    block_bytes: int | None = None,
) -> Iterator[Piece]:
    """Pieces of a log, in file order, with the wanted columns.

    Args:
        data: how the log is read.
        base: what relative paths are relative to.
        columns: the wanted ones (default: all that `data` names).
        optional: more columns, given where the source has them (a list column of all sources must agree).
        rejects: the row accounting to add to (default: a fresh one with `data.max_bad_rows`).
        source: a frame to read instead of `data.path`.
        progress: told ("reading", bytes or rows done, of how many).
        block_bytes: text of a piece, about (default: what is fast).

    Raises:
        DataError: files that cannot be read as described; see the reader of each format.
    """
    wish = _wish(data, columns, optional)
    rejects = rejects if rejects is not None else Rejects(data.max_bad_rows)
    if source is not None:
        yield from (_derive(piece, wish) for piece in _frame(source, wish, progress))
        return
    logs = sources(data)
    files = [(k, file) for k, one in enumerate(logs) for file in log_files(one, base)]
    sizes = [file.stat().st_size for _, file in files]
    for i, (k, file) in enumerate(files):
        done = sum(sizes[:i])

        def report(part: int, done: int = done) -> None:
            if progress is not None:
                progress("reading", done + part, sum(sizes))

        read = _parquet if is_parquet(file) else _csv
        wish = replace(_wish(logs[k], columns, optional), hint=EVERY if data.logs else "")
        for piece in read(file, logs[k], wish, rejects, report, block_bytes=block_bytes):
            yield replace(_derive(piece, wish), log=k)
        report(sizes[i])


def _wish(data: DataConfig, columns: Sequence[str] | None, optional: Sequence[str]) -> _Wish:
    return _Wish(columns if columns is not None else columns_of(data), optional, DERIVED.get(data.log or "", {}))


def _wanted(
    where: str,
    names: Sequence[str],
    wish: _Wish,
    hint: str = "",
) -> list[str]:
    """The stored columns to read; derived ones (that are not stored) stand for the column they come from."""
    stored = [wish.derived[c][0] if c in wish.derived and c not in names else c for c in wish.wanted]
    for column in stored:
        if column not in names:
            known = did_you_mean(column, [printable(name) for name in names])
            shown = known if len(known) < 600 else f"; it has {len(names)} columns, the first {excerpt(names[0])}"
            raise DataError(f"{where}: no column {excerpt(column)}{shown}{hint}{wish.hint}")
    return list(dict.fromkeys([*stored, *(c for c in wish.optional if c in names)]))


def _derive(piece: Piece, wish: _Wish) -> Piece:
    table = piece.table
    for column in wish.wanted:
        if column in wish.derived and column not in table.column_names:
            origin, make = wish.derived[column]
            try:
                table = table.append_column(column, make(table[origin]))
            except DataError as error:
                raise DataError(f"{piece.where(0)} and below, column {origin!r}: {error}") from None
    return Piece(table, piece.source, piece.lines, piece.unit)


def _csv(
    path: Path,
    data: DataConfig,
    wish: _Wish,
    rejects: Rejects,
    report: Callable[[int], None],
    block_bytes: int | None,
) -> Iterator[Piece]:
    stem = path.name.lower().removesuffix(".gz")
    delimiter = data.delimiter or ("\t" if stem.endswith(".tsv") else ",")
    if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n':
        raise ConfigError(f"data.delimiter is {delimiter!r}, but must be one ASCII character other than a quote")
    hint = ""
    if data.header:
        names = csvfile.header_names(path, delimiter)
        other = next((c for c in "\t;|," if len(names) == 1 and c in names[0]), None)
        hint = f". The first line has no {delimiter!r} but has {other!r}: set data.delimiter?" if other else ""
    else:
        names = list(data.names)
        if not names:
            raise ConfigError("data.header is false, so data.names must name the columns of the file, in its order")
        found = csvfile.field_count(path, delimiter)
        if found != len(names) and path.stat().st_size:
            raise DataError(
                f"{path}, line 1: {found} fields, but data.names names {len(names)} columns; correct data.names or "
                f"data.delimiter (now {delimiter!r})"
            )
    columns = _wanted(str(path), names, wish, hint)
    pieces = csvfile.read_csv(
        path,
        names,
        columns,
        delimiter=delimiter,
        header=data.header,
        rejects=rejects,
        progress=report,
        block_bytes=block_bytes,
    )
    for table, lines in pieces:
        yield Piece(table, str(path), lines, "line")


def _parquet(
    path: Path,
    data: DataConfig,
    wish: _Wish,
    rejects: Rejects,
    report: Callable[[int], None],
    block_bytes: int | None,
) -> Iterator[Piece]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            columns = _wanted(str(path), file.schema_arrow.names, wish)
            rows, size, first = file.metadata.num_rows, path.stat().st_size, 1
            step = PARQUET_ROWS
            if block_bytes is not None:
                groups = (file.metadata.row_group(i) for i in range(file.metadata.num_row_groups))
                heavy = sum(group.total_byte_size for group in groups) / max(rows, 1)
                step = max(1000, min(step, int(block_bytes / max(heavy, 1.0))))
            for batch in file.iter_batches(step, columns=columns):
                batch.validate(full=True)  # text that is not UTF-8 passes the format's own checks
                yield Piece(pa.Table.from_batches([batch]), str(path), Lines(first))
                first += batch.num_rows
                report(size * (first - 1) // max(rows, 1))
            if first - 1 != rows:
                raise DataError(f"{path}: {first - 1} rows where the file's footer promises {rows}; it is damaged")
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {error}; is the file whole?") from None


def _frame(
    frame: pd.DataFrame,
    wish: _Wish,
    progress: Progress | None,
) -> Iterator[Piece]:
    names = [str(name) for name in frame.columns]
    columns = _wanted("the DataFrame", names, wish)
    for start in range(0, len(frame), PARQUET_ROWS):
        rows = frame.iloc[start : start + PARQUET_ROWS]
        arrays = []
        for column in columns:
            if names.count(column) > 1:
                raise DataError(f"the DataFrame has {names.count(column)} columns named {column!r}; keep one")
            try:
                arrays.append(pa.Array.from_pandas(rows.iloc[:, names.index(column)]))
            except (pa.ArrowException, TypeError, ValueError) as error:
                raise DataError(
                    f"the DataFrame, column {column!r}, rows from {start}: values of mixed types ({error}); "
                    "make them one type, for instance with astype(str)"
                ) from None
        yield Piece(pa.table(arrays, names=columns), "the DataFrame", Lines(start))
        if progress is not None:
            progress("reading", min(start + PARQUET_ROWS, len(frame)), len(frame))
