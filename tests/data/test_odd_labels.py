"""Rows whose label is none: named by their lines, and left out like other bad rows where that is allowed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from autodim.config.schema import DataConfig
from autodim.data.accounting import Rejects, places
from autodim.data.encode import encode
from autodim.data.encoded import EncodedLog
from autodim.data.frame import encode_rows
from autodim.errors import DataError

ODD = {3: "maybe", 10: "2", 11: "2"}  # data rows from 0; a CSV's row 0 is its line 2, a Parquet's its row 1


def rows(odd: dict[int, str]) -> pd.DataFrame:
    click = [odd.get(i, str(i % 2)) for i in range(60)]
    return pd.DataFrame({"user": [f"u{i % 5}" for i in range(60)], "age": [str(i) for i in range(60)], "click": click})


def written(folder: Path, frame: pd.DataFrame, kind: str) -> DataConfig:
    path = folder / f"log.{kind}"
    frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path, index=False)
    slots = ["user", {"name": "age", "kind": "value"}]
    return DataConfig.model_validate({"path": str(path), "labels": ["click"], "slots": slots})


@pytest.mark.parametrize(("kind", "named"), [("csv", "lines 5, 12, 13"), ("parquet", "rows 4, 11, 12")])
def test_odd_labels_are_named_by_their_lines_and_left_out_on_request(tmp_path, kind, named):
    data = written(tmp_path, rows(ODD), kind)
    with pytest.raises(DataError, match=rf"{named}: label 'click': column 'click' holds 'maybe', '2'.*0 or 1") as told:
        encode(data.model_copy(update={"max_bad_rows": 2}), tmp_path / "few")
    assert "3 rejected row(s) so far, data.max_bad_rows allows 2" in str(told.value)
    encode(data.model_copy(update={"max_bad_rows": 3}), tmp_path / "log")
    log = EncodedLog.open(tmp_path / "log")
    assert (log.manifest.rows.read, log.manifest.rows.used, log.manifest.rows.rejected) == (60, 57, 3)
    assert all("label 'click'" in example for example in log.manifest.rows.rejected_examples)
    kept = sum(int(np.nansum(log.part(part).labels.numpy())) for part in ("train", "valid", "test"))
    assert kept == sum(i % 2 for i in range(60) if i not in ODD)


def test_a_row_that_is_bad_twice_is_counted_once(tmp_path):
    frame = rows(ODD)
    frame.loc[3, "age"] = "old"
    data = written(tmp_path, frame, "csv").model_copy(update={"max_bad_rows": 3})
    manifest = encode(data, tmp_path / "log")
    assert (manifest.rows.rejected, len(manifest.rows.rejected_examples)) == (3, 3)


def test_only_the_first_few_of_many_lines_are_named(tmp_path):
    data = written(tmp_path, rows(dict.fromkeys(range(0, 60, 2), "5")), "csv")
    with pytest.raises(DataError, match=r"lines 2, 4, 6, 8, 10 and 25 more: "):
        encode(data, tmp_path / "log")
    assert places("row", [7]) == "row 7"


def test_a_label_that_cannot_be_compared_or_learnt_is_odd_too(tmp_path):
    for meaning in ({"above": 0}, {"kind": "regression"}):
        data = written(tmp_path, rows({4: "x"}), "csv")
        data = DataConfig.model_validate(
            {**data.model_dump(), "labels": [{"name": "click", **meaning}], "max_bad_rows": 1}
        )
        assert encode(data, tmp_path / str(len(meaning) + len(str(meaning)))).rows.rejected == 1


def test_new_rows_to_score_lose_such_rows_in_the_same_count(tmp_path):
    encode(written(tmp_path, rows({}), "csv"), tmp_path / "log")
    rows({2: "?"}).to_csv(tmp_path / "new.csv", index=False)
    rejects, lines = Rejects(1), list[int]()
    found = encode_rows(tmp_path / "new.csv", EncodedLog.open(tmp_path / "log"), rejects=rejects, places=lines)
    assert (rejects.rejected, len(found), 4 in lines) == (1, 59, False)
