"""Text formats: what goes in comes out, and what another system would refuse is said."""

import csv
import importlib.util
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import yaml

from autodim.dimension.allocation import Allocation, Entry
from autodim.embedding.layout import Slot
from autodim.errors import ConfigError
from autodim.export import DESCRIPTIONS, FORMATS, export
from autodim.export.torchrec import build_configs, specs

SLOTS = (
    Slot("user", "user"),
    Slot("genres", "genres", True, "mean"),
    Slot("zip", "zip"),
    Slot("from", "page", True, "sum"),
)


def allocation(user: int = 8, genres: int = 4) -> Allocation:
    entries = (
        Entry("user", ("user",), 0, 6041, user, tuple(range(user)), True, False, user * 6057, 0.5, None),
        Entry("genres", ("genres",), 0, 302, genres, None, True, True, genres * 318 + 16, 0.25, None),
        Entry("zip", ("zip",), 0, 3440, 0, (), False, True, 16, 0.0, None),
        Entry("page", ("from", "to"), 0, 10, 16, None, False, False, 160),
        Entry("page", ("from", "to"), 10, 50, 4, None, True, False, 224),
    )
    spent = sum(e.cost for e in entries)
    return Allocation("sseds", "params", 60_000, spent, 157_328, 16, entries, "60000 params", "abc", ("zip: its mean",))


def test_every_format_is_described_and_deterministic() -> None:
    assert set(DESCRIPTIONS) == {*FORMATS, "safetensors"}
    for name in FORMATS:
        assert export(allocation(), name, SLOTS) == export(allocation(), name, SLOTS)


def test_widths_is_the_file_that_retrain_reads() -> None:
    assert Allocation.from_yaml(export(allocation(), "widths")) == allocation()
    assert yaml.safe_load(export(allocation(), "widths"))["widths"]["user"] == 8


def test_json_says_everything() -> None:
    value = json.loads(export(allocation(), "json", SLOTS))
    assert value["widths"] == {"user": 8, "genres": 4, "zip": 0, "from": 16, "to": 16}
    assert value["budget"] == {
        "text": "60000 params",
        "unit": "params",
        "asked": 60_000,
        "spent": allocation().spent,
        "uniform": 157_328,
    }
    rebuilt = tuple(
        Entry(b["table"], tuple(b["slots"]), b["start"], b["stop"], b["width"],
              None if b["kept"] is None else tuple(b["kept"]), b["projected"], b["bias"], b["cost"], b["score"])
        for b in value["blocks"]
    )  # fmt: skip
    assert rebuilt == allocation().entries
    assert value["pooling"] == {"genres": "mean", "from": "sum"}


def test_csv_has_one_line_a_slot_and_block() -> None:
    rows = list(csv.DictReader(io.StringIO(export(allocation(), "csv"))))
    assert [(r["slot"], r["width"]) for r in rows] == [
        ("user", "8"), ("genres", "4"), ("zip", "0"), ("from", "16"), ("to", "16"), ("from", "4"), ("to", "4"),
    ]  # fmt: skip
    assert rows[0]["kept"] == "0 1 2 3 4 5 6 7"
    assert rows[0]["cost"] == str(8 * 6057)


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1", "-1", "@x", 'a,"b"\nc'])
def test_csv_is_no_formula_and_reads_back(name: str) -> None:
    entry = Entry(name, (name,), 0, 2, 1)
    rows = list(csv.DictReader(io.StringIO(export(Allocation("manual", "params", 9, 0, 9, 4, (entry,)), "csv"))))
    assert len(rows) == 1
    assert rows[0]["slot"][0] not in "=+-@"
    assert rows[0]["slot"].lstrip("'") == name


def test_torchrec_specs() -> None:
    found = specs(allocation(), SLOTS)
    tables = {t["name"]: t for t in found["tables"]}
    assert list(tables) == ["user", "genres", "page__0_10", "page__10_50"]
    assert tables["user"] == {
        "name": "user", "num_embeddings": 6041, "embedding_dim": 8, "feature_names": ["user"], "pooling": "SUM",
        "row_start": 0, "row_stop": 6041, "accepted": True, "data_type": "FP32",
    }  # fmt: skip
    assert tables["genres"]["pooling"] == "MEAN"
    assert tables["page__10_50"]["num_embeddings"] == 40
    assert found["constants"] == [{"table": "zip", "features": ["zip"], "reads_as": "bias"}]
    assert [(p["table"], p["in_features"], p["out_features"], p["bias"]) for p in found["projections"]] == [
        ("user", 8, 16, False), ("genres", 4, 16, True), ("page__10_50", 4, 16, False),
    ]  # fmt: skip
    assert found["problems"] == []


