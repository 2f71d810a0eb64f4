"""A config guessed from a log: each trap of a format or a column gets the right guess, and what is written is read."""

from __future__ import annotations

import gzip
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autodim.config import Config, load_config
from autodim.config.schema import SlotConfig
from autodim.data.encode import encode
from autodim.data.infer import infer
from autodim.data.infer.leaks import auc
from autodim.data.infer.sniff import sniff
from autodim.data.infer.words import scalar, words_of
from autodim.errors import AutodimError, ConfigError, DataError

ROWS = 600


def columns(rows: int = ROWS, seed: int = 0) -> dict[str, list]:
    rng = np.random.default_rng(seed)
    return {
        "click": [int(v) for v in rng.random(rows) < 0.3],
        "user": [f"u{v}" for v in rng.integers(0, 40, rows)],
        "city": [["New York", 'the "Big" one', "Ulm, Donau", ""][v] for v in rng.integers(0, 4, rows)],
        "tags": ["|".join(f"t{v}" for v in rng.integers(0, 5, n)) for n in rng.integers(0, 4, rows)],
        "price": [round(float(v), 3) for v in rng.normal(10, 3, rows)],
    }


def write(path: Path, table: dict[str, list], delimiter: str = ",", header: bool = True) -> Path:
    def cell(value: object) -> str:
        text = str(value)
        return '"' + text.replace('"', '""') + '"' if any(c in text for c in f'"{delimiter}') else text

    lines = [delimiter.join(map(cell, table))] if header else []
    lines += [delimiter.join(map(cell, row)) for row in zip(*table.values(), strict=True)]
    data = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


def config_of(path: Path, label: str | None = "click", rows: int = 200_000) -> Config:
    return load_config(infer(str(path), label, rows=rows).text, source="guess").config


def slots_of(path: Path, label: str | None = "click") -> dict[str, SlotConfig]:
    return {slot.name: slot for slot in config_of(path, label).data.slots}


def left_out(path: Path, column: str, label: str = "click") -> str:
    """Why a column became no slot."""
    found = {name: (becomes, why) for name, becomes, why in infer(str(path), label).rows}
    assert found[column][0] != "categorical"
    return ": ".join(found[column])


@pytest.mark.parametrize(
    ("name", "delimiter", "header"),
    [
        ("log.csv", ",", True),
        ("log.csv", ";", True),
        ("log.csv", "|", True),
        ("log.tsv", "\t", True),
        ("log.csv.gz", ",", True),
        ("log.csv", ",", False),
        ("log.txt", "\t", False),
        ("log.csv", "\x01", False),
    ],
)
def test_text_formats_are_recognised_and_encode(tmp_path: Path, name: str, delimiter: str, header: bool) -> None:
    table = columns()
    if delimiter == "|":
        table["tags"] = [text.replace("|", ";") for text in table["tags"]]
    path = write(tmp_path / name, table, delimiter, header)
    config = config_of(path, "click" if header else "c1")
    names = list(table) if header else [f"c{i + 1}" for i in range(5)]
    assert [slot.name for slot in config.data.slots] == names[1:]
    assert [slot.kind for slot in config.data.slots] == ["categorical", "categorical", "multi", "value"]
    assert config.data.slots[2].separator == (";" if delimiter == "|" else "|")
    manifest = encode(config.data, tmp_path / "out")
    assert manifest.rows.used == manifest.rows.read == ROWS


