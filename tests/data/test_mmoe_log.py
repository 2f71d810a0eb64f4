"""MMoE's synthetic log: what is planted is there."""

from __future__ import annotations

import json

import numpy as np
import pytest

from autodim.config.schema import DataConfig
from autodim.data.encode import encode
from autodim.data.encoded import EncodedLog
from autodim.data.logs import mmoe
from autodim.errors import ConfigError


def drawn(**options: float):
    table, truth = mmoe.draw(**{**mmoe.OPTIONS, "rows": 4000, "dimension": 8, **options})
    columns = {name: table[name].to_numpy().astype(float) for name in table.column_names}
    return np.stack([columns[f"x{i:03d}"] for i in range(8)], 1), columns["first"], columns["second"], truth


@pytest.mark.parametrize("correlation", [-1.0, 0.0, 0.5, 1.0])
def test_the_cosine_of_the_weights_is_the_correlation(correlation):
    _, _, _, truth = drawn(correlation=correlation)
    w1, w2 = np.array(truth["w1"]), np.array(truth["w2"])
    assert np.linalg.norm(w1) == pytest.approx(1) and np.linalg.norm(w2) == pytest.approx(1)
    assert w1 @ w2 == pytest.approx(correlation, abs=1e-12)


def test_labels_are_the_formula_and_noise():
    x, first, second, truth = drawn(correlation=0.3, scale=10.0, noise=0.1)
    assert abs(x.mean()) < 0.02 and x.std() == pytest.approx(1, abs=0.02)
    for label, w, scale in ((first, truth["w1"], 1.0), (second, truth["w2"], 10.0)):
        s = x @ np.array(w)
        clean = s + sum(np.sin(a * s + b) for a, b in zip(truth["a"], truth["b"], strict=True))
        rest = label / scale - clean
        assert rest.std() == pytest.approx(0.1, abs=0.005) and abs(rest.mean()) < 0.01
    exact = drawn(correlation=1.0, noise=0.0)
    np.testing.assert_allclose(exact[1], exact[2], atol=1e-5)
    assert exact[3]["label_correlation"] == pytest.approx(1)
    assert abs(drawn(correlation=0.0)[3]["label_correlation"]) < 0.06


def test_a_seed_draws_the_same_log_and_another_seed_another():
    a, b, c = drawn(seed=1), drawn(seed=1), drawn(seed=2)
    assert np.array_equal(a[1], b[1]) and not np.array_equal(a[1], c[1])


def test_it_encodes_without_slots_and_in_units_of_its_labels(tmp_path):
    data = DataConfig(log="mmoe", options={"rows": 500, "dimension": 5, "scale": 10.0})
    manifest = encode(data, tmp_path / "out")
    assert manifest.rows.used == 500 and manifest.labels == ("first", "second")
    log = EncodedLog.open(tmp_path / "out")
    assert log.slots == () and len(log.numeric) == 5 and log.part("train").ids.shape[1] == 0
    first, second = log.tasks
    assert first.kind == second.kind == "regression" and second.std / first.std > 5
    assert json.loads((tmp_path / "out" / "log" / "tasks.json").read_text())["options"]["rows"] == 500


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"correlaton": 0.5}, 'did you mean "correlation"'),
        ({"correlation": 1.5}, "must be a number from -1 to 1"),
        ({"rows": 500.5}, "must be a whole number"),
    ],
)
def test_options_are_checked(tmp_path, options, said):
    with pytest.raises(ConfigError, match=said):
        encode(DataConfig(log="mmoe", options=options), tmp_path / "out")
