"""Several logs as one: ids, labels, parts and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from autodim.config.schema import DataConfig
from autodim.data.encode import encode
from autodim.data.encoded import EncodedLog
from autodim.data.frame import encode_rows
from autodim.data.several import LogRows
from autodim.errors import DataError

LABELS = ["click", "buy"]
SLOTS = ["user", {"name": "tags", "kind": "multi"}, {"name": "age", "kind": "value"}]


def frame(rows: int = 500, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    tags = ["|".join(f"t{v}" for v in rng.integers(0, 5, n)) for n in rng.integers(0, 4, rows)]
    columns = {"user": rng.integers(0, 40, rows), "tags": tags, "age": rng.normal(size=rows).round(2)}
    return pd.DataFrame(
        columns | {name: rng.integers(0, 2, rows) for name in LABELS} | {"day": rng.integers(0, 9, rows)}
    )


def encoded(folder: Path, name: str, **data) -> EncodedLog:
    section = {"labels": LABELS, "slots": SLOTS, "split": {"valid": 0.2, "test": 0.2}} | data
    encode(DataConfig.model_validate(section), folder / name)
    return EncodedLog.open(folder / name)


def files(folder: Path) -> list[dict]:
    """One log cut in two: a CSV and a Parquet file, whose users are texts here and integers there."""
    log = frame()
    log[:350].to_csv(folder / "a.csv", index=False)
    log[350:].to_parquet(folder / "b.parquet")
    log.astype({"user": str}).to_parquet(folder / "whole.parquet")
    return [{"path": str(folder / "a.csv")}, {"path": str(folder / "b.parquet")}]


def test_one_log_cut_in_two_is_that_log_to_the_byte(tmp_path):
    """Parts, ids (integers of one file are the texts of the other), counts, scales and labels."""
    two = files(tmp_path)
    whole = encoded(tmp_path, "one", path=str(tmp_path / "whole.parquet"))
    cut = encoded(tmp_path, "two", logs=[one | {"labels": LABELS} for one in two])
    names = sorted(p.relative_to(whole.path) for p in whole.path.rglob("*.bin"))
    assert len(names) == 1 + 3 * 5
    assert all((whole.path / name).read_bytes() == (cut.path / name).read_bytes() for name in names)
    assert whole.manifest.tables == cut.manifest.tables and whole.manifest.numeric == cut.manifest.numeric
    assert whole.logs("train") == () and [one.tasks for one in cut.logs("train")] == [(0, 1), (0, 1)]


def test_each_row_has_the_labels_of_its_log_alone(tmp_path):
    a, b = files(tmp_path)
    whole = encoded(tmp_path, "one", path=str(tmp_path / "whole.parquet"))
    cut = encoded(tmp_path, "two", logs=[a | {"labels": ["click"]}, b | {"labels": ["buy"]}])
    total = 0
    for part in ("train", "valid", "test"):
        truth, found = whole.part(part), cut.part(part)
        first, second = cut.logs(part)
        assert first == LogRows(0, first.stop, (0,)) and second == LogRows(first.stop, len(truth), (1,))
        assert torch.equal(found.ids, truth.ids) and torch.equal(found.numeric, truth.numeric)
        assert found.labels[: first.stop, 1].isnan().all() and found.labels[first.stop :, 0].isnan().all()
        assert torch.equal(found.labels[: first.stop, 0], truth.labels[: first.stop, 0])
        assert torch.equal(found.labels[first.stop :, 1], truth.labels[first.stop :, 1])
        total += first.stop
    assert total == 350
    assert cut.manifest.parts["train"].labelled == (cut.logs("train")[0].stop, 150 - sum(
        cut.logs(p)[1].stop - cut.logs(p)[1].start for p in ("valid", "test")))  # fmt: skip


def test_an_entire_space_does_not_reach_into_a_log_without_the_label(tmp_path):
    """`outside: zero` makes zeros where the other label is 0, but only in logs that have both."""
    a, b = files(tmp_path)
    labels = ["click", {"name": "buy", "where": "click", "outside": "zero"}]
    cut = encoded(tmp_path, "two", labels=labels, logs=[a | {"labels": ["click"]}, b | {"labels": LABELS}])
    end = cut.logs("train")[0].stop
    found = cut.part("train").labels
    assert found[:end, 1].isnan().all() and not found[end:].isnan().any()
    assert (found[end:, 1][found[end:, 0] == 0] == 0).all()


@pytest.mark.parametrize("split", [{"by": "time", "column": "day"}, {"by": "group", "column": "user"}])
def test_splits_by_value_treat_all_logs_alike(split, tmp_path):
    """A user's rows of both logs are in one part; the same days judge in both."""
    a, b = files(tmp_path)
    logs = [a | {"labels": ["click"]}, b | {"labels": ["buy"]}]
    slots = [*SLOTS, {"name": "when", "column": "day"}]
    cut = encoded(tmp_path, "two", logs=logs, split=split | {"valid": 0.2, "test": 0.2}, slots=slots)
    column = 0 if split["by"] == "group" else 1
    for part in ("train", "valid", "test"):
        for rows in cut.logs(part):
            ids = cut.part(part).ids[rows.start : rows.stop, column]
            # training rows of either log make the ids, so a value that is 0 (unknown) is in no log's training rows
            assert len(ids) and bool(((ids == 0) == (part != "train")).all())


def test_new_rows_may_have_any_of_the_labels(tmp_path):
    a, b = files(tmp_path)
    cut = encoded(tmp_path, "two", logs=[a | {"labels": ["click"]}, b | {"labels": ["buy"]}])
    rows = frame(20, seed=1)
    assert not encode_rows(rows, cut).labels.isnan().any()
    assert encode_rows(rows.drop(columns=LABELS), cut).labels.isnan().all()


def test_what_a_log_lacks_is_told_with_its_name(tmp_path):
    a, b = files(tmp_path)
    logs = [a | {"labels": ["click"]}, b | {"labels": ["buy"]}]
    with pytest.raises(DataError, match=r"b\.parquet: no column 'city'.*needs the columns of all slots"):
        log = frame()[:350].assign(city="x")
        log.to_csv(tmp_path / "a.csv", index=False)
        encoded(tmp_path, "x", logs=logs, slots=["user", "city"])
    with pytest.raises(DataError, match=r"no row of .*b\.parquet is in the part valid.*every log needs rows"):
        frame()[350:].assign(day=0).to_parquet(tmp_path / "b.parquet")
        encoded(tmp_path, "y", logs=logs, split={"by": "time", "column": "day", "valid": 0.3, "test": 0.3})


def test_a_changed_file_of_either_log_is_another_source(tmp_path):
    a, b = files(tmp_path)
    logs = [a | {"labels": ["click"]}, b | {"labels": ["buy"]}]
    before = encoded(tmp_path, "x", logs=logs).manifest
    frame(150, seed=3).to_parquet(tmp_path / "b.parquet")
    after = encoded(tmp_path, "y", logs=logs).manifest
    assert before.config_hash == after.config_hash and before.source_hash != after.source_hash
