"""encode: accounting, ids, splits, labels; and that new rows are encoded as the training rows were."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from autodim.config.schema import DataConfig
from autodim.data import csvfile, encoder, reader, vocabulary
from autodim.data.columns import Columns
from autodim.data.encode import encode
from autodim.data.encoded import EncodedLog
from autodim.data.frame import encode_rows, log_from_frame
from autodim.data.manifest import config_hash, source_hash
from autodim.errors import ConfigError, DataError, RunError

PARTS = ("train", "valid", "test")


def frame(rows: int = 2000, seed: int = 0) -> pd.DataFrame:
    """A log with a Zipf column, gaps, a bag, numbers and a label."""
    rng = np.random.default_rng(seed)
    user = rng.zipf(1.5, rows).clip(max=500)
    tags = ["|".join(rng.choice(list("abcde"), k, replace=False)) for k in rng.integers(0, 4, rows)]
    return pd.DataFrame(
        {
            "user": np.where(rng.random(rows) < 0.05, "", user.astype(str)),
            "other": rng.integers(0, 500, rows).astype(str),
            "tags": tags,
            "price": np.exp(rng.normal(0, 2, rows)).round(4),
            "count": rng.integers(-3, 1000, rows),
            "when": rng.integers(0, 40, rows),
            "click": rng.integers(0, 2, rows),
        }
    )


SLOTS = [
    "user",
    {"name": "tags", "kind": "multi", "pooling": "sum"},
    {"name": "count", "kind": "buckets"},
    {"name": "price", "kind": "value"},
    {"name": "priced", "column": "price", "kind": "buckets", "buckets": "quantile", "bins": 5},
    {"name": "other", "table": "user"},
]


def config(path: Path | None = None, **more) -> DataConfig:
    return DataConfig(**{"path": path and str(path), "labels": ["click"], "slots": SLOTS} | more)


def log_of(tmp_path: Path, data: DataConfig, source: pd.DataFrame | None = None) -> EncodedLog:
    encode(data, tmp_path / "out", tmp_path, source=source)
    return EncodedLog.open(tmp_path / "out")


def bytes_of(folder: Path) -> dict[str, bytes]:
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "manifest.json"]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def test_every_row_is_accounted_for(tmp_path):
    (tmp_path / "log.csv").write_text("c,x,click\na,1,0\nb,2,1\n\nb\nb,no,1\nskip,3,0\na,4,1\nb,5,0\n")
    data = DataConfig(
        path="log.csv",
        labels=["click"],
        slots=["c", {"name": "x", "kind": "value"}],
        drop={"c": "skip"},
        max_bad_rows=2,
        split={"valid": 0, "test": 0},
    )
    log = log_of(tmp_path, data)
    rows = log.manifest.rows
    assert (rows.read, rows.used, rows.dropped, rows.rejected, rows.blank_lines) == (7, 4, 1, 2, 1)
    assert [e.split("log.csv, ")[1][:6] for e in rows.rejected_examples] == ["line 5", "line 6"]
    assert len(log.part("train")) == 4
    with pytest.raises(DataError, match=r"line 6: column 'x' holds 'no'.*data.missing"):
        encode(data.model_copy(update={"max_bad_rows": 1}), tmp_path / "out2", tmp_path)


def test_nothing_depends_on_pieces_files_or_threads(tmp_path, monkeypatch):
    table = frame(3000)
    table.to_csv(tmp_path / "log.csv", index=False)
    encode(config(tmp_path / "log.csv", min_count=2), tmp_path / "whole")
    monkeypatch.setattr(csvfile, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(vocabulary, "PENDING", 10)
    monkeypatch.setattr(encoder, "GROUP_ROWS", 500)
    encode(config(tmp_path / "log.csv", min_count=2), tmp_path / "pieces")
    (tmp_path / "many").mkdir()
    for i, start in enumerate(range(0, 3000, 700)):
        table[start : start + 700].to_csv(tmp_path / "many" / f"{i}.csv", index=False)
    encode(config(tmp_path / "many", min_count=2), tmp_path / "files")
    whole = bytes_of(tmp_path / "whole")
    assert len(whole) == 3 * 5 + 4 + 1
    assert bytes_of(tmp_path / "pieces") == whole
    assert bytes_of(tmp_path / "files") == whole


def test_csv_parquet_and_frame_give_the_same_ids(tmp_path, monkeypatch):
    table = frame()
    monkeypatch.setattr(reader, "PARQUET_ROWS", 333)
    table.to_csv(tmp_path / "log.csv", index=False)
    table.to_parquet(tmp_path / "log.parquet")
    encode(config(tmp_path / "log.csv"), tmp_path / "1")
    encode(config(tmp_path / "log.parquet"), tmp_path / "2")
    encode(config(), tmp_path / "3", source=table)
    assert bytes_of(tmp_path / "1") == bytes_of(tmp_path / "2") == bytes_of(tmp_path / "3")


def test_ids_fall_by_count_then_text_and_count_training_rows_only(tmp_path):
    values = ["b"] * 3 + ["a"] * 3 + ["c"] * 5 + [""] * 4 + ["rare"] + ["late"] * 9
    part = ["train"] * 16 + ["valid"] * 5 + ["test"] * 4
    table = pd.DataFrame({"c": values, "part": part, "click": ([0, 1] * 13)[:25]})
    data = DataConfig(labels=["click"], slots=[{"name": "c", "min_count": 2}], split={"by": "column", "column": "part"})
    log = log_of(tmp_path, data, table)
    found = log.vocabulary("c")
    assert found.values.to_pylist() == ["c", None, "a", "b"]
    assert log.counts("c").tolist() == [1, 5, 4, 3, 3]  # id 0: "rare"
    assert log.part("train").ids[:, 0].tolist() == [4] * 3 + [3] * 3 + [1] * 5 + [2] * 4 + [0]
    assert log.part("valid").ids.unique().tolist() == [0]  # "late" is only there: no leak
    assert log.tables[0].rows == 5


def test_missing_has_no_id_where_training_rows_have_none(tmp_path):
    table = pd.DataFrame({"c": ["a", "b"] * 4 + [None] * 2, "part": ["train"] * 8 + ["valid"] * 2, "click": [0, 1] * 5})
    data = DataConfig(labels=["click"], slots=["c"], split={"by": "column", "column": "part", "test_values": ()})
    log = log_of(tmp_path, data, table)
    assert log.manifest.tables[0].missing == 0
    assert log.part("valid").ids[:, 0].tolist() == [0, 0]


def test_shared_table_counts_all_its_columns(tmp_path):
    table = pd.DataFrame({"a": ["x", "x", "y", "z"], "b": ["y", "y", "y", "w"], "click": [0, 1, 0, 1]})
    slots = [{"name": "a", "table": "t"}, {"name": "b", "table": "t"}]
    log = log_of(tmp_path, DataConfig(labels=["click"], slots=slots, split={"valid": 0, "test": 0}), table)
    assert log.vocabulary("t").values.to_pylist() == ["y", "x", "w", "z"]
    assert log.counts("t").tolist() == [0, 4, 2, 1, 1]
    assert [s.table for s in log.slots] == ["t", "t"]
    assert log.part("train").ids.tolist() == [[2, 1], [2, 1], [1, 1], [4, 3]]


def test_multi_slots_hold_the_items(tmp_path):
    table = pd.DataFrame({"g": ["a|b", "b", "", "b|a|b"], "click": [0, 1, 0, 1]})
    data = DataConfig(labels=["click"], slots=[{"name": "g", "kind": "multi"}], split={"valid": 0, "test": 0})
    columns = log_of(tmp_path, data, table).part("train")
    values, offsets = columns.bags["g"]
    assert offsets.tolist() == [0, 2, 3, 3, 6]
    assert values.tolist() == [2, 1, 1, 1, 2, 1]  # b 4 times, a twice
    assert columns.ids.shape == (4, 0)


def test_numeric_only_log(tmp_path):
    log = log_of(tmp_path, config(slots=[{"name": "price", "kind": "value"}]), frame())
    train = log.part("train")
    assert log.slots == ()
    assert train.ids.shape == (len(train), 0)
    assert abs(float(train.numeric.mean())) < 1e-5
    assert abs(float(train.numeric.std(correction=0)) - 1) < 1e-4


def test_encode_rows_agrees_with_encode_and_unseen_is_zero(tmp_path):
    table = frame()
    log = log_of(tmp_path, config(), table)
    again = encode_rows(table, log)
    parts = [log.part(name) for name in PARTS]
    # every encoded row is found again in the frame's order: compare as multisets of whole rows
    rows = torch.cat([torch.cat([p.ids.double(), p.numeric.double(), p.labels.double()], 1) for p in parts])
    new = torch.cat([again.ids.double(), again.numeric.double(), again.labels.double()], 1)
    order, other = np.lexsort(rows.T.numpy()), np.lexsort(new.T.numpy())
    assert torch.equal(rows[torch.from_numpy(order)], new[torch.from_numpy(other)])
    lengths = sum(int(p.bags["tags"][1][-1]) for p in parts)
    assert int(again.bags["tags"][1][-1]) == lengths

    fresh = table.head(3).drop(columns="click").assign(user=["never-seen", "1", ""])
    columns = encode_rows(fresh, log)
    known = log.vocabulary("user").values.to_pylist()
    assert columns.ids[:, 0].tolist() == [0, known.index("1") + 1, known.index(None) + 1]
    assert columns.labels.isnan().all()


def test_encode_rows_keeps_dropped_rows_without_label(tmp_path):
    table = frame(300)
    table.loc[:9, "click"] = -1
    log = log_of(tmp_path, config(drop={"click": -1}), table)
    assert log.manifest.rows.dropped == 10
    columns = encode_rows(table, log)
    assert len(columns) == 300
    assert columns.labels[:, 0].isnan().nonzero()[:, 0].tolist() == list(range(10))


def test_random_split_is_a_pure_function_of_seed_and_row(tmp_path):
    table = frame(5000)
    table["click"] = np.arange(5000) % 2
    table["price"] = np.arange(5000.0)
    slots = [{"name": "row", "column": "price"}]
    split = {"valid": 0.2, "test": 0.1, "seed": 3}
    encode(config(slots=slots, split=split), tmp_path / "a", source=table)
    encode(config(slots=slots, split=split), tmp_path / "b", source=table.head(2500))
    parts = {}
    for name, rows in (("a", 5000), ("b", 2500)):
        log = EncodedLog.open(tmp_path / name)
        trained = set(log.vocabulary("row").values.to_pylist())
        sizes = [len(log.part(p)) for p in PARTS]
        assert sum(sizes) == rows
        np.testing.assert_allclose(np.array(sizes) / rows, [0.7, 0.2, 0.1], atol=0.02)
        parts[name] = trained
    assert parts["b"] == {t for t in parts["a"] if int(t) < 2500}
    encode(config(slots=slots, split=split | {"seed": 4}), tmp_path / "c", source=table)
    assert set(EncodedLog.open(tmp_path / "c").vocabulary("row").values.to_pylist()) != parts["a"]


def test_time_split_keeps_order_and_equal_times_together(tmp_path):
    table = frame(3000)
    slots = [{"name": "when", "kind": "categorical"}, {"name": "t", "column": "when", "kind": "value"}]
    data = config(slots=slots, split={"by": "time", "column": "when", "valid": 0.2, "test": 0.2})
    log = log_of(tmp_path, data, table)
    record = log.manifest.numeric[0]
    times = [(log.part(p).numeric[:, 0] * record.std + record.mean).round() for p in PARTS]
    assert times[0].max() < times[1].min()
    assert times[1].max() < times[2].min()
    np.testing.assert_allclose([len(t) / 3000 for t in times], [0.6, 0.2, 0.2], atol=0.03)


def test_time_split_refuses_what_does_not_sort(tmp_path):
    table = frame(100).assign(day="monday")
    with pytest.raises(DataError, match="'monday'"):
        encode(config(split={"by": "time", "column": "day"}), tmp_path / "1", source=table)
    with pytest.raises(DataError, match=r"no row is in the part"):
        encode(config(split={"by": "time", "column": "same"}), tmp_path / "2", source=table.assign(same=1))


def test_column_split_takes_valid_from_test(tmp_path):
    table = frame(4000).assign(part=["train"] * 2000 + ["test"] * 2000)
    data = config(split={"by": "column", "column": "part", "valid_from": "test", "valid": 0.5})
    log = log_of(tmp_path, data, table)
    sizes = [len(log.part(p)) for p in PARTS]
    assert sizes[0] == 2000
    assert sum(sizes) == 4000
    assert abs(sizes[1] - 1000) < 100
    with pytest.raises(DataError, match=r"holds 'dev'.*valid_values"):
        encode(data, tmp_path / "x", source=table.replace("test", "dev"))


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ({"name": "l", "column": "r", "above": 3}, [0, 0, 1, np.nan]),
        ({"name": "l", "column": "r", "equals": 3}, [0, 1, 0, np.nan]),
        ({"name": "l", "column": "r", "equals": "5"}, [0, 0, 1, np.nan]),
    ],
)
def test_labels(tmp_path, label, expected):
    table = pd.DataFrame({"c": list("abcd"), "r": ["1", "3.0", "5", ""]})
    log = log_of(tmp_path, DataConfig(labels=[label], slots=["c"], split={"valid": 0, "test": 0}), table)
    np.testing.assert_array_equal(log.part("train").labels[:, 0].numpy(), expected)
    assert log.manifest.parts["train"].labelled == (3,)


def test_labels_that_are_not_binary_or_have_one_class(tmp_path):
    table = frame(50).assign(stars=[1, 2] * 25, one=1)
    with pytest.raises(DataError, match=r"'stars' holds '2', but a label is 0 or 1.*above"):
        encode(config(labels=["stars"]), tmp_path / "1", source=table)
    with pytest.raises(DataError, match=r"all .* are 1, but a model needs both classes"):
        encode(config(labels=["one"]), tmp_path / "2", source=table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slots": []}, "data.slots is empty"),
        ({"labels": []}, "data.labels is empty"),
        ({"slots": ["user", "user"]}, "more than once"),
        ({"slots": ["user", "click"]}, "told the answer"),
        ({"slots": ["user", {"name": "other", "table": "user", "min_count": 3}]}, "different min_count"),
        ({"split": {"valid": 0.6, "test": 0.4}}, "nothing for train"),
        ({"split": {"by": "time"}}, "must name a column"),
    ],
)
def test_configs_that_cannot_be_meant(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        encode(config(**change), tmp_path / "out", source=frame(50))


def test_hostile_slot_names_touch_no_other_file(tmp_path):
    names = ["../evil", "x" * 300, "nul\0byte", "=cmd()", "a/b"]
    table = pd.DataFrame({name: ["u", "v"] * 5 for name in names} | {"click": [0, 1] * 5})
    data = log_from_frame(table, label="click").model_copy(
        update={"split": config(split={"valid": 0, "test": 0}).split}
    )
    log = log_of(tmp_path, data, table)
    assert [s.name for s in log.slots] == names
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        *PARTS,
        "counts.bin",
        "manifest.json",
        *(f"vocab_{k}.parquet" for k in range(5)),
    }


def test_frame_infers_kinds():
    table = pd.DataFrame({"id": [1, 2], "tags": [["a"], ["b", "c"]], "x": [0.5, 1.5], "name": ["u", "v"], "y": [0, 1]})
    found = log_from_frame(table, label="y")
    assert [(s.name, s.kind) for s in found.slots] == [
        ("id", "categorical"),
        ("tags", "multi"),
        ("x", "value"),
        ("name", "categorical"),
    ]
    with pytest.raises(DataError, match=r"no column 'yy'; did you mean"):
        log_from_frame(table, label="yy")


def test_hashes_follow_what_matters(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("a,click\nx,1\n")
    data = DataConfig(path=str(path), labels=["click"], slots=["a"])
    first = source_hash(data, tmp_path)
    assert first == source_hash(data, tmp_path)
    path.write_text("a,click\ny,1\n")
    assert source_hash(data, tmp_path) != first
    assert config_hash(data) == config_hash(data.model_copy(update={"path": "elsewhere.csv"}))
    assert config_hash(data) != config_hash(data.model_copy(update={"min_count": 2}))
    table = frame(10)
    assert source_hash(data, tmp_path, table) != source_hash(data, tmp_path, table.assign(click=1))


def test_damaged_folders_are_refused(tmp_path):
    log = log_of(tmp_path, config(), frame(200))
    path = tmp_path / "out" / "train" / "ids.bin"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(RunError, match=r"bytes where the manifest promises"):
        log.part("train")
    (tmp_path / "out" / "manifest.json").write_text('{"format": 99}')
    with pytest.raises(RunError, match=r"format 99"):
        EncodedLog.open(tmp_path / "out")


def test_list_columns_of_parquet(tmp_path):
    table = pa.table({"g": [["a", "b"], [], None, ["b"]], "click": [0, 1, 0, 1]})
    pq.write_table(table, tmp_path / "log.parquet")
    data = DataConfig(
        path="log.parquet", labels=["click"], slots=[{"name": "g", "kind": "multi"}], split={"valid": 0, "test": 0}
    )
    columns: Columns = log_of(tmp_path, data).part("train")
    assert columns.bags["g"][1].tolist() == [0, 2, 2, 2, 3]
    assert columns.bags["g"][0].tolist() == [2, 1, 1]
