"""The lines of a CSV file, before a parser sees them.

Quotes are checked on the bytes, because a parser that meets an unclosed quote swallows what follows: a quote may only
open a field, close it or be doubled within it, and a field never contains a line break.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from autodim.data.accounting import Rejects
from autodim.errors import DataError

MAX_LINE = 1 << 26
BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}  # also the start of UTF-32's


@dataclass(frozen=True)
class Lines:
    """Which line of the file each row of a piece was: `numbers[i]`, or `first + i`."""

    first: int
    numbers: np.ndarray | None = None

    def of(self, row: int) -> int:
        return self.first + row if self.numbers is None else int(self.numbers[row])


@dataclass(frozen=True)
class Shape:
    """One file: its number of fields, the positions of the wanted ones, and what separates them."""

    path: Path
    fields: int
    where: tuple[int, ...]
    delimiter: str


def open_text(path: Path) -> IO[bytes]:
    """A file as bytes of text, unpacked where its name ends in .gz."""
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def blocks(path: Path, stream: IO[bytes], size: int, progress: Callable[[int], None] | None = None) -> Iterator[bytes]:
    """Blocks of about `size` bytes that end with a line break, without a byte order mark."""
    start = True
    raw: Any = getattr(stream, "fileobj", None) or stream
    while True:
        try:
            data = stream.read(size)
            tail = stream.readline(MAX_LINE) if data[-1:] not in (b"", b"\n") else b""
        except (EOFError, zlib.error, OSError) as error:
            raise DataError(f"{path}: cannot be read beyond byte {raw.tell()}: {error}; is the file whole?") from None
        if len(tail) == MAX_LINE:
            raise DataError(
                f"{path}, before byte {raw.tell()}: a line of more than {MAX_LINE >> 20} MB: is this a CSV "
                "file with line feeds (\\n or \\r\\n) at its line ends?"
            )
        data = data + tail if tail else data
        if start:
            if data[:2] in BOMS:
                raise DataError(f"{path}: this is {BOMS[data[:2]]} text; save or convert it as UTF-8 (iconv -t UTF-8)")
            data, start = data.removeprefix(b"\xef\xbb\xbf"), False
        if progress is not None:
            progress(raw.tell())
        if not data:
            return
        yield data if data.endswith(b"\n") else data + b"\n"


def refuse_nul(path: Path, block: bytes, first: int) -> None:
    """Raises DataError for a NUL byte; `first` is the block's first line."""
    if b"\0" in block:
        at = first + block[: block.index(b"\0")].count(b"\n")
        raise DataError(
            f"{path}, line {at}: a NUL byte: this is not UTF-8 text (UTF-16, a binary or a damaged file?); "
            "convert it to UTF-8 (iconv -t UTF-8)"
        )


def clean(shape: Shape, block: bytes, first: int, rejects: Rejects) -> tuple[bytes, Lines]:
    """The block without blank lines and lines that would mislead the parser."""
    refuse_nul(shape.path, block, first)
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
