"""Files into a format: CSV or Parquet, which delimiter, a header or none."""

from __future__ import annotations

import csv
import gzip
import re
import shlex
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from autodim.config.schema import DataConfig
from autodim.data.csvfile import header_names
from autodim.data.files import is_parquet, log_files
from autodim.errors import DataError

HEAD_BYTES = 1 << 18
HEAD_LINES = 500
DELIMITERS = (",", "\t", ";", "|", "\x01")  # the last one is Hive's
SAME = 0.95  # share of lines with the same number of fields that makes a delimiter
_MAGIC = {
    b"PK\x03\x04": "a zip or Excel file: unpack it, or save it as CSV",
    b"BZh": "bzip2: unpack it (bunzip2 -k FILE)",
    b"\x28\xb5\x2f\xfd": "zstandard: unpack it (zstd -d FILE)",
    b"\xfd7zXZ": "xz: unpack it (xz -dk FILE)",
}
_TYPED = re.compile(r"\s*([-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|\d{4}-\d\d-\d\d.*)\s*")


@dataclass(frozen=True)
class Format:
    """How a log is read.

    Attributes:
        files: in the order they are read.
        parquet: else CSV.
        delimiter: CSV: one character.
        header: CSV: the first line names the columns.
        names: all columns, in the file's order; without a header c1, c2, ...
        why: of the delimiter and the header.
    """

    files: tuple[Path, ...]
    parquet: bool
    delimiter: str
    header: bool
    names: tuple[str, ...]
    why: str


def sniff(path: str, label: str | None = None, base: Path | None = None) -> Format:
    """The format of a log.

    Args:
        path: a file, a folder or a pattern.
        label: a name that, found in the first line, makes that line a header.

    Raises:
        DataError: no such file, or one that autodim does not read; says how to make it one that it does.
    """
    files = tuple(log_files(DataConfig(path=path), base or Path.cwd()))
    kinds = {is_parquet(file) for file in files}
    if len(kinds) > 1:
        raise DataError(f"{path}: Parquet and other files mixed; name one kind (for instance {path}/*.parquet)")
    if kinds == {True}:
        return _parquet(files)
    text = head(files[0])
    lines = [line for line in text.split("\n")[:HEAD_LINES] if line.strip("\r")]
    if not lines:
        raise DataError(f"{files[0]}: the file is empty")
    delimiter, why = _delimiter(files[0], lines)
    rows = [_fields(line, delimiter) for line in lines]
    header, reason = _header(rows, label)
    if header:
        names = tuple(header_names(files[0], delimiter))
    else:
        names = tuple(f"c{i + 1}" for i in range(Counter(map(len, rows)).most_common(1)[0][0]))
    return Format(files, False, delimiter, header, names, f"{why}; {reason}")


def head(path: Path) -> str:
    """Whole lines at the start of a text file.

    Raises:
        DataError: a binary format, named.
    """
    with path.open("rb") as stream:
        magic = stream.read(8)
    for start, what in _MAGIC.items():
        if magic.startswith(start):
            raise DataError(f"{path}: this is {what.replace('FILE', shlex.quote(path.name))}")
    packed = magic.startswith(b"\x1f\x8b")
    if packed != (path.suffix.lower() == ".gz"):
        found, want = ("gzip data without .gz in its name", "add it") if packed else ("no gzip data", "take .gz off")
        raise DataError(f"{path}: {found}; rename the file ({want})")
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as stream:
            data = stream.read(HEAD_BYTES)
    except (EOFError, zlib.error, OSError) as error:
        raise DataError(f"{path}: cannot be read: {error}; is the file whole?") from None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data:
        raise DataError(f"{path}: not UTF-8 text (UTF-16 or a binary file?); convert it (iconv -f UTF-16 -t UTF-8)")
    if packed and data.startswith(b"PAR1"):
        raise DataError(f"{path}: Parquet within gzip; unpack it (gunzip -k {shlex.quote(path.name)})")
    if len(data) == HEAD_BYTES and b"\n" in data:
        data = data[: data.rfind(b"\n")]
    text = data.decode(errors="replace").removeprefix("\ufeff")
    if text.lstrip().startswith(("{", "[")):
        raise DataError(
            f"{path}: this looks like JSON; autodim reads CSV, TSV and Parquet. Convert JSON lines with: python -c "
            "\"import pyarrow.json as j, pyarrow.parquet as p; p.write_table(j.read_json('in.json'), 'out.parquet')\""
        )
    return text


def _parquet(files: tuple[Path, ...]) -> Format:
    try:
        names = tuple(pq.read_schema(files[0]).names)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{files[0]}: cannot be read as Parquet: {error}; is the file whole?") from None
    for name, times in Counter(names).items():
        if times > 1:
            raise DataError(f"{files[0]}: {times} columns are named {name!r}; rename all but one")
    return Format(files, True, "", True, names, "Parquet, by its first bytes; types are the file's")


def _fields(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line.rstrip("\r")], delimiter=delimiter), [])
    except csv.Error:
        return []


def _delimiter(path: Path, lines: Sequence[str]) -> tuple[str, str]:
    """The delimiter that cuts nearly all lines into the same number (above 1) of fields; of several, most fields."""
    found = []
    for rank, delimiter in enumerate(DELIMITERS):
        counts = Counter(len(_fields(line, delimiter)) for line in lines)
        fields, times = counts.most_common(1)[0]
        # Without the first line's consent it would be a decimal comma or a list within a field.
        agrees = len(_fields(lines[0], delimiter)) == fields
        if fields > 1 and times >= SAME * len(lines) and agrees:
            found.append((fields, -rank, delimiter, times))
    double = Counter(line.count("::") for line in lines).most_common(1)[0]
    if double[0] and double[1] >= SAME * len(lines) and all(double[0] + 1 >= f[0] for f in found):
        source, target = shlex.quote(str(path)), shlex.quote(str(path.with_suffix(".tsv")))
        raise DataError(
            f"{path}: fields are separated by two characters (`::`), but a delimiter is one. Convert it once, then "
            f"start again:\n  sed 's/::/\\t/g' {source} > {target}\n  autodim init {target}"
        )
    if not found:
        return ",", "no delimiter cuts the lines evenly: taken as one column"
    fields, _, delimiter, times = max(found)
    share = "all" if times == len(lines) else f"{times} of"
    return delimiter, f"{delimiter!r} cuts {share} {len(lines)} first lines into {fields} fields"


def _header(rows: Sequence[Sequence[str]], label: str | None) -> tuple[bool, str]:
    first, rest = list(rows[0]), rows[1:]
    if label is not None and label in first:
        return True, "the first line has the label's name"
    if any(_TYPED.fullmatch(cell) for cell in first):
        return False, "no header: the first line holds numbers"
    named = [cell for i, cell in enumerate(first) if cell or i]  # a data frame's index has no name
    if len(set(named)) < len(named) or "" in named:
        return False, "no header: the first line has empty or repeated fields, so it names nothing"
    for i, cell in enumerate(first):
        column = [row[i] for row in rest if i < len(row) and row[i]]
        if column and sum(bool(_TYPED.fullmatch(v)) for v in column) >= SAME * len(column):
            return True, f"header: numbers or times below {cell!r}"
    again = sum(any(i < len(row) and row[i] == cell for row in rest) for i, cell in enumerate(first) if cell)
    if again * 2 >= len(first) and rest:
        return False, f"no header: {again} fields of the first line come again below it"
    return True, "header taken for granted: text everywhere, and the first line's fields do not come again"
