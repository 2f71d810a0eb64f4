"""The artefact: round trip, hand edits, hostile files."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autodim.dimension.allocation import Allocation, Entry, read_widths
from autodim.dimension.api import allocate
from autodim.embedding.layout import CostModel, Slot, Table
from autodim.errors import ConfigError

D = 8
ROWS = {"user": 500, "item": 300, "sex": 3}
SLOTS = [Slot("user", "user"), Slot("item", "item"), Slot("last", "item"), Slot("sex", "sex")]
TABLES = [Table(n, r) for n, r in ROWS.items()]
COST = CostModel("params", D)


def example():
    entries = (
        Entry("user", ("user",), 0, 500, 2, (1, 5), True, False, 1016, 0.25, tuple(0.01 * k for k in range(8))),
        Entry("item", ("item", "last"), 0, 300, 0, (), False, False, 0, 0.0, tuple(1e-7 * k for k in range(8))),
        Entry("sex", ("sex",), 0, 3, 8, None, False, False, 24),
    )
    notes = ("slot item dropped", "slot last dropped")
    return Allocation("sseds", "params", 1100, 1040, 6424, D, entries, "1100 params", "sha256:12", notes)


def read(tmp_path, text, *, slots=SLOTS, tables=TABLES, common=D, cost=COST):
    path = tmp_path / "widths.yaml"
    path.write_text(text, encoding="utf-8")
    return read_widths(path, slots, tables, common, cost)


def test_round_trip_and_stable_text(tmp_path):
    text = example().to_yaml()
    assert Allocation.from_yaml(text) == example()
    assert Allocation.from_yaml(text).to_yaml() == text
    assert read(tmp_path, text) == example()
    assert "\n  user: 2\n  item: 0\n  last: 0\n  sex: 8\n" in text
    assert len(text.splitlines()) == 2 + 10 + 1 + 4 + 1 + 3


def test_one_edit_is_one_line_of_the_widths():
    one = example()
    other = replace(one, entries=(replace(one.entries[0], width=1, kept=(1,), cost=508), *one.entries[1:]))
    changed = set(one.to_yaml().splitlines()) ^ set(other.to_yaml().splitlines())
    assert {line for line in changed if line.startswith("  ")} == {"  user: 2", "  user: 1"}


def test_blocks_of_one_table():
    head = Entry("t", ("a", "b"), 0, 10, 8, cost=80)
    tail = Entry("t", ("a", "b"), 10, 100, 2, (0, 3), True, cost=196)
    found = Allocation("manual", "params", 276, 276, 800, 8, (head, tail))
    assert Allocation.from_yaml(found.to_yaml()) == found
    assert found.widths == {"a": 8, "b": 8} and "  a: [8, 2]\n" in found.to_yaml()
    layout = found.layout([Slot("a", "t"), Slot("b", "t")], [Table("t", 100)])
    assert layout.parameters == 276


@given(
    st.lists(st.text(min_size=1, max_size=300), min_size=1, max_size=5, unique=True),
    st.text(max_size=20),
    st.floats(0, 1, allow_subnormal=False),
)
def test_any_name_survives(names, note, score):
    score = float(f"{score:.6g}")
    entries = tuple(Entry(n, (n,), 0, 5, 4, (0, 1, 2, 3), True, cost=36, score=score) for n in names)
    found = Allocation("sseds", "params", 400, 36 * len(names), 400, 8, entries, notes=(note,))
    text = found.to_yaml()
    assert Allocation.from_yaml(text) == found
    assert "widths:\n" in text.encode().decode()


def test_names_that_yaml_reads_otherwise_survive():
    names = ["no", "012", "1e-3", "12:30", "null", "~", "../x", "=cmd", "a: b", "#", "\x00", "-", "<<", "x\ny"]
    entries = tuple(Entry(n, (n,), 0, 5, 1, projected=True, cost=13) for n in names)
    found = Allocation("sseds", "params", 400, 13, 400, 8, entries)
    assert Allocation.from_yaml(found.to_yaml()) == found


def test_widths_alone_are_enough(tmp_path):
    found = read(tmp_path, "widths: {user: 4, item: 8, last: 8, sex: 2}")
    assert found.widths == {"user": 4, "item": 8, "last": 8, "sex": 2}
    assert found.strategy == "manual" and found.uniform == 803 * 8
    layout = found.layout(SLOTS, TABLES)
    assert found.spent == found.asked == layout.parameters == 4 * 508 + 2400 + 2 * 11
    assert [e.kept for e in found.entries] == [None, None, None]


def test_hand_edits_recompute_costs_and_drop_kept(tmp_path):
    found = read(tmp_path, example().to_yaml().replace("  user: 2\n", "  user: 3\n"))
    user = found.entries[0]
    assert (user.width, user.kept, user.score, user.cost) == (3, None, None, 3 * 508)
    assert user.scores == example().entries[0].scores
    assert found.spent == 3 * 508 + 24 and found.strategy == "manual"
    assert found.notes == ("slot item dropped", "slot last dropped", "edited by hand; was found by sseds")
    assert found.layout(SLOTS, TABLES).parameters == found.spent


def test_a_cut_slot_set_back_to_whole_has_no_projection(tmp_path):
    found = read(tmp_path, example().to_yaml().replace("  user: 2\n", f"  user: {D}\n"))
    assert not found.entries[0].projected and found.entries[0].cost == 4000


def test_costs_follow_the_unit(tmp_path):
    found = read(tmp_path, example().to_yaml(), cost=CostModel("bytes", D, state=2))
    assert found.unit == "bytes" and found.spent == 12 * 1040 and found.entries[0].kept == (1, 5)


def test_rows_come_from_the_log(tmp_path):
    tables = [replace(t, rows=600) if t.name == "user" else t for t in TABLES]
    found = read(tmp_path, example().to_yaml(), tables=tables)
    assert found.entries[0].rows == 600 and found.entries[0].cost == 2 * 608
    with pytest.raises(ConfigError, match="user"):
        example().layout(SLOTS, tables)


def test_a_constant_stays_a_constant_until_it_gets_a_width(tmp_path):
    entries = list(example().entries)
    entries[1] = replace(entries[1], bias=True, cost=2 * D)
    text = replace(example(), entries=tuple(entries), spent=1056).to_yaml()
    assert read(tmp_path, text).entries[1].bias
    edited = text.replace("  item: 0\n  last: 0\n", "  item: 2\n  last: 2\n")
    assert read(tmp_path, edited).entries[1].bias is False


def test_native_uniform_files(tmp_path):
    found = allocate({n: range(1, D + 1) for n in ROWS}, ROWS, "50% params", strategy="uniform")
    slots = [Slot(n, n) for n in ROWS]
    again = read(tmp_path, found.to_yaml(), slots=slots)
    assert again == found and again.common == 4 and again.layout(slots, TABLES).parameters == 803 * 4
    with pytest.raises(ConfigError, match="common width 8; the uniform model's is 4"):
        read(tmp_path, example().to_yaml(), common=4, cost=CostModel("params", 4))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("widths: {usr: 4, item: 1, last: 1, sex: 1}", 'did you mean "user"'),
        ("widths: {user: 4, sex: 1}", "no width for item, last"),
        ("widths: {user: 9, item: 1, last: 1, sex: 1}", "user: 9 is above the common width 8"),
        ("widths: {user: -1, item: 1, last: 1, sex: 1}", "user: -1 is no width"),
        ("widths: {user: 1.5, item: 1, last: 1, sex: 1}", "no width"),
        ("widths: {user: yes, item: 1, last: 1, sex: 1}", "no width"),
        ("widths: {user: 1, item: 1, last: 2, sex: 1}", "share the table item"),
        ("widths: {user: [1, 2], item: 1, last: 1, sex: 1}", "2 widths"),
        ("widths: {user: 1, user: 2, item: 1, last: 1, sex: 1}", "given twice"),
        ("widths: {no: 1}", "put it in quotes"),
        ("widths: [1, 2]", "expected a section `widths:`"),
        ("", "expected a section"),
        ("widths: {user: 1}\nbugdet: 3", 'did you mean "budget"'),
        ("version: 2\nwidths: {}", "version 2 is unknown"),
        ("widths: &a {user: 1}\nnotes: *a", "aliases"),
        ("widths: !!python/object/apply:os.system ['true']", "cannot be read"),
        ("widths: !!python/name:os.system {}", "cannot be read"),
        ("widths: {user: 1", "cannot be read"),
        ("widths: " + "[" * 5000, "cannot be read"),
        ("widths: {[1, 2]: 3}", "cannot be read"),
        ("widths: {user: \x07}", "cannot be read"),
        ("widths: {user: 1, item: 1, last: 1, sex: 1}\nblocks: 3", "must be a list"),
        ("widths: {user: 1, item: 1, last: 1, sex: 1}\nblocks: [{table: 3}]", "must be a name"),
        ("widths: {user: 1, item: 1, last: 1, sex: 1}\nblocks: [{table: a, slots: [a], kept: x}]", "list of numbers"),
        ("widths: {user: 1, item: 1, last: 1, sex: 1}\ncommon: 1e3", "common: expected a whole number"),
    ],
)
def test_bad_files_are_refused_with_their_name(tmp_path, text, words):
    with pytest.raises(ConfigError) as error:
        read(tmp_path, text)
    assert words in str(error.value) and "widths.yaml" in str(error.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_widths(tmp_path / "none.yaml", SLOTS, TABLES, D, COST)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_widths(tmp_path / "binary.yaml", SLOTS, TABLES, D, COST)


def test_blocks_must_cover_their_table(tmp_path):
    head = Entry("user", ("user",), 0, 10, 8, cost=80)
    tail = Entry("user", ("user",), 20, 500, 2, (0, 3), True, cost=976)
    found = Allocation("manual", "params", 1056, 1056, 4000, D, (head, tail))
    with pytest.raises(ConfigError, match="do not cover"):
        read(tmp_path, found.to_yaml(), slots=SLOTS[:1], tables=TABLES[:1])
    with pytest.raises(ConfigError, match="do not cover"):
        found.layout(SLOTS[:1], TABLES[:1])


def test_units_and_notes_are_checked():
    text = example().to_yaml()
    with pytest.raises(ConfigError, match="unit: expected one of"):
        Allocation.from_yaml(text.replace("unit: params", "unit: parms"))
    with pytest.raises(ConfigError, match="`notes` must be a list"):
        Allocation.from_yaml(text.replace(text[text.index("notes:") : text.index("widths:\n")], "notes: 3\n"))


def test_a_minimal_file_is_no_allocation_yet():
    with pytest.raises(ConfigError, match="read_widths"):
        Allocation.from_yaml("widths: {user: 1}")
