"""A format into a table of rows: all of a small log, else its first rows and pieces spread over the rest."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq

from autodim.data.accounting import Rejects, excerpt
from autodim.data.csvfile import header_names, read_csv
from autodim.data.infer.sniff import Format
from autodim.errors import DataError

ROWS = 200_000
MAX_BYTES = 1 << 26  # of text, and about of a table
PIECES = 8
GZIP_BYTES = 1 << 29  # of a .gz, which cannot be entered in the middle, no more is unpacked
PARQUET_BYTES = 1 << 28  # decoded; long lists make rows heavy
MAX_LINE = 1 << 22
_STEP = 1 << 18


@dataclass(frozen=True)
class Sample:
    """Rows of a log.

    Attributes:
        table: in the log's order; of CSV every column is text.
        rows: of the whole log: exact if `whole`, else an estimate.
        whole: every row of the log is in the table.
        rejected: rows of the sample that cannot be read.
        example: where and why, of the first one.
    """

    table: pa.Table
    rows: int
    whole: bool
    rejected: int
    example: str


def read_sample(form: Format, rows: int = ROWS) -> Sample:
    """About `rows` rows, from up to 8 places of up to 8 files; the same ones each time.

    Raises:
        DataError: no rows, or files that do not agree on their columns.

    Cost: at most 64 MB of text; of a .gz, unpacking of up to 512 MB.
    """
    found = _parquet(form, rows) if form.parquet else _csv(form, rows)
    if not found.table.num_rows:
        raise DataError(f"{form.files[0]}: no row below the header" if form.header else f"{form.files[0]}: no row")
    return found


def _spread(files: tuple[Path, ...]) -> list[Path]:
    if len(files) <= PIECES:
        return list(files)
    return [files[round(i * (len(files) - 1) / (PIECES - 1))] for i in range(PIECES)]


def _csv(form: Format, rows: int) -> Sample:
    chosen = _spread(form.files)
    size = sum(file.stat().st_size for file in form.files)
    with TemporaryDirectory() as folder:
        target = Path(folder) / "sample.csv"
        taken, unpacked, whole = 0, 0.0, len(chosen) == len(form.files)
        with target.open("wb") as out:
            for k, file in enumerate(chosen):
                if k and form.header:
                    _check_header(form, file)
                read = _gzip if file.suffix.lower() == ".gz" else _plain
                pieces, bytes_all, all_of_it = read(file, rows, len(chosen))
                for i, raw in enumerate(pieces):
                    piece = raw
                    if i == 0:
                        piece = piece.removeprefix(b"\xef\xbb\xbf")
                        if k and form.header:
                            piece = piece[piece.find(b"\n") + 1 :]
                    _check_text(file, piece)
                    out.write(piece if piece.endswith(b"\n") or not piece else piece + b"\n")
                    taken += len(piece)
                unpacked += bytes_all
                whole &= all_of_it
        rejects = Rejects(1 << 62)
        try:
            tables = [
                table
                for table, _ in read_csv(
                    target, form.names, form.names, delimiter=form.delimiter, header=form.header, rejects=rejects
                )
            ]
        except DataError as error:
            raise DataError(str(error).replace(str(target), f"sample of {form.files[0]}")) from None
        example = rejects.examples[0].replace(str(target), "sample") if rejects.examples else ""
    table = pa.concat_tables(tables) if tables else pa.table({name: pa.array([], pa.string()) for name in form.names})
    read_rows = table.num_rows + rejects.rejected
    if not whole and len(chosen) < len(form.files):
        unpacked *= size / max(1, sum(file.stat().st_size for file in chosen))
    total = read_rows if whole else round(read_rows * unpacked / max(taken, 1))
    return Sample(table, total, whole, rejects.rejected, example)


def _check_text(file: Path, piece: bytes) -> None:
    try:
        piece.decode()
    except UnicodeDecodeError as error:
        line = piece[piece.rfind(b"\n", 0, error.start) + 1 :].split(b"\n", 1)[0].decode(errors="replace")
        raise DataError(
            f"{file}: bytes that are not UTF-8, in the line {excerpt(line)}; convert the file (for instance iconv -f "
            "LATIN1 -t UTF-8)"
        ) from None


def _check_header(form: Format, file: Path) -> None:
    names = header_names(file, form.delimiter)
    if tuple(names) != form.names:
        odd = sorted(set(names) ^ set(form.names))
        what = f"{odd[0]!r} is only in one of them" if odd else "their order differs"
        raise DataError(f"{file}: its columns are not those of {form.files[0]}: {what}; name files of one kind")


def _line_bytes(start: bytes) -> float:
    return len(start) / max(1, start.count(b"\n"))


def _plain(path: Path, rows: int, files: int) -> tuple[Iterator[bytes], float, bool]:
    """(whole lines from several places, bytes of the file, whether that is all of it)."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        budget = int(min(MAX_BYTES, _line_bytes(stream.read(_STEP)) * rows) / files)
    if size <= budget:
        return iter([path.read_bytes()]), size, True
    places = max(1, PIECES // files)
    return _places(path, size, places, max(1, budget // places)), size, False


def _places(path: Path, size: int, places: int, length: int) -> Iterator[bytes]:
    with path.open("rb") as stream:
        for i in range(places):
            at = round(i * (size - length) / max(1, places - 1))
            stream.seek(max(0, at - 1))
            data = stream.read(length + min(at, 1))
            if i:  # from just before the place: a line that starts right there is whole
                data = data[data.find(b"\n") + 1 :] if b"\n" in data else b""
            data = data[: data.rfind(b"\n") + 1]
            if not data and not i:
                stream.seek(0)
                data = stream.readline()
            yield data


def _gzip(path: Path, rows: int, files: int) -> tuple[Iterator[bytes], float, bool]:
    """As `_plain`: steps are kept at even distances, and the last one; when too many, every other one goes."""
    kept: list[bytes] = []
    stride, number, done, rest, last = 1, 0, 0, b"", b""
    try:
        with gzip.open(path, "rb") as stream:
            budget = int(min(MAX_BYTES, _line_bytes(stream.read(_STEP)) * rows) / files)
        step = max(1 << 12, budget // (2 * PIECES))
        with path.open("rb") as raw, gzip.open(raw, "rb") as stream:
            while data := stream.read(step) if done < GZIP_BYTES else b"":
                done += len(data)
                data = rest + data
                cut = data.rfind(b"\n") + 1
                data, rest = data[:cut], data[cut:]
                if len(rest) > MAX_LINE:
                    raise DataError(f"{path}: a line of more than {MAX_LINE >> 20} MB: is this a CSV file?")
                last = data or last
                if data and number % stride == 0:
                    kept.append(data)
                    last = b""
                    if len(kept) > 1 and sum(map(len, kept)) > budget:
                        kept, stride, last = kept[::2], stride * 2, b"" if len(kept) % 2 else kept[-1]
                number += 1
            ended = not stream.read(1)
            total = done if ended else done * path.stat().st_size / max(1, raw.tell())
    except (EOFError, zlib.error, OSError) as error:
        raise DataError(f"{path}: cannot be read: {error}; is the file whole?") from None
    return iter([*kept, last + rest if ended else last]), total, ended and stride == 1


def _parquet(form: Format, rows: int) -> Sample:
    chosen = _spread(form.files)
    tables: list[pa.Table] = []
    try:
        total = sum(pq.read_metadata(file).num_rows for file in form.files)
        rows = min(rows, round(PARQUET_BYTES / _row_bytes(form.files[0])))
        for file in chosen:
            with pq.ParquetFile(file, page_checksum_verification=True) as opened:
                missing = sorted(set(form.names) ^ set(opened.schema_arrow.names))
                if missing:
                    raise DataError(
                        f"{file}: its columns are not those of {form.files[0]}: {missing[0]!r} is only in one of them"
                    )
                batches = _batches(opened, rows // len(chosen), max(1, PIECES // len(chosen)))
                tables += [pa.Table.from_batches([batch]).select(form.names) for batch in batches]
        table = pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})
        table.validate(full=True)  # else bytes that are not UTF-8 pass as text
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{form.files[0]}: cannot be read as Parquet: {error}; is the file whole?") from None
    return Sample(table, total, table.num_rows == total, 0, "")


def _row_bytes(path: Path) -> float:
    """Decoded, before dictionaries are spread out: a lower bound."""
    about = pq.read_metadata(path)
    size = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
    return max(1.0, size / max(1, about.num_rows))


def _batches(file: pq.ParquetFile, rows: int, places: int) -> Iterator[pa.RecordBatch]:
    """Rows from several places; a row group is read from its start to the last place within it."""
    total = file.metadata.num_rows
    if total <= rows:
        yield from file.iter_batches(1 << 14)
        return
    length = max(1, rows // places)
    starts = [round(i * (total - length) / max(1, places - 1)) for i in range(places)]
    first = 0
    for group in range(file.metadata.num_row_groups):
        size = file.metadata.row_group(group).num_rows
        if any(first < start + length and start < first + size for start in starts):
            at = first
            for batch in file.iter_batches(1 << 14, row_groups=[group]):
                for start in starts:
                    low, high = max(start, at), min(start + length, at + batch.num_rows)
                    if low < high:
                        yield batch.slice(low - at, high - low)
                at += batch.num_rows
                if at >= max(s for s in starts if s < first + size) + length:
                    break
        first += size
