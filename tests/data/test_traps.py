"""Every trap that CSV and Parquet readers were seen to fall into: the right rows come out, or a clear refusal does."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autodim.config.schema import DataConfig
from autodim.data.encode import encode
from autodim.data.encoded import EncodedLog
from autodim.errors import DataError

ALL = {"valid": 0, "test": 0}
SLOTS = ["user", {"name": "tags", "kind": "multi", "weight_separator": ":"}, {"name": "x", "kind": "value"}]


def vocabulary_of(tmp_path: Path, content: bytes | pd.DataFrame | pa.Table, name: str = "log.csv") -> list:
    """The texts of slot `a`, sorted, of a log with a label `y`."""
    frame = content if isinstance(content, pd.DataFrame) else None
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif isinstance(content, pa.Table):
        pq.write_table(content, tmp_path / name)
    data = DataConfig(path=str(tmp_path / name), labels=["y"], slots=["a"], split=ALL)
    encode(data, tmp_path / "out", source=frame)
    texts = EncodedLog.open(tmp_path / "out").vocabulary("a").values.to_pylist()
    return sorted(texts, key=lambda text: (text is None, text))


def test_texts_that_readers_like_to_change_become_categories_as_they_are(tmp_path):
    texts = ["NA", "null", "NaN", "None", "007", "7", "7.0", "1e5", "true", "9007199254740993", "9007199254740992", "-"]
    content = "a,y\n" + "".join(f"{t},{i % 2}\n" for i, t in enumerate([*texts, ""]))
    assert vocabulary_of(tmp_path, content.encode()) == [*sorted(texts), None]


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64(), pa.string(), pa.decimal128(20)])
def test_large_ids_beside_a_gap_stay_apart_in_parquet(tmp_path, kind):
    ids = pa.array(["9007199254740992", "9007199254740993", None, None]).cast(kind)
    found = vocabulary_of(tmp_path, pa.table({"a": ids, "y": [0, 1, 0, 1]}), "log.parquet")
    assert found == ["9007199254740992", "9007199254740993", None]


@pytest.mark.parametrize(
    ("values", "dtype"), [([9007199254740993, None], "float64"), ([16777217, 1], "float32"), ([2.0**60, 1], "float64")]
)
def test_ids_that_pandas_has_rounded_are_refused(tmp_path, values, dtype):
    with pytest.raises(DataError, match=r"column 'a': found \d+ in a column of type .*rounded.*Int64 or str"):
        vocabulary_of(tmp_path, pd.DataFrame({"a": pd.Series(values, dtype=dtype), "y": [0, 1]}))


def test_floats_that_are_exact_are_ids(tmp_path):
    frame = pd.DataFrame({"a": [7.0, 2.0**53 - 1, 0.5, None], "y": [0, 1, 0, 1]})
    assert vocabulary_of(tmp_path, frame) == ["0.5", "7", "9007199254740991", None]


def log_text(rows: int = 60) -> bytes:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "user": [f"u{v}" for v in rng.integers(0, 9, rows)],
            "tags": ["|".join(f"t{v}:{w:.2f}" for v, w in rng.random((k, 2))) for k in rng.integers(0, 3, rows)],
            "x": rng.normal(size=rows).round(3),
            "when": np.arange(rows),
            "click": rng.integers(0, 2, rows),
        }
    )
    return frame.to_csv(index=False).encode()


@pytest.fixture(autouse=True)
def nothing_is_printed(monkeypatch):
    """A callback's failure within the parser would only be printed, as a traceback."""
    seen = []
    monkeypatch.setattr("sys.unraisablehook", seen.append)
    yield
    assert seen == []


def attempt(path: Path, out: Path, limit: int) -> EncodedLog | None:
    """An encoded log whose rows add up, or a DataError that tells where and is printable."""
    data = DataConfig(
        path=str(path),
        labels=["click"],
        slots=SLOTS,
        max_bad_rows=limit,
        split={"by": "time", "column": "when", "valid": 0.2, "test": 0.2},
    )
    try:
        encode(data, out)
    except DataError as error:
        assert path.name in str(error) or "row" in str(error) or "column" in str(error), str(error)
        assert all(c.isprintable() or c == "\n" for c in str(error)), repr(str(error))
        return None
    log = EncodedLog.open(out)
    rows = log.manifest.rows
    assert rows.read == rows.used + rows.rejected + rows.dropped
    parts = [log.part(name) for name in ("train", "valid", "test")]
    assert sum(map(len, parts)) == rows.used
    for part in parts:
        assert part.numeric.isfinite().all()
        assert bool(((part.labels == 0) | (part.labels == 1) | part.labels.isnan()).all())
        assert part.bag_weights["tags"].isfinite().all()
    return log


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """One to three small accidents."""
    found = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(0, len(found)))
        kind = rng.integers(0, 6)
        if kind == 0:
            found[at] = int(rng.integers(0, 256))
        elif kind == 1:
            found[at:at] = bytes(rng.choice(list(b'",\n\r\t|:;\0 \xff\xe9-eE.'), 2).astype(np.uint8))
        elif kind == 2:
            del found[at : at + int(rng.integers(1, 40))]
        elif kind == 3:
            found[at:at] = found[at : at + int(rng.integers(1, 60))]
        elif kind == 4:
            del found[at:]
        else:
            found[at] ^= 1 << int(rng.integers(0, 8))
        if not found:
            return b""
    return bytes(found)


def mutate_text(tmp_path: Path, seeds: range) -> int:
    """How many of the mutations were refused."""
    content, refused = log_text(), 0
    for seed in seeds:
        path = tmp_path / f"{seed}.csv"
        path.write_bytes(mutated(content, np.random.default_rng(seed)))
        refused += attempt(path, tmp_path / f"out-{seed}", seed % 3) is None
    return refused


def test_mutated_text_is_read_with_every_row_accounted_for_or_refused(tmp_path):
    assert 20 < mutate_text(tmp_path, range(120)) < 120


@pytest.mark.slow
def test_two_thousand_mutations_of_text(tmp_path):
    assert 200 < mutate_text(tmp_path, range(2000)) < 2000


@pytest.mark.parametrize("count", [60, pytest.param(500, marks=pytest.mark.slow)])
def test_mutated_parquet_with_checksums_is_refused_or_the_same(tmp_path, count):
    table = pa.Table.from_pandas(pd.read_csv(io.BytesIO(log_text()), keep_default_na=False))
    pq.write_table(table, tmp_path / "whole.parquet", write_page_checksum=True)
    whole = attempt(tmp_path / "whole.parquet", tmp_path / "whole", 0)
    content = (tmp_path / "whole.parquet").read_bytes()
    expected = [whole.part("train").ids.tolist(), whole.part("test").bag_weights["tags"].tolist()]
    refused = 0
    footer = int.from_bytes(content[-8:-4], "little") + 8
    for seed in range(count):
        rng = np.random.default_rng(seed)
        found = bytearray(content)
        found[int(rng.integers(4, len(found) - footer))] ^= 1 << int(rng.integers(0, 8))
        path = tmp_path / f"{seed}.parquet"
        path.write_bytes(found)
        log = attempt(path, tmp_path / f"out-{seed}", 0)
        refused += log is None
        if log is not None:  # a bit that nothing reads, in a page's header
            assert [log.part("train").ids.tolist(), log.part("test").bag_weights["tags"].tolist()] == expected
    assert refused > 0.8 * count
