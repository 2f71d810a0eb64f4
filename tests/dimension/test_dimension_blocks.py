"""Where tables are cut into blocks, and how the items that stand for blocks are told back."""

import numpy as np
import pytest

from autodim.config.schema import BlocksConfig, BudgetConfig, PruneConfig, SlotLimits
from autodim.dimension.blocks import cut_rows, folded
from autodim.dimension.entry import Entry
from autodim.dimension.problem import make_problem
from autodim.embedding.layout import Slot, Table
from autodim.errors import ConfigError

SLOTS = (Slot("a", "a"), Slot("b", "b"), Slot("c", "b"))
TABLES = (Table("a", 11), Table("b", 101))
COUNTS = {"a": np.array([900] + [10] * 10), "b": np.array([0] + [100 - i for i in range(100)])}


def settings(**changes):
    return BlocksConfig(**{"slots": "auto", "min_rows": 1, **changes})


def test_blocks_end_at_shares_of_the_occurrences_and_the_unknown_id_is_in_the_head():
    # ten ids of ten occurrences each: half of them are five ids; row 0's own count does not matter
    found = cut_rows(SLOTS, TABLES, settings(shares=(0.5, 0.9)), COUNTS)
    assert found["a"] == ((0, 6), (6, 10), (10, 11))
    edges = [stop for _, stop in found["b"]]
    total = COUNTS["b"][1:].cumsum() / COUNTS["b"].sum()
    assert total[edges[0] - 2] >= 0.5 > total[edges[0] - 3]
    assert total[edges[1] - 2] >= 0.9 > total[edges[1] - 3]


def test_blocks_by_rows_need_no_counts_and_small_blocks_join():
    assert cut_rows(SLOTS, TABLES, settings(shares=(0.1, 0.5), by="rows"), None)["b"] == ((0, 10), (10, 50), (50, 101))
    joined = cut_rows(SLOTS, TABLES, settings(shares=(0.1, 0.5, 0.95), by="rows", min_rows=20), None)
    assert joined == {"b": ((0, 50), (50, 101))}  # 10 rows wait for the next edge, 6 rows join the last block


def test_only_the_named_slots_tables_are_cut():
    assert set(cut_rows(SLOTS, TABLES, settings(slots=("c",)), COUNTS)) == {"b"}
    assert cut_rows(SLOTS, TABLES, BlocksConfig(), COUNTS) == {}
    with pytest.raises(ConfigError, match="did you mean"):
        cut_rows(SLOTS, TABLES, settings(slots=("cc",)), COUNTS)
    with pytest.raises(ConfigError, match="by: rows"):
        cut_rows(SLOTS, TABLES, settings(), {"a": 100, "b": 50})


def test_a_problem_asks_about_blocks_in_place_of_tables():
    prune = PruneConfig(
        budget=BudgetConfig(share=0.5), blocks=settings(slots=("b",)), slots={"c": SlotLimits(max_dim=3)}
    )
    problem = make_problem(SLOTS, TABLES, 8, prune, counts=COUNTS)
    (head, tail) = (name for name in problem.limits if name != "a" and not name.endswith("101]"))
    assert [c.rows for c in problem.limits.values()] == [11, *(b - a for a, b in problem.spans["b"])]
    assert problem.limits[head].slots == tuple(n + head[1:] for n in ("b", "c"))
    assert max(w for w in problem.limits[tail].nominal if w < 8) == 3  # the limit of the slot holds for its blocks
    assert problem.cost.total(problem.uniform) == (11 + 101) * 8  # the blocks of a table cost what it costs
    assert problem.frequency(head) > problem.frequency(tail)


def test_neighbours_that_are_whole_become_one():
    parents = {f"b{k}": ("b", ("b", "c"), 10 * k, 10 * k + 10) for k in range(3)}
    whole = [Entry(f"b{k}", (f"b{k}",), 0, 10, 8, cost=80, score=1.0, scores=(0.5,) * 8) for k in range(3)]
    (one,) = folded(whole, parents, 8)
    assert (one.table, one.slots, one.start, one.stop, one.cost) == ("b", ("b", "c"), 0, 30, 240)
    assert one.score == 3.0 and one.scores == (1.5,) * 8
    narrow = [whole[0], Entry("b1", ("b1",), 0, 10, 2, projected=True, cost=36), whole[2]]
    assert [(e.start, e.stop, e.width) for e in folded(narrow, parents, 8)] == [(0, 10, 8), (10, 20, 2), (20, 30, 8)]
