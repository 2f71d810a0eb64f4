"""CSV and TSV into pieces of text columns, strictly.

The file is read in blocks of whole lines (`csvlines`), whose quotes are checked before the parser sees them. A line
with a wrong quote, a lone carriage return or a wrong number of fields is one rejected row; a line without a character
is no row (with one column it is a missing value). Rows and rejected rows together are the lines of the file, which is
asserted per block.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from autodim.data.accounting import Rejects, excerpt
from autodim.data.csvlines import Lines, Shape, blocks, clean, open_text, refuse_nul
from autodim.errors import DataError

BLOCK_BYTES = 1 << 25  # 32 MB: large enough that per-block work is small, small enough to stay bounded
PARSE_BYTES = 1 << 20  # the parser's own steps: within the processor's cache, 2x faster than whole blocks
HEAD_BYTES = 1 << 18


def header_names(path: Path, delimiter: str) -> list[str]:
    """Column names in the first line of a file.

    Raises:
        DataError: an empty file, a first line that is blank, repeats a name or is no valid CSV.
    """
    with open_text(path) as stream:
        first = next(blocks(path, stream, HEAD_BYTES), b"")
    refuse_nul(path, first, 1)
    line = first[: first.find(b"\n")].decode(errors="replace").rstrip("\r")
    if not line:
        what = "its first line is blank" if first else "the file is empty"
        raise DataError(f"{path}: {what}, but the first line should name the columns (or set data.header: false)")
    try:
        names = next(csv.reader([line], delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}, line 1: {error}; it reads {excerpt(line)}") from None
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}, line 1: the header names {excerpt(twice[0])} more than once; rename one of them")
    return names


def field_count(path: Path, delimiter: str) -> int:
    """Fields of the first line (for files without a header)."""
    with open_text(path) as stream:
        first = next(blocks(path, stream, HEAD_BYTES), b"")
    line = first[: first.find(b"\n")].decode(errors="replace").rstrip("\r")
    return len(next(csv.reader([line], delimiter=delimiter), []))


def read_csv(
    path: Path,
    names: Sequence[str],
    columns: Sequence[str],
    *,
    delimiter: str,
    header: bool,
    rejects: Rejects,
    progress: Callable[[int], None] | None = None,
    block_bytes: int | None = None,
) -> Iterator[tuple[pa.Table, Lines]]:
    """Pieces of one file: the wanted columns as text, and the line of each row.

    Args:
        path: the file, `.gz` or plain.
        names: all columns of the file, in its order.
        columns: the wanted ones.
        delimiter: one ASCII character.
        header: the first line is no row.
        rejects: counts what is left out.
        progress: told the bytes of the file that were read so far.
        block_bytes: text read at once (default and at most BLOCK_BYTES).

    Raises:
        DataError: not UTF-8 text, a damaged .gz, or more rejected rows than allowed.
    """
    shape = Shape(path, len(names), tuple(names.index(column) for column in columns), delimiter)
    line = 1
    with open_text(path) as stream:
        for number, raw in enumerate(blocks(path, stream, min(BLOCK_BYTES, block_bytes or BLOCK_BYTES), progress)):
            block = raw
            if header and number == 0:
                block, line = raw[raw.find(b"\n") + 1 :], 2
            count = block.count(b"\n")
            if count:
                cleaned, lines = clean(shape, block, line, rejects)
                if cleaned:
                    table, lines = _parse(shape, cleaned, lines, rejects)
                    yield table.rename_columns(list(columns)), lines
            line += count


def _parse(shape: Shape, block: bytes, lines: Lines, rejects: Rejects) -> tuple[pa.Table, Lines]:
    try:
        table = _pyarrow(shape, block, None, PARSE_BYTES)
        wrong: list[Any] = []
    except pa.ArrowInvalid:
        table, wrong = _slowly(shape, block, lines, rejects)
    if table is None or table.num_rows + len(wrong) != block.count(b"\n"):
        raise _unreadable(shape.path, block, lines, ValueError("rows are lost"))
    if wrong:
        kept = np.delete(np.arange(block.count(b"\n")), [row.number - 1 for row in wrong])
        lines = Lines(lines.first, lines.first + kept if lines.numbers is None else lines.numbers[kept])
    return table, lines


def _slowly(shape: Shape, block: bytes, lines: Lines, rejects: Rejects) -> tuple[pa.Table | None, list[Any]]:
    """In one go (lines may be long) on one thread, where the parser tells which lines have too few or many fields."""
    try:
        block.decode()
    except UnicodeDecodeError as error:  # the parser could not name such a line
        raise _unreadable(shape.path, block, lines, error) from None
    wrong: list[Any] = []

    def note(row: Any) -> str:
        wrong.append(row)
        return "skip" if rejects.rejected + len(wrong) <= rejects.limit else "error"

    table = None
    try:
        table = _pyarrow(shape, block, note, 0)
    except pa.ArrowInvalid as error:
        if not wrong:
            raise _unreadable(shape.path, block, lines, error) from None
    for row in wrong:
        reason = f"{row.actual_columns} fields where {row.expected_columns} were expected"
        rejects.add(f"{shape.path}, line {lines.of(row.number - 1)}", reason, row.text)
    return table, wrong


def _pyarrow(shape: Shape, block: bytes, note: Callable[[Any], str] | None, step: int) -> pa.Table:
    names = [str(i) for i in range(shape.fields)]  # not the true ones, which may repeat in columns nobody wants
    wanted = [names[i] for i in shape.where]
    parse = pa.csv.ParseOptions(delimiter=shape.delimiter, ignore_empty_lines=False, invalid_row_handler=note)
    return pa.csv.read_csv(
        pa.BufferReader(block),
        read_options=pa.csv.ReadOptions(column_names=names, use_threads=bool(step), block_size=step or len(block) + 64),
        parse_options=parse,
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(wanted, pa.string()), include_columns=wanted, strings_can_be_null=False
        ),
    )


def _unreadable(path: Path, block: bytes, lines: Lines, error: Exception) -> DataError:
    try:
        block.decode()
    except UnicodeDecodeError as wrong:
        row = block[: wrong.start].count(b"\n")
        line = block.split(b"\n", row + 1)[row].decode(errors="replace")
        return DataError(
            f"{path}, line {lines.of(row)}: bytes that are not UTF-8; it reads {excerpt(line)}. "
            "Convert the file (for instance iconv -f LATIN1 -t UTF-8)"
        )
    return DataError(f"{path}, lines from {lines.of(0)}: cannot be parsed: {error}")
