"""CSV and TSV into pieces of text columns, strictly.

The file is read in blocks of whole lines. Quotes are checked on the bytes before the parser sees them, because a
parser that meets an unclosed quote swallows what follows: a quote may only open a field, close it or be doubled
within it, and a field never contains a line break. A line with a wrong quote, a lone carriage return or a wrong
number of fields is one rejected row; a line without a character is no row (with one column it is a missing value).
Rows and rejected rows together are the lines of the file, which is asserted per block.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from autodim.data.accounting import Rejects, excerpt
from autodim.errors import DataError

BLOCK_BYTES = 1 << 25  # 32 MB: large enough that per-block work is small, small enough to stay bounded
MAX_LINE = 1 << 26
PARSE_BYTES = 1 << 20  # the parser's own steps: within the processor's cache, 2x faster than whole blocks
BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}  # also the start of UTF-32's


@dataclass(frozen=True)
class Lines:
    """Which line of the file each row of a piece was: `numbers[i]`, or `first + i`."""

    first: int
    numbers: np.ndarray | None = None

    def of(self, row: int) -> int:
        return self.first + row if self.numbers is None else int(self.numbers[row])


@dataclass(frozen=True)
class _Shape:
    """One file: its number of fields, the positions of the wanted ones, and what separates them."""

    path: Path
    fields: int
    where: tuple[int, ...]
    delimiter: str


def header_names(path: Path, delimiter: str) -> list[str]:
    """Column names in the first line of a file.

    Raises:
        DataError: an empty file, a first line that is blank, repeats a name or is no valid CSV.
    """
    with _open(path) as stream:
        first = next(_blocks(path, stream, None), b"")
    _no_nul(path, first, 1)
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
    with _open(path) as stream:
        first = next(_blocks(path, stream, None), b"")
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

    Raises:
        DataError: not UTF-8 text, a damaged .gz, or more rejected rows than allowed.
    """
    shape = _Shape(path, len(names), tuple(names.index(column) for column in columns), delimiter)
    line = 1
    with _open(path) as stream:
        for number, raw in enumerate(_blocks(path, stream, progress)):
            block = raw
            if header and number == 0:
                block, line = raw[raw.find(b"\n") + 1 :], 2
            count = block.count(b"\n")
            if count:
                cleaned, lines = _clean(shape, block, line, rejects)
                if cleaned:
                    table, lines = _parse(shape, cleaned, lines, rejects)
                    yield table.rename_columns(list(columns)), lines
            line += count


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def _blocks(path: Path, stream: IO[bytes], progress: Callable[[int], None] | None) -> Iterator[bytes]:
    """Blocks that end with a line break, without a byte order mark."""
    rest, start = b"", True
    raw: Any = getattr(stream, "fileobj", None) or stream
    while True:
        try:
            data = stream.read(BLOCK_BYTES)
        except (EOFError, zlib.error, OSError) as error:
            raise DataError(f"{path}: cannot be read beyond byte {raw.tell()}: {error}; is the file whole?") from None
        if start:
            data += stream.read(4) if 0 < len(data) < 4 else b""  # enough for a byte order mark
            if data[:2] in BOMS:
                raise DataError(f"{path}: this is {BOMS[data[:2]]} text; save or convert it as UTF-8 (iconv -t UTF-8)")
            data, start = data.removeprefix(b"\xef\xbb\xbf"), False
        if progress is not None:
            progress(raw.tell())
        if not data:
            break
        data = rest + data
        cut = data.rfind(b"\n") + 1
        rest = data[cut:]
        if len(rest) > MAX_LINE:
            raise DataError(
                f"{path}, before byte {raw.tell()}: a line of more than {MAX_LINE >> 20} MB: is this a CSV "
                "file with line feeds (\\n or \\r\\n) at its line ends?"
            )
        if cut:
            yield data[:cut]
    if rest:
        yield rest + b"\n"


def _no_nul(path: Path, block: bytes, first: int) -> None:
    if b"\0" in block:
        at = first + block[: block.index(b"\0")].count(b"\n")
        raise DataError(
            f"{path}, line {at}: a NUL byte: this is not UTF-8 text (UTF-16, a binary or a damaged file?); "
            "convert it to UTF-8 (iconv -t UTF-8)"
        )


