"""Splits by group and by file: what must stay together does, and mistakes are told before any row is read."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autodim.config.schema import DataConfig
from autodim.data import csvfile
from autodim.data.encode import encode
from autodim.data.encoded import EncodedLog
from autodim.errors import ConfigError, DataError

PARTS = ("train", "valid", "test")


def log(rows: int, users: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    user = rng.zipf(1.4, rows) % users
    return pd.DataFrame({"user": np.char.mod("u%d", user), "row": np.arange(rows), "click": rng.integers(0, 2, rows)})


def users_of(folder: Path) -> list[set[str]]:
    """Rows of each part, by the row numbers that a `value`-free slot keeps."""
    encoded = EncodedLog.open(folder)
    return [set(np.rint(_raw(encoded, part)).astype(int)) for part in PARTS]


def _raw(encoded: EncodedLog, part: str) -> np.ndarray:
    record = encoded.manifest.numeric[0]
    return encoded.part(part).numeric[:, 0].double().numpy() * record.std + record.mean


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(3, 400))
def test_a_group_is_never_in_two_parts(tmp_path_factory, seed, users):
    folder = tmp_path_factory.mktemp("group")
    table = log(2000, users, seed)
    split = {"by": "group", "column": "user", "valid": 0.3, "test": 0.3, "seed": seed}
    data = DataConfig(
        path=str(folder / "log.csv"),
        labels=["click"],
        slots=["user", {"name": "row", "kind": "value"}],
        split=split,
    )
    table.to_csv(folder / "log.csv", index=False)
    before, csvfile.BLOCK_BYTES = csvfile.BLOCK_BYTES, 3000
    try:
        encode(data, folder / "out")
    except DataError as error:  # of few groups a part may get none; the message says so
        assert "groups" in str(error) or "both classes" in str(error)
        return
    finally:
        csvfile.BLOCK_BYTES = before
    rows = users_of(folder / "out")
    assert sum(map(len, rows)) == 2000
    found = [set(table["user"].iloc[sorted(part)]) for part in rows]
    assert not found[0] & found[1] and not found[0] & found[2] and not found[1] & found[2]


def test_a_group_keeps_its_part_when_the_log_grows_and_shares_are_met(tmp_path):
    table = log(6000, 100_000)
    table["user"] = np.char.mod("g%d", np.arange(6000) // 2)
    split = {"by": "group", "column": "user", "valid": 0.2, "test": 0.1}
    slots = [{"name": "row", "kind": "value"}]
    for name, rows in (("a", 6000), ("b", 3000)):
        data = DataConfig(labels=["click"], slots=slots, split=split)
        encode(data, tmp_path / name, source=table.head(rows))
    whole, half = users_of(tmp_path / "a"), users_of(tmp_path / "b")
    for part, again in zip(whole, half, strict=True):
        assert {r for r in part if r < 3000} == again
    np.testing.assert_allclose([len(part) / 6000 for part in whole], [0.7, 0.2, 0.1], atol=0.03)


def test_rows_without_a_group_are_groups_of_their_own(tmp_path):
    table = log(1000, 3).assign(user="")
    split = {"by": "group", "column": "user", "valid": 0.2, "test": 0.2}
    data = DataConfig(labels=["click"], slots=[{"name": "row", "kind": "value"}], split=split)
    encode(data, tmp_path / "out", source=table)
    np.testing.assert_allclose([len(p) / 1000 for p in users_of(tmp_path / "out")], [0.6, 0.2, 0.2], atol=0.05)


def days(tmp_path: Path, *names: str) -> Path:
    folder = tmp_path / "days"
    folder.mkdir()
    for k, name in enumerate(names):
        table = log(100, 10, k)
        table["row"] += 100 * k
        table.to_csv(folder / name, index=False)
    return folder


def by_file(folder: Path, **split) -> DataConfig:
    slots = [{"name": "row", "kind": "value"}]
    return DataConfig(path=str(folder), labels=["click"], slots=slots, split={"by": "file"} | split)


def test_files_are_parts_by_name_or_pattern(tmp_path):
    folder = days(tmp_path, "day_1.csv", "day_2.csv", "day_3.csv", "late.csv")
    split = {"train_values": ["day_[12]"], "valid_values": ["day_3.csv"], "test_values": ["late"]}
    encode(by_file(folder, **split), tmp_path / "out")
    expected = [set(range(200)), set(range(200, 300)), set(range(300, 400))]
    assert users_of(tmp_path / "out") == expected


def test_train_valid_test_files_need_no_values_and_valid_from_takes_a_share(tmp_path):
    folder = days(tmp_path, "test.csv", "train.csv", "val.csv")
    encode(by_file(folder), tmp_path / "1")
    assert users_of(tmp_path / "1") == [set(range(100, 200)), set(range(200, 300)), set(range(100))]
    (folder / "val.csv").unlink()
    with pytest.raises(DataError, match=r"no file of .* means valid.*valid_from"):
        encode(by_file(folder), tmp_path / "2")
    encode(by_file(folder, valid_from="train", valid=0.3), tmp_path / "3")
    train, valid, test = users_of(tmp_path / "3")
    assert test == set(range(100)) and train | valid == set(range(100, 200)) and 15 < len(valid) < 45


def test_files_that_mean_no_part_or_two_are_told_before_reading(tmp_path, monkeypatch):
    folder = days(tmp_path, "day_1.csv", "train.csv")
    monkeypatch.setattr(csvfile, "read_csv", None)
    with pytest.raises(DataError, match=r"the file 'day_1.csv' means no part"):
        encode(by_file(folder), tmp_path / "1")
    with pytest.raises(DataError, match=r"'train.csv' means several parts"):
        encode(by_file(folder, train_values=["*"], test_values=["t*"]), tmp_path / "2")
    with pytest.raises(ConfigError, match="do not come from files"):
        encode(by_file(folder), tmp_path / "3", source=log(10, 2))