@pytest.mark.parametrize("width", [1, 2, 3, 5, 6, 7, 9, 10])
def test_torchrec_reports_widths_that_it_refuses_and_the_way_out(width: int) -> None:
    found = specs(allocation(user=width), SLOTS)
    assert len(found["problems"]) == 1
    assert f"width {width} " in found["problems"][0]
    assert "prune.multiple_of=4" in found["problems"][0]
    assert [t["name"] for t in found["tables"] if not t["accepted"]] == ["user"]
    assert found["tables"][0]["embedding_dim"] == width  # never rounded


def test_torchrec_reports_a_table_pooled_two_ways() -> None:
    slots = (Slot("from", "genres", True, "sum"), Slot("to", "genres", True, "mean"))
    two = replace(allocation().entries[1], slots=("from", "to"))
    assert "pool differently (MEAN, SUM)" in specs(replace(allocation(), entries=(two,)), slots)["problems"][0]


def test_torchrec_features_of_blocks_add_up_to_the_slot() -> None:
    """What a collection of these tables gives, read by the spec's own rules, is the slot's pooled vector."""
    rng = np.random.default_rng(0)
    entries = (
        Entry("tags", ("tags",), 0, 3, 8, None, False, False, 24),
        Entry("tags", ("tags",), 3, 9, 4, None, True, True, 64),
        Entry("tags", ("tags",), 9, 12, 0, None, False, True, 8),
    )
    made = Allocation("spectral", "params", 200, 96, 96, 8, entries)
    whole, constant = rng.normal(size=(12, 8)), rng.normal(size=(2, 8))
    narrow, projection = rng.normal(size=(6, 4)), rng.normal(size=(4, 8))
    whole[3:9] = narrow @ projection + constant[0]
    whole[9:] = constant[1]
    bag = np.array([0, 2, 2, 4, 8, 11])
    for pooling, wanted in (("mean", whole[bag].mean(0)), ("sum", whole[bag].sum(0))):
        found = specs(made, (Slot("tags", "tags", True, pooling),))
        assert found["problems"] == [] and {t["pooling"] for t in found["tables"]} == {"SUM"}
        tables = {t["feature_names"][0]: t for t in found["tables"]}
        maps = {p["features"][0]: p for p in found["projections"]}
        constants = {c["features"][0]: c for c in found["constants"]}
        vector = np.zeros(8)
        for f in found["features"]:
            ids = bag[(bag >= f["row_start"]) & (bag < f["row_stop"])] - f["row_start"]
            weight = {"1": 1.0, "1 / length of the whole bag": 1 / len(bag)}[f["weight"]]
            name = f["feature"]
            if name in constants:
                assert constants[name]["reads_as"] == "bias" and constants[name]["bias_per"] == "id"
                vector += weight * len(ids) * constant[1]
                continue
            assert max(ids) < tables[name]["num_embeddings"]
            stored = narrow if name in maps else whole[:3]
            own = (stored[ids] * weight).sum(0)
            if name in maps:
                assert maps[name]["bias"] and maps[name]["bias_per"] == "id"
                own = own @ projection + weight * len(ids) * constant[0]
            vector += own
        np.testing.assert_allclose(vector, wanted)
        assert f["slot"] == "tags"


def test_torchrec_objects_or_how_to_get_them() -> None:
    with pytest.raises(ConfigError, match="multiple of 4"):
        build_configs(allocation(user=3), SLOTS)
    if importlib.util.find_spec("torchrec") is None:
        with pytest.raises(ConfigError, match="pip install torchrec"):
            build_configs(allocation(), SLOTS)
    else:
        assert [c.embedding_dim for c in build_configs(allocation(), SLOTS)] == [8, 4, 16, 4]


def test_unknown_formats_are_named() -> None:
    with pytest.raises(ConfigError, match='did you mean "torchrec"'):
        export(allocation(), "torchrek")
    with pytest.raises(ConfigError, match="trained run"):
        export(allocation(), "safetensors")


def test_no_slots_at_all() -> None:
    empty = Allocation("sseds", "params", 0, 0, 0, 16, ())
    assert specs(empty)["tables"] == []
    assert json.loads(export(empty, "json"))["blocks"] == []
    assert len(export(empty, "csv").splitlines()) == 1