def _clean(shape: _Shape, block: bytes, first: int, rejects: Rejects) -> tuple[bytes, Lines]:
    """The block without blank lines and lines that would mislead the parser."""
    _no_nul(shape.path, block, first)
    returns = b"\r" in block
    starts_blank = block[:1] == b"\n" or block[:2] == b"\r\n"
    blank = shape.fields > 1 and (starts_blank or b"\n\n" in block or (returns and b"\n\r\n" in block))
    if not (blank or b'"' in block or (returns and block.count(b"\r") != block.count(b"\r\n"))):
        return block, Lines(first)
    raw = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(raw == 10)
    starts = np.concatenate([[0], ends[:-1] + 1])
    empty = (ends == starts) | ((ends == starts + 1) & (raw[starts] == 13))
    if shape.fields == 1:
        empty[:] = False
    carriages = np.flatnonzero(raw == 13)
    alone = np.searchsorted(ends, carriages[raw[carriages + 1] != 10])
    quoted = _bad_quotes(raw, starts, ends, ord(shape.delimiter))
    bad = np.zeros(len(ends), bool)
    for lines, reason in (
        (alone, "a carriage return within the line"),
        (quoted, 'a quote (") that does not open or close its field; a quote inside a field is doubled ("")'),
    ):
        for at in np.unique(lines[~bad[lines]]):
            text = block[starts[at] : ends[at]].decode(errors="replace")
            rejects.add(f"{shape.path}, line {first + at}", reason, text)
            bad[at] = True
    rejects.blank += int(empty.sum())
    keep = ~(bad | empty)
    if keep.all():
        return block, Lines(first)
    kept = raw[np.repeat(keep, ends - starts + 1)].tobytes()
    return kept, Lines(first, first + np.flatnonzero(keep))


def _bad_quotes(raw: np.ndarray, starts: np.ndarray, ends: np.ndarray, delimiter: int) -> np.ndarray:
    """Lines whose quotes break the grammar: the 1st, 3rd, ... quote of a line opens a field (or is the second half
    of a doubled one), the 2nd, 4th, ... closes it (or is the first half), and their number is even."""
    quotes = np.flatnonzero(raw == 34)
    if not len(quotes):
        return quotes
    line = np.searchsorted(ends, quotes)
    place = np.arange(len(quotes)) - np.searchsorted(quotes, starts)[line]
    before, after = raw[quotes - 1], raw[quotes + 1]  # a quote at 0 is at a line's start; every block ends with \n
    opens = (quotes == starts[line]) | (before == delimiter) | (before == 34)
    closes = (after == delimiter) | (after == 10) | (after == 13) | (after == 34)
    wrong = line[~np.where(place % 2 == 0, opens, closes)]
    odd = np.flatnonzero(np.bincount(line, minlength=len(ends)) % 2)
    return np.concatenate([wrong, odd])


def _parse(shape: _Shape, block: bytes, lines: Lines, rejects: Rejects) -> tuple[pa.Table, Lines]:
    wrong: list[Any] = []
    every = lines

    def note(row: Any) -> str:
        wrong.append(row)
        return "skip" if rejects.rejected + len(wrong) <= rejects.limit else "error"

    try:
        table = _pyarrow(shape, block, note, PARSE_BYTES)
    except pa.ArrowInvalid:
        table = None
    if table is None or wrong:  # again in one go (lines may be long) on one thread, where the parser tells the lines
        wrong.clear()
        try:
            table = _pyarrow(shape, block, note, 0)
        except pa.ArrowInvalid as error:
            if not wrong:
                raise _not_utf8(shape.path, block, lines, error) from None
        for row in wrong:
            reason = f"{row.actual_columns} fields where {row.expected_columns} were expected"
            rejects.add(f"{shape.path}, line {lines.of(row.number - 1)}", reason, row.text)
        skipped = np.array([row.number - 1 for row in wrong])
        kept = np.delete(np.arange(block.count(b"\n")), skipped)
        lines = Lines(lines.first, lines.first + kept if lines.numbers is None else lines.numbers[kept])
    if table is None or table.num_rows + len(wrong) != block.count(b"\n"):
        # a row that has the wrong number of fields and is not UTF-8 never reaches `note`
        raise _not_utf8(shape.path, block, every, ValueError("rows are lost"))
    return table, lines


def _pyarrow(shape: _Shape, block: bytes, note: Callable[[Any], str], step: int) -> pa.Table:
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


def _not_utf8(path: Path, block: bytes, lines: Lines, error: Exception) -> DataError:
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
