"""Vocabularies beyond the memory share: counted on disk, with the very ids of those counted in memory."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from autodim.config.schema import DataConfig
from autodim.data import csvfile, memory, spill, vocabulary
from autodim.data.encode import encode
from autodim.data.encoded import EncodedLog
from autodim.data.frame import encode_rows
from autodim.data.memory import Limits
from autodim.data.spill import Spilled
from autodim.data.text import TEXT, Coded
from autodim.data.vocabulary import Counter, tally

SLOTS = [
    "user",
    {"name": "tags", "kind": "multi"},
    {"name": "count", "kind": "buckets"},
    {"name": "price", "kind": "scaled"},
    {"name": "priced", "column": "price", "kind": "buckets", "buckets": "quantile", "bins": 5},
    {"name": "other", "table": "user"},
]


def log(path: Path, rows: int = 4000, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    user = rng.zipf(1.3, rows) % 3000
    pd.DataFrame(
        {
            "user": np.where(rng.random(rows) < 0.05, "", np.char.mod("u%d", user)),
            "other": np.char.mod("u%d", rng.integers(0, 5000, rows)),
            "tags": ["|".join(rng.choice(list("abcdefgh"), k)) for k in rng.integers(0, 4, rows)],
            "price": np.where(rng.random(rows) < 0.1, "", np.exp(rng.normal(0, 2, rows)).round(4).astype(str)),
            "count": rng.integers(-3, 1000, rows),
            "click": rng.integers(0, 2, rows),
        }
    ).to_csv(path, index=False)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(("min_count", "partition"), [(1, 1 << 30), (1, 20_000), (3, 20_000)])
def test_spilled_and_counted_in_memory_are_the_same_bytes(tmp_path, monkeypatch, min_count, partition):
    log(tmp_path / "log.csv")
    data = DataConfig(path=str(tmp_path / "log.csv"), labels=["click"], slots=SLOTS, min_count=min_count)
    encode(data, tmp_path / "whole")
    spilled = []
    build = Spilled.__init__

    def note(self, *args, **more):
        spilled.append(self)
        build(self, *args, **more)

    monkeypatch.setattr(Spilled, "__init__", note)
    monkeypatch.setattr(csvfile, "BLOCK_BYTES", 9000)
    monkeypatch.setattr(
        memory.Limits, "of", lambda megabytes: Limits(block=9000, vocabularies=0, partition=partition, group=30_000)
    )
    encode(data, tmp_path / "disk")
    assert len(spilled) == 5  # every table, the shared one once
    assert bytes_of(tmp_path / "disk") == bytes_of(tmp_path / "whole")


def test_only_what_does_not_fit_goes_to_disk(tmp_path, monkeypatch):
    log(tmp_path / "log.csv")
    data = DataConfig(path=str(tmp_path / "log.csv"), labels=["click"], slots=SLOTS)
    built = []
    build = Spilled.__init__
    monkeypatch.setattr(
        Spilled, "__init__", lambda self, folder, *a, **m: (built.append(folder), build(self, folder, *a, **m))[1]
    )
    monkeypatch.setattr(
        memory.Limits, "of", lambda m: Limits(block=9000, vocabularies=60_000, partition=20_000, group=30_000)
    )
    encode(data, tmp_path / "out")
    assert [folder.name for folder in built] == ["table_0"]
    assert encode_rows(tmp_path / "log.csv", EncodedLog.open(tmp_path / "out")).ids.shape == (4000, 4)


def test_many_runs_merge_into_one_order_and_ids_come_back(tmp_path, monkeypatch):
    monkeypatch.setattr(spill, "CHUNK", 64)
    monkeypatch.setattr(vocabulary, "ROW_GROUP", 100)
    rng = np.random.default_rng(1)
    pieces = []
    for _ in range(7):
        values = [f"v{i}" for i in rng.choice(900, rng.integers(1, 400), replace=False)]
        codes = rng.integers(-1, len(values), 500).astype(np.int32)
        pieces.append(Coded(codes, pa.array(values, TEXT)))
    counter = Counter()
    for piece in pieces:
        counter.add(piece)
    expected = counter.vocabulary(2)
    expected.save(tmp_path / "expected.parquet")
    found = Spilled(
        tmp_path / "work",
        lambda: ((piece, tally(piece)) for piece in pieces),
        partition=1000,
        min_count=2,
        out=tmp_path / "found.parquet",
    )
    assert (tmp_path / "found.parquet").read_bytes() == (tmp_path / "expected.parquet").read_bytes()
    assert (found.rows, found.rare, found.missing_id) == (expected.rows, expected.rare, expected.missing_id)
    assert found.missing_id > 0
    assert np.concatenate(list(found.counts_in_parts())).tolist() == expected.counts.tolist()
    for s, piece in enumerate(pieces):
        wanted = np.append(expected.ids_of(piece.values), np.int32(expected.missing_id))
        assert found.ids(s).tolist() == wanted.tolist()
