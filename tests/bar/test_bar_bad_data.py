"""Bad data: a mutated log gives rows that are all accounted for, or one DataError with the place; never a traceback.

The readers' single traps (short and long rows, quotes, UTF-16, NA, leading zeros, large ids) each have a test in
`tests/data`.
"""

from __future__ import annotations

import gzip
import random
import shutil
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import tiny_frame
from test_bar_corruption import KINDS, mutate

from autodim.config.schema import DataConfig
from autodim.data.encode import encode
from autodim.data.encoded import EncodedLog
from autodim.errors import AutodimError, DataError

ROWS = 60
TEXT_KINDS = ("quote", "newline", "comma", "drop line", "double line", "wide", "nul", "latin", "huge", "cr")
FORMATS = ("csv", "csv.gz", "parquet")


def sources(folder: Path) -> dict[str, bytes]:
    frame = tiny_frame(ROWS)
    text = frame.to_csv(index=False).encode()
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), folder / "x.parquet", write_page_checksum=True)
    return {"csv": text, "csv.gz": gzip.compress(text, mtime=0), "parquet": (folder / "x.parquet").read_bytes()}


def spoil(data: bytes, kind: str, draw: random.Random) -> bytes:
    """One of the things that happen to text files."""
    at = draw.randrange(len(data))
    inserted = {
        "quote": b'"',
        "newline": b"\n",
        "comma": b",",
        "nul": b"\0",
        "latin": b"\xe9",
        "huge": b"9" * 400,
        "cr": b"\r",
    }
    if kind in inserted:
        return data[:at] + inserted[kind] + data[at:]
    if kind == "wide":
        return data.decode().encode("utf-16")
    lines = data.split(b"\n")
    k = draw.randrange(len(lines))
    return b"\n".join(lines[:k] + (lines[k : k + 1] * 2 if kind == "double line" else []) + lines[k + 1 :])


def config(path: Path) -> DataConfig:
    return DataConfig.model_validate(
        {
            "path": str(path),
            "labels": [{"name": "click"}],
            "slots": [
                {"name": "user"},
                {"name": "place"},
                {"name": "tags", "kind": "multi"},
                {"name": "age", "kind": "value"},
            ],
            "max_bad_rows": 3,
        }
    )


def judge(path: Path, out: Path) -> str:
    """Encode; what is read is accounted for and finite, or the error says where."""
    shutil.rmtree(out, ignore_errors=True)
    try:
        manifest = encode(config(path), out)
    except DataError as error:
        assert str(path) in str(error) or "label 'click'" in str(error) or "row" in str(error), error
        assert "\x00" not in str(error)
        return "refused"
    rows = manifest.rows
    assert rows.read == rows.used + rows.rejected + rows.dropped
    assert rows.rejected <= 3
    log = EncodedLog.open(out)
    parts = [log.part(part) for part in ("train", "valid", "test")]
    assert sum(len(part) for part in parts) == rows.used
    assert all(bool(part.numeric.isfinite().all()) for part in parts)
    ids = {t.name: t.rows for t in log.tables}
    for part in parts:
        for k, slot in enumerate(part.one_hot_slots):
            assert bool(((part.ids[:, k] >= 0) & (part.ids[:, k] < ids[slot])).all())
    lines = reference_rows(path)
    if lines is not None:  # a reader of another kind sees as many rows
        assert rows.read == lines
    return "rejected rows" if rows.rejected else "read"


def reference_rows(path: Path) -> int | None:
    """Rows by another way of counting: the lines with something in them, less the header; of Parquet its footer."""
    if path.suffix == ".parquet":
        return int(pq.ParquetFile(path).metadata.num_rows)
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return sum(line not in (b"", b"\r") for line in data.split(b"\n")[1:])


def mutations(folder: Path, count: int, seed: int) -> Counter[str]:
    draw, told = random.Random(seed), Counter[str]()
    whole = sources(folder)
    for k in range(count):
        form = FORMATS[k % len(FORMATS)]
        kinds = (*KINDS, *TEXT_KINDS) if form == "csv" else KINDS
        kind = kinds[(k // len(FORMATS)) % len(kinds)]
        data = whole[form]
        data = spoil(data, kind, draw) if kind in TEXT_KINDS else mutate(data, kind, draw)
        path = folder / f"log.{form}"
        path.write_bytes(data)
        try:
            told[judge(path, folder / "out")] += 1
        except AutodimError:
            raise
        except Exception as error:
            raise AssertionError(f"{form}, {kind}, number {k}: {error!r}") from error
    return told


def test_mutated_logs_are_read_with_every_row_accounted_for_or_refused(tmp_path):
    told = mutations(tmp_path, 150, seed=0)
    assert told["refused"] > 40
    assert told["read"] + told["rejected rows"] > 25


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_thousand_mutated_logs(tmp_path):
    told = mutations(tmp_path, 2000, seed=1)
    print(dict(told))
    assert sum(told.values()) == 2000


def test_a_parquet_file_with_page_sums_never_changes_silently(tmp_path):
    """Every mutation of the pages is refused, or nothing that is read has changed."""
    data = sources(tmp_path)["parquet"]
    good = pa.Table.from_pandas(tiny_frame(ROWS), preserve_index=False)
    encode(config(tmp_path / "x.parquet"), tmp_path / "good")
    wanted = (tmp_path / "good" / "train" / "ids.bin").read_bytes()
    draw, refused = random.Random(2), 0
    for k in range(60):
        path = tmp_path / "log.parquet"
        path.write_bytes(mutate(data, KINDS[k % len(KINDS)], draw))
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        try:
            encode(config(path), tmp_path / "out")
        except DataError:
            refused += 1
            continue
        if (tmp_path / "out" / "train" / "ids.bin").read_bytes() != wanted:
            assert pq.read_schema(path).names != good.schema.names  # a column's name in the footer, which has no sum
    assert refused > 30
