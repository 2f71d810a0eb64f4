"""The allocation that strategies get: exact on small problems with every kind of limit, never over on any."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from autodim.config.schema import BudgetConfig, PruneConfig, SlotLimits
from autodim.dimension import allocate as allocator
from autodim.dimension.allocate import by_ratio, most_gain
from autodim.dimension.budget import resolve
from autodim.dimension.curves import Curve, Flat
from autodim.dimension.exact import LARGEST, size
from autodim.dimension.limits import choices
from autodim.dimension.problem import make_problem
from autodim.dimension.statistics import Statistics
from autodim.dimension.strategies import STRATEGIES
from autodim.embedding.layout import CostModel, Slot, Table
from autodim.errors import BudgetError, ConfigError

UNITS = ("params", "bytes", "serving_bytes", "dims")


def curve(name, costs, gains):
    return Curve(name, np.arange(len(costs)), np.array(costs), np.array(gains, dtype=float))


def spent(curves, chosen):
    return sum(int(c.costs[k]) for c, k in zip(curves, chosen, strict=True))


def gained(curves, chosen):
    return math.fsum(float(c.gains[k]) for c, k in zip(curves, chosen, strict=True))


def best(curves, budget):
    options = itertools.product(*(range(len(c.costs)) for c in curves))
    return max(gained(curves, k) for k in options if spent(curves, k) <= budget)


@st.composite
def curve_sets(draw, most_slots=4, most_widths=6):
    """Small whole numbers, so with many ties, plateaus and dents; now and then costs in fours."""
    unit, curves = draw(st.sampled_from([1, 1, 4])), []
    for i in range(draw(st.integers(1, most_slots))):
        n = draw(st.integers(1, most_widths))
        steps = st.lists(st.integers(0, 9), min_size=n, max_size=n)
        curves.append(curve(f"s{i}", unit * np.cumsum(draw(steps)), np.cumsum(draw(steps))))
    low = sum(int(c.costs[0]) for c in curves)
    return draw(st.permutations(curves)), low + draw(st.integers(0, 30 * unit * len(curves)))


@settings(max_examples=300, deadline=None)
@given(curve_sets())
def test_equal_to_brute_force(problem):
    curves, budget = problem
    chosen, rule = most_gain(curves, budget)
    assert rule == "exact" and spent(curves, chosen) <= budget
    assert gained(curves, chosen) == best(curves, budget)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_equal_to_brute_force_on_real_numbers(seed, share):
    rng = np.random.default_rng(seed)
    curves = []
    for i in range(4):
        rows = int(10 ** rng.uniform(0, 4))
        cost = np.minimum(np.arange(7) * (rows + 6), rows * 6 + np.arange(7))
        curves.append(curve(f"s{i}", cost, np.cumsum(rng.random(7) ** 4)))
    low, high = spent(curves, [0] * 4), spent(curves, [6] * 4)
    budget = low + int(share * (high - low))
    chosen, rule = most_gain(curves, budget)
    assert rule == "exact" and gained(curves, chosen) == pytest.approx(best(curves, budget), rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(curve_sets(), st.randoms(use_true_random=False))
def test_gain_never_falls_with_the_budget_and_the_order_of_slots_is_no_matter(problem, random):
    curves, _ = problem
    shuffled = list(curves)
    random.shuffle(shuffled)
    gains = []
    for budget in range(spent(curves, [0] * len(curves)), sum(int(c.costs[-1]) for c in curves) + 2, 3):
        chosen, _ = most_gain(curves, budget)
        other = dict(zip((c.name for c in shuffled), most_gain(shuffled, budget)[0], strict=True))
        assert dict(zip((c.name for c in curves), chosen, strict=True)) == other
        gains.append(gained(curves, chosen))
    assert gains == sorted(gains)


@settings(max_examples=100, deadline=None)
@given(curve_sets(most_slots=6))
def test_nested_widths_only_grow_and_are_never_over(problem):
    curves, _ = problem
    low, high = spent(curves, [0] * len(curves)), sum(int(c.costs[-1]) for c in curves)
    before = None
    for budget in range(low, high + 1, 2):
        chosen, rule = most_gain(curves, budget, nested=True)
        assert rule == "nested" and spent(curves, chosen) <= budget
        assert before is None or all(a >= b for a, b in zip(chosen, before, strict=True))
        before = chosen
    top, _ = most_gain(curves, high, nested=True)
    assert gained(curves, top) == sum(c.gains.max() for c in curves)


def test_a_tiny_gain_beside_a_large_one_is_still_taken():
    curves = [curve("a", [0, 5], [0, 1]), curve("b", [0, 1], [0, 1e-30])]
    assert most_gain(curves, 6) == ([1, 1], "exact")


def test_the_rule_depends_on_the_problem_and_not_on_the_budget(monkeypatch):
    rng = np.random.default_rng(0)
    curves = [curve(f"s{i}", np.arange(9) * int(rng.integers(50, 900)), np.cumsum(rng.random(9))) for i in range(8)]
    assert size(Flat.of(curves)) <= LARGEST
    monkeypatch.setattr(allocator, "LARGEST", size(Flat.of(curves)) - 1)
    for budget in (0, 100, 5000, 10**6):
        assert most_gain(curves, budget) == (by_ratio(curves, budget), "greedy")
    monkeypatch.setattr(allocator, "LARGEST", size(Flat.of(curves)))
    assert {most_gain(curves, budget)[1] for budget in (0, 100, 5000, 10**6)} == {"exact"}


@st.composite
def wishes(draw):
    """A model and wishes of every kind: shared tables, limits, multiples, ladders, units, precisions."""
    common = draw(st.integers(1, 12))
    unit = draw(st.sampled_from(UNITS))
    rows = draw(st.lists(st.integers(1, 60), min_size=1, max_size=3))
    tables = [Table(f"t{i}", n) for i, n in enumerate(rows)]
    slots = [Slot(f"s{i}", t.name) for i, t in enumerate(tables)]
    if draw(st.booleans()):
        slots.append(Slot("extra", "t0"))
    own = {}
    if draw(st.booleans()):
        limits = [{"fixed": 0}, {"fixed": common}, {"max_dim": 1}, {"min_dim": 1}]
        own["s0"] = SlotLimits(**draw(st.sampled_from(limits)))
    config = PruneConfig(
        budget=BudgetConfig(unit=unit, share=draw(st.sampled_from([0.02, 0.1, 0.25, 0.5, 0.9, 1.0]))),
        ladder=draw(st.sampled_from([None, None, (1, 4, 8), (2, 3), (64,)])),
        multiple_of=draw(st.sampled_from([1, 1, 2, 3])),
        min_dim=draw(st.integers(0, 2)),
        zero=draw(st.sampled_from(["drop", "keep_min", "mean"])),
        nested=draw(st.booleans()),
        precision=draw(st.sampled_from(["fp32", "fp16", "int8"])),
        slots=own,
    )
    return common, slots, tables, config


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(wishes(), st.integers(0, 2**32 - 1))
def test_a_thousand_problems_are_never_over_and_equal_to_brute_force(wish, seed):
    common, slots, tables, config = wish
    rng = np.random.default_rng(seed)
    scores = {t.name: rng.integers(1, 40, common).astype(float) for t in tables}
    try:
        problem = make_problem(slots, tables, common, config)
    except ConfigError:
        reject()  # limits that contradict each other
    budget = resolve(config.budget, problem.cost, problem.uniform)
    try:
        found = STRATEGIES["sseds"](problem, budget, Statistics(scores=scores))
    except BudgetError:
        assert sum(int(c.costs.min()) for c in problem.limits.values()) > budget.amount
        reject()
    assert found.spent == sum(e.cost for e in found.entries) <= budget.amount
    for e in found.entries:
        assert problem.cost.of(e.block, len(e.slots)) == e.cost  # what is stored is what was paid
        fixed = config.slots.get("s0", SlotLimits()).fixed if "s0" in e.slots else None
        if fixed is None and e.width not in (0, common):
            assert e.width % config.multiple_of == 0
            assert config.ladder is None or e.width in config.ladder
    total = sum(s.sum() for s in scores.values())
    curves = []
    for c in problem.limits.values():
        falling = np.append(0, np.cumsum(-np.sort(-scores[c.table])))
        curves.append(c.curve(falling[c.widths] / total))
    reached = math.fsum(e.score for e in found.entries)
    optimum = best(curves, budget.amount)
    if config.nested:
        assert reached <= optimum + 1e-5
    else:
        assert found.rule == "exact" and reached == pytest.approx(optimum, abs=1e-5)  # scores keep 6 digits


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 20),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from(UNITS),
    st.sampled_from(["fp32", "fp16", "int8"]),
)
def test_many_costs_at_once_are_those_one_by_one(rows, common, slots, bias, unit, precision):
    cost = CostModel(unit, common, bias, state=2, precision=precision)
    widths = range(1, common + 1)
    blocks = [cost.block("t", 0, rows, w, slots) for w in widths]
    stored, costs = cost.many("t", rows, widths, slots)
    assert stored.tolist() == [b.width for b in blocks]
    assert costs.tolist() == [cost.of(b, slots) for b in blocks]


@pytest.mark.parametrize(
    "strategy", ["sseds", "magnitude", "random", "frequency_tiers", "power_rule", "fourth_root", "pep"]
)
def test_nested_strategies_never_take_a_dimension_back(strategy):
    rows = {"a": 5000, "b": 900, "c": 40, "d": 3}
    tables, slots = [Table(n, r) for n, r in rows.items()], [Slot(n, n) for n in rows]
    rng = np.random.default_rng(2)
    scores = {n: rng.random(16) for n in rows}
    margins = {n: -np.sort(-rng.uniform(-0.9, 0.5, 32)) for n in rows}
    before = dict.fromkeys(rows, 0)
    for share in np.linspace(0.02, 1, 40):
        config = PruneConfig(budget=BudgetConfig(share=float(share)), nested=True, strategy=strategy)
        problem = make_problem(slots, tables, 16, config)
        budget = resolve(config.budget, problem.cost, problem.uniform)
        statistics = Statistics(scores=scores, magnitude=scores, extra={"pep": margins})
        widths = STRATEGIES[strategy](problem, budget, statistics).widths
        assert all(widths[n] >= before[n] for n in rows)
        before = widths


def test_a_ladder_is_inside_the_problem():
    config = PruneConfig(ladder=(1, 4, 8, 16, 32, 64))
    slots, tables = [Slot("s", "s")], [Table("s", 1000)]
    assert choices(slots, tables, CostModel("params", 16), config)["s"].widths.tolist() == [0, 1, 4, 8, 16]
    four = config.model_copy(update={"multiple_of": 4, "min_dim": 3})
    assert choices(slots, tables, CostModel("params", 20), four)["s"].widths.tolist() == [4, 8, 16, 20]
    with pytest.raises(ConfigError, match=r"no rung of the ladder \[2, 6\] that is a multiple of 4 lies between"):
        bad = PruneConfig(ladder=(2, 6), multiple_of=4, min_dim=1, max_dim=10)
        choices(slots, tables, CostModel("params", 20), bad)


def test_too_small_a_budget_names_every_way_out():
    config = PruneConfig(budget=BudgetConfig(unit="serving_bytes", amount=100), ladder=(4, 8), zero="keep_min")
    problem = make_problem([Slot("s", "s")], [Table("s", 50)], 16, config)
    scores = {"s": np.arange(16.0)}
    with pytest.raises(BudgetError) as error:
        STRATEGIES["sseds"](problem, resolve(config.budget, problem.cost, problem.uniform), Statistics(scores=scores))
    text = str(error.value)
    least = 50 * 4 * 4 + 4 * 4 * 16
    for words in (f"at least {least:,} serving_bytes", "keep_min, ladder", "prune.ladder", "prune.precision=int8"):
        assert words in text
    assert [f"  {i}. " in text for i in range(1, 6)] == [True] * 4 + [False]


def test_a_total_is_linear_in_the_tables():
    """Twice the tables, at most twice the looks at a slot's table."""
    from autodim.embedding import layout as module

    calls = 0

    class Counted(Slot):
        def __getattribute__(self, name):
            nonlocal calls
            calls += name == "table"
            return super().__getattribute__(name)

    found = []
    for count in (50, 100):
        calls = 0
        slots = [Counted(f"s{i}", f"s{i}") for i in range(count)]
        layout = module.uniform_layout(slots, [Table(f"s{i}", 9) for i in range(count)], 4)
        CostModel("params", 4).total(layout)
        found.append(calls)
    assert 0 < found[1] <= 2 * found[0]
