"""Blocks of rows in the report: they stand together, are explained, and add up to their table."""

from dataclasses import replace

import pytest

from autodim.dimension.allocation import Allocation
from autodim.dimension.entry import Entry
from autodim.dimension.saturation import saturated, saturation_notes
from autodim.report.pictures import dearest, widths
from autodim.report.slots import block_sentence, slot_rows
from autodim.report.spending import budget_parts
from autodim.stages.serve import precisions


def allocation() -> Allocation:
    entries = (
        Entry("user", ("user",), 0, 10, 8, cost=80, scores=(1.0,) * 8),
        Entry("user", ("user",), 10, 100, 2, projected=True, bias=True, cost=204, precision="int8"),
        Entry("item", ("item",), 0, 50, 4, projected=True, bias=True, cost=240),
        Entry("user_kind", ("kind",), 0, 5, 8, cost=40),
    )
    return Allocation("spectral", "params", 600, 564, 1240, 8, entries)


def test_blocks_stand_together_where_their_table_does() -> None:
    rows = slot_rows(allocation())
    assert [r.name for r in dearest(rows)] == ["user [0:10)", "user [10:100)", "item", "kind"]
    assert "3 of 3 slots keep" in widths(rows, "params")


def test_a_table_s_blocks_are_one_part_of_the_spending() -> None:
    rows = slot_rows(allocation())
    parts = {name: (before, after) for name, before, after, _ in budget_parts(rows)}
    assert parts == {"user": (pytest.approx(100 * 8), 284), "item": (400, 240), "kind": (40, 40)}


def test_what_a_block_is_is_said_where_there_is_one() -> None:
    rows = slot_rows(allocation())
    assert block_sentence(rows).startswith("One table is cut into blocks")
    whole = replace(allocation(), entries=allocation().entries[2:])
    assert block_sentence(slot_rows(whole)) == ""
    assert precisions(allocation()) == "fp32 3 blocks, int8 1 block"
    assert precisions(replace(whole, entries=(replace(whole.entries[0], precision="fp16"), whole.entries[1]))) == (
        "fp16 1 table, fp32 1 table"
    )


def test_a_saturated_head_is_named_by_its_rows() -> None:
    found = saturated(allocation())
    assert "slot user rows 0 to 9 is saturated" in saturation_notes(found, {"user"})[0]
    assert "slot user is saturated" in saturation_notes(found)[0]


def test_widths_of_blocks_are_lists() -> None:
    assert allocation().block_widths == {"user": [8, 2], "item": 4, "kind": 8}
