"""What each table may get."""

from __future__ import annotations

import pytest

from autodim.config.schema import BudgetConfig, PruneConfig
from autodim.dimension.limits import choices
from autodim.embedding.layout import CostModel, Slot, Table
from autodim.errors import ConfigError

D = 16


def one(rows, unit="params", readers=1, common=D, bias=False, **settings):
    names = [f"s{i}" for i in range(readers)]
    config = PruneConfig(budget=BudgetConfig(unit=unit, share=0.5), **settings)
    found = choices([Slot(n, "t") for n in names], [Table("t", rows)], CostModel(unit, common, bias), config)["t"]
    return found


def test_a_large_table_gets_every_width_and_whole_at_the_end():
    c = one(10_000)
    assert c.widths.tolist() == list(range(17))
    assert c.costs.tolist() == [w * 10_016 for w in range(16)] + [160_000]
    assert c.block(16, CostModel("params", D)).projected is False


def test_a_small_table_is_stored_whole_where_that_is_cheaper():
    c = one(3)  # width 1: 19, 2: 38, 3: 57; whole: 48
    assert c.widths.tolist() == [0, 1, 2, 16]
    assert c.nominal.tolist() == [0, 1, 2, 3]
    assert c.costs.tolist() == [0, 19, 38, 48]
    assert [c.position(w) for w in (0, 1, 2, 3, 8, 16)] == [0, 1, 2, 3, 3, 3]


@pytest.mark.parametrize("rows", [1, 2, 3, 15, 16, 17, 100])
def test_in_dims_no_width_exceeds_rows_or_d(rows):
    c = one(rows, unit="dims")
    assert c.widths.tolist() == c.costs.tolist() == list(range(min(rows, D) + 1))


@pytest.mark.parametrize("unit", ["params", "bytes", "dims"])
@pytest.mark.parametrize("rows", [1, 2, 5, 16, 300])
@pytest.mark.parametrize("multiple", [1, 4, 5])
@pytest.mark.parametrize("zero", ["drop", "keep_min", "mean"])
@pytest.mark.parametrize("slots", [1, 3])
def test_costs_rise_strictly_and_are_those_of_the_actual_blocks(unit, rows, multiple, zero, slots):
    cost = CostModel(unit, D)
    c = one(rows, unit=unit, multiple_of=multiple, zero=zero, readers=slots)
    assert (c.costs[1:] > c.costs[:-1]).all() and (c.widths[1:] > c.widths[:-1]).all()
    for k, width in enumerate(c.widths.tolist()):
        assert width % multiple == 0 or width == D
        assert cost.of(c.block(k, cost), slots) == c.costs[k]
    assert zero != "keep_min" or c.widths[0] > 0


def test_multiples_for_few_rows_are_rounded_up():
    assert one(3, unit="dims", multiple_of=4).widths.tolist() == [0, 4]
    assert one(100, multiple_of=4, common=10).widths.tolist() == [0, 4, 8, 10]


def test_the_mean_costs_a_vector_a_slot_and_goes_where_a_width_is_cheaper():
    assert one(1000, zero="mean").costs[0] == D
    assert one(1000, zero="mean").block(0, CostModel("params", D)).bias
    shared = one(5, zero="mean", readers=3)  # three constants cost 48, width 1 only 21
    assert shared.widths[0] == 1 and shared.costs[0] == 21


def test_minimum_maximum_and_fixed():
    assert one(1000, min_dim=3, max_dim=5).widths.tolist() == [3, 4, 5]
    assert one(1000, min_dim=3).forced == "min_dim 3"
    assert one(2, unit="dims", min_dim=3).widths.tolist() == [2]  # more than rows are useless
    fixed = one(3, slots={"s0": {"fixed": 2}}, min_dim=4)  # goes before the other limits
    assert fixed.widths.tolist() == [2] and fixed.costs.tolist() == [38] and fixed.forced == "fixed 2"
    exact = one(3, slots={"s0": {"fixed": 3}})  # never stored whole, though whole would cost 48
    assert exact.widths.tolist() == [3] and exact.costs.tolist() == [57]


def test_slots_that_share_a_table_share_limits():
    config = PruneConfig(slots={"a": {"min_dim": 2}, "b": {"max_dim": 12, "multiple_of": 4}, "c": {"multiple_of": 6}})
    slots = [Slot(n, "t") for n in "abc"]
    found = choices(slots, [Table("t", 1000)], CostModel("params", D), config)["t"]
    assert found.widths.tolist() == [12]


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"min_dim": 17}, "min_dim 17 is above the common width 16"),
        ({"min_dim": 5, "max_dim": 4}, "min_dim 5 is above max_dim 4"),
        ({"fixed": 17}, "fixed 17 is above"),
        ({"fixed": 6, "multiple_of": 4}, "not a multiple of 4"),
        ({"min_dim": 1, "max_dim": 3, "multiple_of": 4}, "no multiple of 4"),
    ],
)
def test_contradictions_are_named(limits, words):
    with pytest.raises(ConfigError, match=words):
        choices(
            [Slot("user", "user")],
            [Table("user", 1000)],
            CostModel("params", D),
            PruneConfig.model_validate({"slots": {"user": limits}}),
        )


def test_unknown_slots_get_a_suggestion():
    with pytest.raises(ConfigError, match='did you mean "user"'):
        choices(
            [Slot("user", "user")],
            [Table("user", 9)],
            CostModel("params", D),
            PruneConfig.model_validate({"slots": {"usr": {"fixed": 1}}}),
        )
