"""Labels of several tasks: kinds, sample spaces, and what a regression is measured in."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from autodim.config.schema import DataConfig, LabelConfig
from autodim.data.encode import encode
from autodim.data.encoded import EncodedLog
from autodim.data.infer import infer
from autodim.data.labels import in_sample_space, label_values
from autodim.data.parts import mean_and_std
from autodim.errors import ConfigError, DataError

NAN = np.nan


def labels(*entries: dict[str, object]) -> list[LabelConfig]:
    return [LabelConfig.model_validate(entry) for entry in entries]


def test_a_label_is_known_where_the_other_is_one():
    values = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 1], [NAN, 1, 1], [1, NAN, 0]], np.float32)
    chain = labels({"name": "click"}, {"name": "buy", "where": "click"}, {"name": "keep", "where": "buy"})
    expected = [[1, 1, 1], [1, 0, NAN], [0, NAN, NAN], [NAN, NAN, NAN], [1, NAN, NAN]]
    np.testing.assert_array_equal(in_sample_space(values, chain), np.array(expected, np.float32))
    entire = labels({"name": "click"}, {"name": "buy", "where": "click", "outside": "zero"})
    expected = [[1, 1], [1, 0], [0, 0], [NAN, NAN], [1, NAN]]
    np.testing.assert_array_equal(in_sample_space(values[:, :2], entire), np.array(expected, np.float32))
    # the order of the labels is no matter
    turned = labels({"name": "keep", "where": "buy"}, {"name": "buy", "where": "click"}, {"name": "click"})
    np.testing.assert_array_equal(in_sample_space(values[:, ::-1], turned)[:, ::-1], in_sample_space(values, chain))


def test_a_regression_reads_numbers():
    label = LabelConfig(name="price", kind="regression")
    found = label_values(pa.array(["3.5", "", "-2"]), label, ("",))
    np.testing.assert_array_equal(found, np.array([3.5, NAN, -2], np.float32))
    with pytest.raises(DataError, match=r"'cheap'.*regression"):
        label_values(pa.array(["3.5", "cheap"]), label, ("",))


def frame(rows: int = 3000) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    click = rng.random(rows) < 0.4
    return pd.DataFrame(
        {
            "user": rng.integers(0, 50, rows).astype(str),
            "click": click.astype(int),
            "buy": np.where(click, (rng.random(rows) < 0.3).astype(float), NAN),
            "price": np.where(rng.random(rows) < 0.9, rng.lognormal(3, 1, rows) + 1e5, NAN),
        }
    )


def test_a_log_keeps_the_mean_and_the_spread_of_a_regression(tmp_path):
    data = DataConfig.model_validate(
        {
            "labels": [
                "click", {"name": "buy", "where": "click", "outside": "zero", "role": "auxiliary"},
                {"name": "price", "kind": "regression"},
            ],
            "slots": ["user"],
        }
    )  # fmt: skip
    encode(data, tmp_path / "log", source=frame())
    log = EncodedLog.open(tmp_path / "log")
    train = log.part("train").labels.double().numpy()
    assert [t.role for t in log.tasks] == ["main", "auxiliary", "main"]
    assert (log.tasks[0].mean, log.tasks[0].std) == (0.0, 1.0)
    assert log.tasks[2].mean == pytest.approx(np.nanmean(train[:, 2]), rel=1e-9)
    assert log.tasks[2].std == pytest.approx(np.nanstd(train[:, 2]), rel=1e-6)
    assert np.isnan(train[:, 2]).any() and not np.isnan(train[:, 1]).any()
    assert set(np.unique(train[train[:, 0] == 0, 1])) == {0.0}


def test_mean_and_spread_keep_their_digits_far_from_zero():
    values = (1e6 + np.random.default_rng(1).normal(size=3_000_000)).astype(np.float32)
    values[::7] = NAN
    wide = values.astype(np.float64)
    assert mean_and_std(values) == pytest.approx((np.nanmean(wide), np.nanstd(wide)), rel=1e-10)


def test_a_constant_regression_is_refused(tmp_path):
    data = DataConfig.model_validate({"labels": ["click", {"name": "price", "kind": "regression"}], "slots": ["user"]})
    with pytest.raises(DataError, match="are equal, but a regression needs numbers that differ"):
        encode(data, tmp_path / "log", source=frame().assign(price=7.0))


def test_init_takes_several_labels(tmp_path):
    path = tmp_path / "log.csv"
    frame().assign(leak=lambda f: f.click.map({0: "no", 1: "yes"})).to_csv(path, index=False)
    import yaml

    text = yaml.safe_load(infer(str(path), ["click", "buy", "price>100020"]).text)
    assert text["model"]["name"] == "mmoe" and "hidden" not in text["model"]
    data = text["data"]
    assert data["labels"] == ["click", "buy", {"name": "price", "above": 100020}]
    columns = {s if isinstance(s, str) else s["name"] for s in data["slots"]}
    assert columns == {"user"}  # a column that knows any label is left out
    assert "drop" not in data  # a row without one label still teaches the others
    data = yaml.safe_load(infer(str(path), ["price>100010", "price>100030"]).text)["data"]
    assert [entry["name"] for entry in data["labels"]] == ["price_above_100010", "price_above_100030"]
    with pytest.raises(ConfigError, match="given twice"):
        infer(str(path), ["click", "click"])
