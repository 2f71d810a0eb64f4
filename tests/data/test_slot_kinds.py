"""Weighted bags, numbers times one vector, and hashed ids: from the log to the model's leaves."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from autodim.config.schema import DataConfig
from autodim.data.bags import weighted_bags
from autodim.data.encode import encode
from autodim.data.encoded import EncodedLog
from autodim.data.frame import encode_rows
from autodim.data.hashing import KEPT, Sketch, bucketed, text_hashes
from autodim.data.text import coded
from autodim.embedding.layout import uniform_layout
from autodim.embedding.tables import Tables
from autodim.errors import ConfigError, DataError

ALL = {"valid": 0, "test": 0}


def log_of(tmp_path: Path, table: pd.DataFrame, slots: list, name: str = "out", **more) -> EncodedLog:
    data = DataConfig(**{"labels": ["click"], "slots": slots, "split": ALL} | more)
    encode(data, tmp_path / name, source=table)
    return EncodedLog.open(tmp_path / name)


def tables_of(log: EncodedLog, width: int = 3) -> Tables:
    tables = Tables(uniform_layout(log.slots, log.tables, width), linear=False)
    with torch.no_grad():
        for parameter in tables.table_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    return tables


def test_three_ways_to_write_weights_agree(tmp_path):
    click = [0, 1, 0, 1]
    inline = pd.DataFrame({"g": ["a:0.5|b:2", "b", "", "b:1|a:3|b:0"], "click": click})
    apart = pd.DataFrame({"g": ["a|b", "b", "", "b|a|b"], "w": ["0.5|2", "1", "", "1|3|0"], "click": click})
    lists = pd.DataFrame(
        {"g": [["a", "b"], ["b"], [], ["b", "a", "b"]], "w": [[0.5, 2.0], [1.0], [], [1.0, 3.0, 0.0]], "click": click}
    )
    found = [
        log_of(tmp_path, inline, [{"name": "g", "kind": "multi", "weight_separator": ":"}], "1"),
        log_of(tmp_path, apart, [{"name": "g", "kind": "multi", "weights": "w"}], "2"),
        log_of(tmp_path, lists, [{"name": "g", "kind": "multi", "weights": "w"}], "3"),
    ]
    for log in found:
        columns = log.part("train")
        assert columns.bags["g"][0].tolist() == [2, 1, 1, 1, 2, 1]  # b 4 times, a twice
        # the default pooling is the weighted mean, so the weights of a row add up to 1
        assert columns.bag_weights["g"].tolist() == pytest.approx([0.2, 0.8, 1, 0.25, 0.75, 0])
    summed = log_of(tmp_path, apart, [{"name": "g", "kind": "multi", "weights": "w", "pooling": "sum"}], "4")
    assert summed.part("train").bag_weights["g"].tolist() == [0.5, 2, 1, 1, 3, 0]
    again = encode_rows(apart.drop(columns="click"), found[1])
    assert torch.equal(again.bag_weights["g"], found[1].part("train").bag_weights["g"])


@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_a_lookup_pools_by_weight_and_its_gradient_is_right(tmp_path, pooling):
    rng = np.random.default_rng(0)
    rows = 40
    lengths = rng.integers(0, 4, rows)
    ids = ["|".join(rng.choice(list("abcde"), k)) for k in lengths]
    weights = ["|".join(f"{w:.3f}" for w in rng.uniform(0.1, 2, k)) for k in lengths]
    table = pd.DataFrame({"g": ids, "w": weights, "u": rng.choice(list("xyz"), rows), "click": [0, 1] * 20})
    slots = ["u", {"name": "g", "kind": "multi", "weights": "w", "pooling": pooling}]
    log = log_of(tmp_path, table, slots)
    tables = tables_of(log)
    batch = log.part("train").batch(torch.arange(rows).flip(0))
    lookup = tables.lookup(batch, learn=True)
    vectors = lookup.inputs()[0].stack()

    texts = log.vocabulary("g").values.to_pylist()
    group = tables.groups[0]
    block = tables.layout.blocks_of("g")[0]
    leaf = group.weight.detach()[group.rows_of(block)].clone().requires_grad_()
    expected = []
    for i in reversed(range(rows)):
        found = torch.zeros(3)
        factors = [float(w) for w in weights[i].split("|") if w]
        for text, weight in zip(filter(None, ids[i].split("|")), factors, strict=True):
            found = found + leaf[texts.index(text) + 1] * (weight / (sum(factors) if pooling == "mean" else 1))
        expected.append(found)
    torch.testing.assert_close(vectors[:, 1], torch.stack(expected))
    seed = torch.randn(rows, 3, generator=torch.Generator().manual_seed(1))
    (vectors[:, 1] * seed).sum().backward()
    (torch.stack(expected) * seed).sum().backward()
    lookup.assign([leaf_.grad for leaf_ in lookup.leaves])
    dense = group.weight.grad.to_dense()[group.rows_of(block)]
    torch.testing.assert_close(dense, leaf.grad)


@pytest.mark.parametrize("rows", [slice(3, 9), torch.tensor([7, 0, 7])])
def test_batches_take_the_weights_with_their_items(tmp_path, rows):
    table = pd.DataFrame({"g": ["a:1|b:2", "", "c:3"] * 4, "click": [0, 1] * 6})
    slot = {"name": "g", "kind": "multi", "weight_separator": ":", "pooling": "sum"}
    data = log_of(tmp_path, table, [slot]).part("train")
    values, offsets = data.bags["g"]
    bag = data.batch(rows).bags["g"]
    wanted = torch.arange(12)[rows]
    pairs = [(values[k], data.bag_weights["g"][k]) for r in wanted for k in range(offsets[r], offsets[r + 1])]
    assert list(zip(bag.values.tolist(), bag.weights.tolist(), strict=True)) == pairs


@pytest.mark.parametrize(
    ("ids", "weights", "message"),
    [
        ("a|b", "1", "column 'w' holds another number of weights"),
        ("a", "", "another number of weights"),
        ("a|b", "1|x", "missing or no finite number"),
        ("a|b", "1|inf", "missing or no finite number"),
        ("a|b", "1|", "missing or no finite number"),
        ("a|b", "1|-1", "negative weight"),
    ],
)
def test_weights_that_cannot_be_used_reject_their_row(tmp_path, ids, weights, message):
    table = pd.DataFrame({"g": ["a", ids, "b"], "w": ["1", weights, "2"], "click": [0, 1, 1]})
    slots = [{"name": "g", "kind": "multi", "weights": "w"}]
    with pytest.raises(DataError, match=message):
        log_of(tmp_path, table, slots, "1")
    log = log_of(tmp_path, table, slots, "2", max_bad_rows=1)
    assert (log.manifest.rows.read, log.manifest.rows.used, log.manifest.rows.rejected) == (3, 2, 1)
    assert log.part("train").bag_weights["g"].tolist() == [1, 1]


def test_inline_weights_are_cut_at_the_last_separator_and_missing_ids_go():
    found, reasons = weighted_bags(
        pa.array(["x:y:2|z", "?:5|q:1", "k:|k:1"]),
        None,
        separator="|",
        weight_separator=":",
        missing=["?"],
        negative=False,
    )
    assert [found.items.values[int(c)].as_py() for c in found.items.codes[:3]] == ["x:y", "z", "q"]
    assert found.weights[:3].tolist() == [2, 1, 1]
    assert [[int(i) for i in np.flatnonzero(bad)] for bad in reasons.values()] == [[], [2], []]


def test_a_scaled_number_is_its_standardised_value_times_one_vector(tmp_path):
    values = np.random.default_rng(0).normal(5, 3, 100).round(3)
    table = pd.DataFrame({"x": values, "click": [0, 1] * 50})
    table.loc[::10, "x"] = np.nan
    log = log_of(tmp_path, table, [{"name": "x", "kind": "scaled"}], min_count=3)
    assert log.vocabulary("x").values.to_pylist() == ["value", None]
    assert log.counts("x").tolist() == [0, 90, 10]
    assert log.tables[0].rows == 3
    there = ~table["x"].isna().to_numpy()
    weights = log.part("train").bag_weights["x"].numpy()
    plain = table["x"][there]
    np.testing.assert_allclose(weights[there], (plain - plain.mean()) / plain.std(ddof=0), atol=1e-5)
    assert set(weights[~there]) == {1.0}
    tables = tables_of(log)
    vectors = tables.lookup(log.part("train").batch(slice(0, 100))).inputs()[0].stack()[:, 0]
    row = tables.groups[0].weight.detach()
    torch.testing.assert_close(vectors[1], row[1] * weights[1])
    torch.testing.assert_close(vectors[0], row[2])  # missing reads its own vector
    new = encode_rows(pd.DataFrame({"x": [float(plain.mean()), None]}), log)
    assert new.bag_weights["x"].tolist() == pytest.approx([0, 1], abs=1e-6)
    assert new.bags["x"][0].tolist() == [1, 2]


def test_hashes_are_pinned():
    # FNV-1a of "", "a" and "foobar" (draft-eastlake-fnv), then SplitMix64's finaliser
    assert [int(h) for h in text_hashes(pa.array(["", "a", "foobar"]))] == [
        mixed(0xCBF29CE484222325),
        mixed(0xAF63DC4C8601EC8C),
        mixed(0x85944171F73967E8),
    ]
    sliced = pa.array(["zz", "a", None, "x" * 64, "x" * 65, "x" * 66])[1:]
    assert len(set(text_hashes(sliced).tolist())) == 5
    assert int(text_hashes(sliced)[0]) == mixed(0xAF63DC4C8601EC8C)


def mixed(value: int) -> int:
    mask = (1 << 64) - 1
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & mask
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & mask
    return value ^ (value >> 31)


def test_hashed_ids_share_buckets_and_collisions_are_counted(tmp_path):
    users = [f"u{i}" for i in range(1000)] * 2 + [""] * 5
    table = pd.DataFrame({"u": users, "click": ([0, 1] * 1003)[:2005]})
    log = log_of(tmp_path, table, [{"name": "u", "hash": 300}])
    record = log.manifest.tables[0]
    buckets, _ = bucketed(coded(pa.array(users), [""]), 300)
    used = len({buckets.values[int(c)].as_py() for c in buckets.codes if c >= 0})
    assert record.rows == used + 2  # id 0 and the missing value
    assert (record.hashed.distinct, record.hashed.exact, record.collisions) == (1000, True, 1000 - used)
    assert (np.diff(log.counts("u")[1:].numpy()) <= 0).all()  # ids fall by frequency, as without hashing
    ids = log.part("train").ids[:, 0]
    assert torch.equal(ids[:1000], ids[1000:2000])
    new = encode_rows(pd.DataFrame({"u": ["never-seen", "u7"]}), log)
    assert new.ids[1, 0] == ids[7]
    with pytest.raises(ConfigError, match="different hash"):
        log_of(tmp_path, table.assign(v="x"), [{"name": "u", "hash": 3}, {"name": "v", "table": "u"}], "2")


def test_hashed_items_of_bags(tmp_path):
    table = pd.DataFrame({"g": ["a|b", "b|c", ""] * 4, "click": [0, 1] * 6})
    log = log_of(tmp_path, table, [{"name": "g", "kind": "multi", "hash": 2}])
    assert log.tables[0].rows <= 3
    assert log.part("train").bags["g"][1][:4].tolist() == [0, 2, 4, 4]


def test_sketches_count_within_a_percent():
    hashes = text_hashes(pa.array(np.char.mod("v%d", np.arange(300_000))))
    whole = Sketch.of([hashes])
    pieces = Sketch.of([np.empty(0, np.uint64)])
    for start in range(0, 300_000, 70_000):
        pieces = Sketch.of([pieces.smallest, hashes[start : start + 70_000]])
    assert pieces.distinct() == whole.distinct()
    assert not whole.exact
    assert abs(whole.distinct() / 300_000 - 1) < 0.01
    assert Sketch.of([hashes[: KEPT - 1], hashes[:100]]).distinct() == KEPT - 1