def test_the_same_log_gives_the_same_text(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", columns(5000))
    assert infer(str(path), "click", rows=500).text == infer(str(path), "click", rows=500).text


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz"])
def test_a_sample_reaches_the_end_and_tells_the_size(tmp_path: Path, name: str) -> None:
    """The last rows hold the second value of `late`, and the number of rows is estimated within a tenth."""
    table = columns(40_000)
    table["late"] = ["a"] * 38_000 + ["b"] * 2_000
    path = write(tmp_path / name, table)
    found = infer(str(path), "click", rows=4000)
    assert ("late", "categorical", "2 distinct texts") in found.rows
    told = int(found.text.split("for about ")[1].split(" rows")[0].replace(",", ""))
    assert abs(told - 40_000) < 4_000


def test_a_folder_is_read_in_all_its_files_and_must_agree(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / f"part-{i}.csv", columns(seed=i))
    assert encode(config_of(tmp_path).data, tmp_path / "out").rows.used == 3 * ROWS
    write(tmp_path / "part-3.csv", {"click": [0, 1], "other": ["a", "b"]})
    with pytest.raises(DataError, match=r"part-3\.csv: its columns are not those"):
        infer(str(tmp_path), "click")


def test_parquet_types(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    lists = [[f"i{v}" for v in rng.integers(0, 30, n)] for n in rng.integers(0, 4, ROWS)]
    base = datetime(2024, 1, 1)
    table = pa.table(
        {
            "click": pa.array(rng.random(ROWS) < 0.4),
            "history": pa.array(lists, pa.list_(pa.string())),
            "place": pa.array([f"p{v}" for v in rng.integers(0, 9, ROWS)]).dictionary_encode(),
            "when": pa.array([base + timedelta(minutes=i) for i in range(ROWS)], pa.timestamp("us")),
            "vector": pa.array([[0.5, 0.25]] * ROWS, pa.list_(pa.float32())),
            "gaps": pa.array([None if v == 3 else float(v) for v in rng.integers(0, 7, ROWS)]),
            "pair": pa.array([{"a": 1}] * ROWS),
        }
    )
    path = tmp_path / "log.parquet"
    pq.write_table(table, path, row_group_size=100)
    config = config_of(path)
    assert {s.name: s.kind for s in config.data.slots} == {
        "history": "multi",
        "place": "categorical",
        "gaps": "categorical",
    }
    assert config.data.labels[0].equals == "true"
    assert "# split: {by: time, column: when" in infer(str(path), "click").text
    assert "left out" in left_out(path, "vector") and "left out" in left_out(path, "pair")
    assert encode(config.data, tmp_path / "out").parts["train"].positive_rate[0] == pytest.approx(0.4, abs=0.1)


@pytest.mark.parametrize(
    ("values", "entry"),
    [
        (("no", "yes"), {"equals": "yes"}),
        (("No", "Clicked"), {"equals": "Clicked"}),
        (("False", "True"), {"equals": "True"}),
        (("n", "y"), {"equals": "y"}),
        (("-1", "1"), {"above": -1.0}),
        (("1", "2"), {"above": 1.0}),
        (("b", "a"), {"equals": "a"}),  # the rarer one
    ],
)
def test_two_valued_labels(tmp_path: Path, values: tuple[str, str], entry: dict) -> None:
    table = columns()
    ones = np.mean(table["click"])
    table["click"] = [values[v] for v in table["click"]]
    config = config_of(write(tmp_path / "log.csv", table))
    label = config.data.labels[0]
    assert {k: v for k in ("equals", "above") if (v := getattr(label, k)) is not None} == entry
    manifest = encode(config.data, tmp_path / "out")
    share = sum(p.rows * p.positive_rate[0] for p in manifest.parts.values()) / ROWS
    assert share == pytest.approx(ones)


def test_labels_of_many_values_and_with_gaps(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    table = columns()
    table["rating"] = [int(v) for v in rng.choice([1, 2, 3, 4, 5], ROWS, p=[0.06, 0.11, 0.26, 0.35, 0.22])]
    table["action"] = [["view", "buy", "cart"][v] for v in rng.integers(0, 3, ROWS)]
    table["maybe"] = [["", "0", "1"][v] for v in rng.integers(0, 3, ROWS)]
    path = write(tmp_path / "log.csv", table)
    assert config_of(path, "rating").data.labels[0].above == 3
    assert config_of(path, "rating>4").data.labels[0].above == 4
    assert config_of(path, "action=buy").data.labels[0].equals == "buy"
    with pytest.raises(ConfigError, match=r"3 different texts, so say which is 1:\n  --label \"action=buy\""):
        infer(str(path), "action")
    config = config_of(path, "maybe")
    assert config.data.drop == {"maybe": ""}
    assert encode(config.data, tmp_path / "out").rows.dropped == table["maybe"].count("")


def test_without_a_label_candidates_are_listed_best_first(tmp_path: Path) -> None:
    table = columns()
    table["sex"] = ["MF"[i % 2] for i in range(ROWS)]
    path = write(tmp_path / "log.csv", dict(reversed(table.items())))
    with pytest.raises(ConfigError) as found:
        infer(str(path))
    lines = str(found.value).splitlines()
    assert lines[2].split() == ["--label", "click", "holds", "'0'", "and", "'1',", "named", "like", "an", "outcome"]
    assert "--label sex" in lines[3] and len(lines) == 4
    with pytest.raises(ConfigError, match='did you mean "click"'):
        infer(str(path), "clik")


def test_leaks_and_identifiers_are_left_out(tmp_path: Path) -> None:
    table = columns(2000)
    rng = np.random.default_rng(3)
    clicks = np.array(table["click"])
    table["copy"] = [["nein", "ja"][v] for v in clicks]
    table["paid"] = [f"{v:.3f}" if c else "" for c, v in zip(clicks, rng.normal(9, 2, 2000), strict=True)]
    table["hint"] = [int(c) if r < 0.98 else int(1 - c) for c, r in zip(clicks, rng.random(2000), strict=True)]
    table["row_hash"] = [f"{v:016x}" for v in rng.integers(0, 2**62, 2000)]
    table["id"] = list(range(2000))
    table["same"] = ["x"] * 2000
    table["conversion"] = [int(v) for v in rng.integers(0, 2, 2000)]
    path = write(tmp_path / "log.csv", table)
    assert set(slots_of(path)) == {"user", "city", "tags", "price", "hint"}
    assert "leak suspect" in left_out(path, "copy") and "leak suspect" in left_out(path, "paid")
    assert "names the row" in left_out(path, "row_hash") and "names the row" in left_out(path, "id")
    assert "tells nothing" in left_out(path, "same") and "outcome" in left_out(path, "conversion")
    notes = " ".join(infer(str(path), "click").notes)
    assert "look at hint" in notes and "look at copy" in notes and "look at user" not in notes


def test_auc_counts_ties_half() -> None:
    assert auc(np.array([0.1, 0.2, 0.2, 0.9]), np.array([0, 0, 1, 1])) == pytest.approx(3.5 / 4)


def test_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    rows = 4000
    table = columns(rows)
    popularity = rng.permutation(np.arange(1, 301) ** -1.0)
    table["stars"] = [int(v) for v in rng.integers(1, 6, rows)]
    table["shown"] = [int(v) for v in rng.pareto(1.0, rows) * 10]
    table["thing"] = [int(v) for v in rng.choice(300, rows, p=popularity / popularity.sum()) * 7 + 1000]
    table["user_id"] = [int(v) for v in rng.integers(0, 3000, rows)]
    table["half"] = [v / 2 for v in rng.integers(0, 9, rows)]
    table["skewed"] = [round(float(v), 4) for v in rng.lognormal(0, 2, rows)]
    table["holes"] = ["NA" if v > 1 else round(float(v), 4) for v in rng.normal(0, 1, rows)]
    table["zip"] = [f"{v:05d}" for v in rng.integers(0, 900, rows)]
    path = write(tmp_path / "log.csv", table)
    config = config_of(path)
    found = {s.name: (s.kind, s.buckets if s.kind == "buckets" else "") for s in config.data.slots}
    assert found["stars"] == found["thing"] == found["user_id"] == found["half"] == ("categorical", "")
    assert found["zip"] == ("categorical", "")
    assert found["shown"] == ("buckets", "log_square")
    assert found["skewed"] == found["holes"] == ("buckets", "quantile")
    assert found["price"] == ("value", "")
    assert config.data.missing == ("", "NA")


def test_a_log_of_numbers_only_still_gets_tables(tmp_path: Path) -> None:
    table = {k: v for k, v in columns().items() if k in ("click", "price")}
    assert [s.kind for s in config_of(write(tmp_path / "log.csv", table)).data.slots] == ["buckets"]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([f"2024-01-{1 + i // 24:02d} {i % 24:02d}:00:00" for i in range(ROWS)], "ISO 8601"),
        ([1_600_000_000 + 977 * (i * 7 % ROWS) for i in range(ROWS)], "seconds since 1970"),
        ([1_600_000_000_000 + i for i in range(ROWS)], "milliseconds"),
        ([20240101 + i // 30 for i in range(ROWS)], "YYYYMMDD"),
        ([14102100 + i // 30 for i in range(ROWS)], "YYMMDDHH"),
    ],
)
def test_times_are_no_slots_but_a_split(tmp_path: Path, values: list, told: str) -> None:
    path = write(tmp_path / "log.csv", {**columns(), "at": values})
    assert told in left_out(path, "at") and "at" not in slots_of(path)
    text = infer(str(path), "click").text
    line = next(line for line in text.splitlines() if "# split: {by: time, column: at" in line)
    active = text.replace("  split: {by: random", "  # split: {by: random").replace(
        "# split: {by: time", "split: {by: time"
    )
    assert line and encode(load_config(active).config.data, tmp_path / "out").thresholds is not None


def test_a_split_column_is_used(tmp_path: Path) -> None:
    table = {**columns(), "fold": ["Train"] * 500 + ["test"] * 100}
    config = config_of(write(tmp_path / "log.csv", table))
    manifest = encode(config.data, tmp_path / "out")
    assert manifest.parts["test"].rows == 100 and 20 < manifest.parts["valid"].rows < 90
    assert "fold" not in [s.name for s in config.data.slots]


def test_shared_vocabularies(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    table = columns()
    for name in ("item", "last_item", "origin", "dest"):
        table[name] = [f"{name[-1] if name in 'item' else 'i'}{v}" for v in rng.integers(0, 50, ROWS)]
    table["item"] = [f"i{v}" for v in rng.integers(0, 50, ROWS)]
    for name in ("origin", "dest"):
        table[name] = [f"A{v}" for v in rng.integers(0, 50, ROWS)]
    for name in ("shop", "brand", "clicks_7", "clicks_30"):
        table[name] = [int(v) for v in rng.integers(0, 50, ROWS)]
    path = write(tmp_path / "log.csv", table)
    found = slots_of(path)
    assert found["last_item"].table == "item"
    assert [found[n].table for n in ("origin", "dest", "shop", "brand", "clicks_30")] == [None] * 5
    whys = {name: why for name, _, why in infer(str(path), "click").rows}
    assert "`table: origin`?" in whys["dest"] and "table" not in whys["brand"] + whys["clicks_30"]


@pytest.mark.parametrize(
    "name",
    [
        "no",
        "null",
        "a: b",
        "x # y",
        "{z}",
        "- q",
        "it's",
        '"',
        "=cmd()",
        "../up",
        "näme",
        "日本",
        "🙂",
        "1e-3",
        "a\\b",
        "%",
        "&a",
        "*",
    ],
)
def test_hostile_names_come_through(tmp_path: Path, name: str) -> None:
    path = tmp_path / "log.parquet"
    table = columns()
    pq.write_table(pa.table({"click": table["click"], name: table["user"], "left": ["x"] * ROWS}), path)
    assert [s.name for s in config_of(path).data.slots] == [name]


@pytest.mark.parametrize("name", ["", "a\nlabels: [evil]", "\x1b[31m", "n" * 300, "\u2028x"])
def test_names_that_no_config_can_hold_are_left_out(tmp_path: Path, name: str) -> None:
    path = tmp_path / "log.parquet"
    table = columns()
    pq.write_table(pa.table({"click": table["click"], name: table["user"], "user": table["user"]}), path)
    found = infer(str(path), "click")
    assert [s.name for s in load_config(found.text).config.data.slots] == ["user"]
    assert "\x1b" not in found.text and "\u2028" not in found.text


def test_scalars_and_words() -> None:
    assert [scalar(v) for v in ("user", "no", "a b", 3, 0.5)] == ["user", '"no"', '"a b"', "3", "0.5"]
    assert words_of("lastItemID_2") == ["last", "item", "id", "2"]


def test_what_cannot_be_read_is_refused_with_the_way_out(tmp_path: Path) -> None:
    cases = {
        "ratings.dat": (b"1::2::5::978300760\n" * 20, r"sed 's/::/\\t/g' .*ratings.dat"),
        "log.csv": (b"PK\x03\x04zip", "zip or Excel"),
        "utf16.csv": ("click,user\n1,a\n".encode("utf-16"), "UTF-8"),
        "log.jsonl": (b'{"click": 1}\n', "JSON"),
        "packed.csv": (gzip.compress(b"a,b\n"), "rename"),
        "empty.csv": (b"", "empty"),
        "head.csv": (b"click,user\n", "no row"),
        "latin.csv": (b"click,user\n1,\xe9\n0,b\n", "not UTF-8"),
    }
    for name, (data, told) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=told):
            infer(str(tmp_path / name), "click")
    with pytest.raises(DataError, match="no such file"):
        infer(str(tmp_path / "nowhere.csv"), "click")


def test_bad_rows_are_counted_and_allowed_for(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", columns())
    with path.open("a") as file:
        file.write("1,too,few\n")
    found = infer(str(path), "click")
    config = load_config(found.text).config
    assert config.data.max_bad_rows == 1 and any("cannot be read" in note for note in found.notes)
    assert encode(config.data, tmp_path / "out").rows.rejected == 1


def test_movielens_ratings_are_recognised(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    rows = [
        rng.integers(1, 50, ROWS),
        rng.integers(1, 80, ROWS),
        rng.integers(1, 6, ROWS),
        9e8 + rng.integers(0, 9999, ROWS),
    ]
    path = tmp_path / "u.data"
    path.write_text("".join("\t".join(str(int(v)) for v in row) + "\n" for row in zip(*rows, strict=True)))
    config = config_of(path, None)
    assert [s.name for s in config.data.slots] == ["user", "item"]
    assert config.data.labels[0].source == "rating" and config.data.labels[0].above is not None
    assert encode(config.data, tmp_path / "out").rows.used == ROWS


@pytest.mark.parametrize(("name", "log"), [("criteo_sample.tsv", "criteo"), ("avazu_sample.csv", "avazu")])
def test_published_logs_are_recognised(public_data: Path, tmp_path: Path, name: str, log: str) -> None:
    path = public_data / name
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    config = config_of(path, None)
    assert config.data.log == log
    assert encode(config.data, tmp_path / "out").rows.rejected == 0


def test_real_parquet(public_data: Path) -> None:
    found = {name: becomes for name, becomes, _ in infer(str(public_data / "ml1m.parquet"), "rating", rows=50_000).rows}
    assert found["genres"] == "multi" and found["user"] == found["item"] == found["zip"] == "categorical"
    assert found["file_pos"] == found["label"] == "left out"
    split = load_config(infer(str(public_data / "frappe_x1.parquet"), "label", rows=50_000).text).config.data.split
    assert (split.by, split.column) == ("column", "split")


def test_the_reason_stands_beside_each_slot(tmp_path: Path) -> None:
    text = infer(str(write(tmp_path / "log.csv", columns())), "click").text
    lines = text[text.index("  slots:") : text.index("min_count")].rstrip().splitlines()[1:]
    assert len(lines) >= 4 and all("  # " in line for line in lines if "left out:" not in line)


def test_a_header_of_text_above_text(tmp_path: Path) -> None:
    rows = "".join(f"u{i % 5},p{i % 3}\n" for i in range(50))
    for start, header in (("who,where\n", True), ("u1,p2\n", False)):
        (tmp_path / "log.csv").write_text(start + rows)
        assert sniff(str(tmp_path / "log.csv")).header is header


def test_without_a_header_the_error_says_how_columns_are_called(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", columns(), header=False)
    with pytest.raises(ConfigError, match=r"no header: .*columns are called c1 \.\. c5"):
        infer(str(path), "click")


def test_mutated_logs_give_a_guess_or_a_clear_refusal(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    table = columns(60)
    texts = [write(tmp_path / "log.csv", table).read_bytes()]
    pq.write_table(pa.table(table), tmp_path / "log.parquet")
    texts.append((tmp_path / "log.parquet").read_bytes())
    refused = 0
    for i in range(120):
        data = bytearray(texts[i % 2])
        for at in rng.integers(0, len(data), 1 + i // 20):
            data[at] = int(rng.choice([0, 9, 10, 13, 34, 44, 59, 124, 200, 255]))
        path = tmp_path / f"mutated{i % 2}.csv"
        path.write_bytes(data)
        try:
            load_config(infer(str(path), "click").text)
        except AutodimError:
            refused += 1
    assert 0 < refused < 120


def test_a_guess_needs_no_torch(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", columns())
    code = "import sys; from autodim.data.infer import infer; infer(sys.argv[1], 'click'); exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == 0
