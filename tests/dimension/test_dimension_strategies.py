"""Promises that every strategy keeps, and what each one means by its rule."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from autodim.config.schema import BudgetConfig, PruneConfig
from autodim.config.sections.prune import TIERS
from autodim.dimension.budget import resolve
from autodim.dimension.moments import Moments
from autodim.dimension.problem import make_problem
from autodim.dimension.statistics import Statistics, stability
from autodim.dimension.strategies import STRATEGIES
from autodim.embedding.layout import CostModel, Slot, Table
from autodim.errors import BudgetError, ConfigError, RunError

D = 16
ROWS = {"user": 6041, "item": 3707, "gender": 3, "age": 8, "zip": 3440, "year": 82}
SHARED = [*(Slot(n, n) for n in ROWS), Slot("last_item", "item")]
TABLES = [Table(n, r) for n, r in ROWS.items()]
COUNTS = {n: 700_000 * (2 if n == "item" else 1) for n in ROWS}
FOUND = [name for name in STRATEGIES if name != "manual"]
PREDICTING = [
    "sseds",
    "magnitude",
    "random",
    "mask_auc",
    "mask_exact",
    "spectral",
    "spectral_uniform",
    "spectral_refit",
]


def statistics(seed=0, common=D):
    def draw(k):
        rng = np.random.default_rng([seed, k])
        return {n: rng.normal(size=common) * 10 ** rng.uniform(-2, 1) for n in sorted(ROWS)}

    def moments(k):
        rng = np.random.default_rng([seed, k])
        found = {}
        for slot in sorted([*ROWS, "last_item"]):
            a, b = rng.normal(size=(2, common, common)) * 10 ** rng.uniform(-2, 0, (2, common, 1))
            cross = rng.normal(size=(common, common)) * 0.01
            found[slot] = Moments(1000, rng.normal(size=common), np.zeros(common), a.T @ a, cross, b.T @ b)
        return found

    extra = {"spectral": moments(3), "spectral_halves": (moments(3), moments(4)), **measurements(seed, common)}
    return Statistics(draw(0), {n: v**2 for n, v in draw(1).items()}, (draw(0), draw(2)), 1000, extra)


def measurements(seed, common):
    """What strategies measure for themselves, as its own code shapes it."""
    rng = np.random.default_rng([seed, 5])
    slots, tables = sorted([*ROWS, "last_item"]), sorted(ROWS)
    weights = {t: float(rng.uniform(0.1, 1)) for t in tables}
    return {
        "mask_auc": {s: float(v) for s, v in zip(slots, rng.normal(0.02, 0.02, len(slots)), strict=True)},
        "mask_exact": {t: rng.normal(1e-3, 1e-3, common) for t in tables},
        "search": weights,
        "optembed": {t: 1 / w for t, w in weights.items()},
        "pep": {t: np.sort(rng.normal(size=2 * common).clip(-0.99))[::-1] for t in tables},
    }


def solve(
    strategy, share=0.25, *, slots=SHARED, tables=TABLES, unit="params", stats=None, amount=None, state=1, **settings
):
    budget = BudgetConfig(unit=unit, share=None if amount is not None else share, amount=amount)
    config = PruneConfig(budget=budget, **settings)
    problem = make_problem(slots, tables, D, config, cost=CostModel(unit, D, state=state), counts=COUNTS, source="abc")
    return STRATEGIES[strategy](problem, resolve(budget, problem.cost, problem.uniform), stats or statistics())


@pytest.mark.parametrize("strategy", FOUND)
@pytest.mark.parametrize("unit", ["params", "bytes", "dims"])
@pytest.mark.parametrize("limits", [{}, {"min_dim": 1}, {"multiple_of": 4}, {"zero": "mean"}, {"rank": "score"}])
@pytest.mark.parametrize("share", [0.07, 0.25, 0.8, 1.0])
def test_never_over_and_spent_is_what_the_blocks_cost(strategy, unit, limits, share):
    try:
        found = solve(strategy, share, unit=unit, **limits)
    except BudgetError as error:
        assert "at least" in str(error) and share == 0.07
        return
    layout = found.layout(SHARED, TABLES)
    assert found.spent <= found.asked
    assert found.spent == CostModel(unit, found.common).total(layout) == sum(e.cost for e in found.entries)
    if unit == "params":
        assert found.spent == layout.parameters
    assert found.asked == int(share * found.uniform)
    assert list(found.widths) == ["user", "item", "last_item", "gender", "age", "zip", "year"]
    for e in found.entries:
        assert e.kept is None or (len(e.kept) == e.width and list(e.kept) == sorted(set(e.kept)))


@pytest.mark.parametrize("strategy", FOUND)
@pytest.mark.parametrize("rank", ["ratio", "score"])
def test_independent_of_slot_order_and_deterministic(strategy, rank):
    found = solve(strategy, rank=rank)
    turned = solve(strategy, rank=rank, slots=SHARED[::-1], tables=TABLES[::-1])
    by_table = {e.table: replace(e, slots=tuple(sorted(e.slots))) for e in found.entries}
    assert by_table == {e.table: replace(e, slots=tuple(sorted(e.slots))) for e in turned.entries}
    assert solve(strategy, rank=rank) == found


@pytest.mark.parametrize("strategy", PREDICTING)
@pytest.mark.parametrize("rank", ["ratio", "score"])
@pytest.mark.parametrize("unit", ["params", "dims"])
def test_predicted_loss_never_rises_with_the_budget(strategy, rank, unit):
    gains = [sum(e.score for e in solve(strategy, s, unit=unit, rank=rank).entries) for s in np.linspace(0.02, 1, 40)]
    if "spectral" in strategy:  # lambdas are in nats, and not a share of all
        gains = [g / sum(sum(e.scores) for e in solve(strategy, 1.0, unit=unit, rank=rank).entries) for g in gains]
    assert all(b >= a - 1e-5 for a, b in pairwise(gains))  # scores have 6 digits
    assert gains[-1] == pytest.approx(1, abs=1e-5) or unit == "dims"  # in dims a width ends at the rows


@pytest.mark.parametrize("strategy", ["mask_auc", "mask_exact", "search", "pep", "optembed"])
def test_what_was_not_measured_is_asked_for(strategy):
    with pytest.raises(RunError, match=f"prune.strategy={strategy}"):
        solve(strategy, stats=Statistics())


def test_a_harmful_slot_or_dimension_gets_nothing():
    stats = statistics()
    stats.extra["mask_auc"].update({"zip": -0.5, "item": -0.1, "last_item": -0.1})
    assert {e.table for e in solve("mask_auc", 0.9, stats=stats).entries if e.width == 0} >= {"zip", "item"}
    stats.extra["mask_exact"]["user"] = np.where(np.arange(D) == 3, 1.0, -5.0)
    assert next(e for e in solve("mask_exact", 0.9, stats=stats).entries if e.table == "user").kept == (3,)


def test_tempered_gains_span_from_the_spectrum_to_even_ones():
    def kept(a):
        return {e.table: e.width for e in a.entries}

    assert kept(solve("spectral_tempered", 0.3, gamma=1.0)) == kept(solve("spectral", 0.3))
    louder = statistics()
    moments = louder.extra["spectral"]
    moments["user"] = replace(moments["user"], curvature=1000 * moments["user"].curvature)
    for gamma, same in ((1e-6, True), (1.0, False)):
        one, other = (kept(solve("spectral_tempered", 0.3, gamma=gamma, stats=s)) for s in (statistics(), louder))
        assert (one == other) == same  # near 0 the spectrum says nothing


def test_weights_are_widths_up_to_one_factor():
    """At 1, 2, 4 and no limits the widths are in these proportions, whatever the rows."""
    slots, tables = [Slot(n, n) for n in "abc"], [Table(n, r) for n, r in zip("abc", (50_000, 9_000, 700), strict=True)]
    stats = Statistics(extra={"search": {"a": 0.5, "b": 1.0, "c": 2.0}})
    amount = 2 * (50_000 + D) + 4 * (9_000 + D) + 8 * (700 + D)
    found = solve("search", slots=slots, tables=tables, stats=stats, amount=amount)
    assert found.widths == {"a": 2, "b": 4, "c": 8} and found.spent == amount


def test_pep_widths_are_the_entries_above_one_threshold():
    """Kept entries a row, rounded: at a budget that one common threshold meets exactly."""
    from autodim.stages.evidence.pep import quantiles

    rng = np.random.default_rng(0)
    rows = {"a": 501, "b": 200, "c": 37}
    entries = {
        t: np.abs(rng.normal(size=(n, D))) * scale for (t, n), scale in zip(rows.items(), (1, 2, 4), strict=True)
    }
    wanted = {t: round(float((v > 1.5).sum()) / rows[t]) for t, v in entries.items()}
    assert len(set(wanted.values())) == 3
    slots, tables = [Slot(n, n) for n in rows], [Table(n, r) for n, r in rows.items()]
    stats = Statistics(extra={"pep": {t: quantiles(v - 0.01) for t, v in entries.items()}})
    found = solve("pep", slots=slots, tables=tables, stats=stats, unit="dims", amount=sum(wanted.values()))
    assert found.widths == wanted


def test_given_thresholds_are_tiers_and_never_over():
    slots, tables = [Slot(n, n) for n in "abc"], [Table("a", 1_000_000), Table("b", 10_000), Table("c", 1_000)]
    stats, budget = Statistics(), BudgetConfig(amount=500_000)
    config = PruneConfig(budget=budget, ladder=(1, 4, 8), thresholds=(5, 50, 500))
    problem = make_problem(slots, tables, D, config, counts={"a": 1_000_000, "b": 1_000_000, "c": 1_000_000})
    found = STRATEGIES["frequency_tiers"](problem, resolve(budget, problem.cost, problem.uniform), stats)
    assert found.widths == {"a": 0, "b": 4, "c": 8} and found.spent < 100_000
    with pytest.raises(BudgetError, match="higher thresholds"):
        STRATEGIES["frequency_tiers"](
            problem, replace(resolve(budget, problem.cost, problem.uniform), amount=9_000), stats
        )


def test_the_best_dimensions_are_kept():
    scores = {n: np.zeros(D) for n in ROWS}
    scores["user"][[3, 7]] = 5, -9  # signs do not matter
    scores["zip"][1] = 1
    found = {e.table: e for e in solve("sseds", 0.5, stats=Statistics(scores)).entries}
    assert found["user"].kept == (3, 7) and found["zip"].kept == (1,) and found["item"].kept == ()
    assert found["user"].score == pytest.approx(14 / 15, abs=1e-6)


def test_the_papers_ranking_is_the_global_one():
    """dims, raw ranking: exactly the S*D*share largest entries."""
    stats = statistics(3)
    rows = {n: 10_000 for n in ROWS}
    slots, tables = [Slot(n, n) for n in rows], [Table(n, r) for n, r in rows.items()]
    found = solve("sseds", 0.25, unit="dims", rank="score", slots=slots, tables=tables, stats=stats)
    every = sorted(((-abs(v), n, j) for n, s in stats.scores.items() for j, v in enumerate(s)))[: 6 * D // 4]
    expected = {n: tuple(sorted(j for _, m, j in every if m == n)) for n in rows}
    assert {e.table: e.kept for e in found.entries} == expected
    assert found.spent == 6 * D // 4


def test_small_tables_are_stored_whole():
    found = {e.table: e for e in solve("sseds", 0.5).entries}
    assert (found["gender"].width, found["gender"].projected, found["gender"].cost) == (16, False, 48)


def test_dropped_slots_are_named_or_keep_their_mean():
    scores = {n: np.zeros(D) for n in ROWS} | {"user": np.ones(D)}
    stats = Statistics(scores)
    assert "slot item dropped" in solve("sseds", stats=stats).notes
    assert "slot last_item dropped" in solve("sseds", stats=stats).notes
    mean = solve("sseds", stats=stats, zero="mean")
    entry = next(e for e in mean.entries if e.table == "item")
    assert entry.bias and entry.cost == 2 * D and entry.width == 0
    assert "slot zip kept only as a constant (its mean)" in mean.notes
    assert min(solve("sseds", stats=stats, zero="keep_min", multiple_of=2).widths.values()) == 2


@pytest.mark.parametrize("strategy", PREDICTING[:2])
@pytest.mark.parametrize("bad", [None, Statistics(), Statistics({"user": np.ones(D)}, {"user": np.ones(D)})])
def test_missing_scores_are_said(strategy, bad):
    problem = make_problem(SHARED, TABLES, D, PruneConfig())
    with pytest.raises(RunError, match=f"strategy {strategy} needs"):
        STRATEGIES[strategy](problem, resolve("25%", problem.cost, problem.uniform), bad)


def test_scores_that_are_not_finite_are_never_pruned_on():
    stats = statistics()
    stats.scores["zip"][2] = np.nan
    with pytest.raises(RunError, match=r"table zip.*finite: False"):
        solve("sseds", stats=stats)


def test_random_depends_on_seed_and_table_name_alone():
    one = {e.table: e.scores for e in solve("random").entries}
    few = {e.table: e.kept for e in solve("random", 1.0, slots=SHARED[:3], tables=TABLES[:3]).entries}
    assert len({*one.values()}) == len(one) and set(few) == {"user", "item", "gender"}
    small = solve("random", slots=SHARED[:2], tables=TABLES[:2])
    ratio = np.array(small.entries[0].scores) / np.array(one["user"])
    assert ratio == pytest.approx(ratio[0], rel=1e-5)  # the same draw, normalised over fewer slots
    assert {e.table: e.scores for e in solve("random", seed=1).entries} != one


# --- rules that choose widths ---


def test_uniform_is_the_widest_native_model():
    rows = sum(ROWS.values())
    found = solve("uniform", amount=5 * rows + 1)
    assert set(found.widths.values()) == {5} and found.common == 5 and found.spent == 5 * rows
    assert not any(e.projected or e.bias for e in found.entries)
    assert solve("uniform", amount=5 * rows - 1).common == 4
    assert solve("uniform", amount=7 * rows, multiple_of=4).common == 4
    assert solve("uniform", amount=3 * len(ROWS), unit="dims").common == 3
    with pytest.raises(BudgetError, match=f"at least {rows:,}"):
        solve("uniform", amount=rows - 1)


def test_frequency_tiers_climb_by_frequency_over_rung():
    found = solve("frequency_tiers", 0.2)
    widths = {e.table: e.width for e in found.entries}
    assert set(widths.values()) <= {0, 1, 4, 8, 16}
    assert widths["gender"] == widths["age"] == widths["year"] == 16  # seen most often an id
    assert widths["item"] >= widths["zip"] >= widths["user"]  # 378, 203 and 116 occurrences an id
    assert widths["user"] < 16


def test_frequency_tiers_reproduce_thresholds():
    """With room for exactly the climbs above a threshold, each slot stands on the highest rung below f / t."""
    rows = {"a": 1000, "b": 2000, "c": 8000}
    slots, tables = [Slot(n, n) for n in rows], [Table(n, r) for n, r in rows.items()]
    config = PruneConfig(ladder=(1, 4, 8))
    counts = {"a": 8_000, "b": 8_000, "c": 8_000}  # 8, 4 and 1 occurrences an id: at t = 1 rungs 8, 4 and 1
    cost = CostModel("params", D)
    problem = make_problem(slots, tables, D, config, cost=cost, counts=counts)
    exact = sum(cost.cost(n, 0, rows[n], w) for n, w in {"a": 8, "b": 4, "c": 1}.items())
    found = STRATEGIES["frequency_tiers"](problem, resolve(f"{exact} params", cost, problem.uniform), None)
    assert found.widths == {"a": 8, "b": 4, "c": 1} and found.spent == exact


@pytest.mark.parametrize(("strategy", "power"), [("power_rule", -0.3), ("fourth_root", 0.25)])
def test_powers_solve_their_base(strategy, power):
    rows = {"a": 100_000, "b": 20_000, "c": 4_000, "d": 700}
    slots, tables = [Slot(n, n) for n in rows], [Table(n, r) for n, r in rows.items()]
    base = 6.3 / (2000**power)
    expected = {n: min(D, round(base * r**power)) for n, r in rows.items()}
    cost = CostModel("params", D)
    exact = sum(cost.cost(n, 0, rows[n], w) for n, w in expected.items())
    found = solve(strategy, amount=exact, slots=slots, tables=tables)
    assert found.widths == expected and found.spent == exact


def test_alpha_zero_is_uniform_and_fourth_root_notes_its_plain_widths():
    rows = {"a": 5000, "b": 5001, "c": 5002}
    slots, tables = [Slot(n, n) for n in rows], [Table(n, r) for n, r in rows.items()]
    cost = CostModel("params", D)
    amount = sum(cost.cost(n, 0, r, 5) for n, r in rows.items())
    assert set(solve("power_rule", amount=amount, slots=slots, tables=tables, alpha=1e-12).widths.values()) == {5}
    assert "a 50, b 50, c 50" in solve("fourth_root", slots=slots, tables=tables).notes[0]


@pytest.mark.parametrize("strategy", ["frequency_tiers", "power_rule", "fourth_root"])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.6])
def test_heuristics_leave_no_step_of_theirs_that_fits(strategy, share):
    found = solve(strategy, share)
    config = PruneConfig()
    problem = make_problem(SHARED, TABLES, D, config)
    left = found.asked - found.spent
    for e in found.entries:
        c = problem.limits[e.table]
        k = c.widths.tolist().index(e.width)
        steps = range(k + 1, len(c.widths))
        if strategy == "frequency_tiers":
            steps = sorted({c.position(w) for w in TIERS if w <= D} - set(range(k + 1)))
        assert not [j for j in list(steps)[:1] if c.costs[j] - c.costs[k] <= left]


@pytest.mark.parametrize("strategy", [s for s in FOUND if s not in ("uniform", "uniform_int8")])
def test_the_smallest_feasible_budget_is_feasible(strategy):
    with pytest.raises(BudgetError) as error:
        solve(strategy, amount=10, min_dim=2)
    text = str(error.value)
    least = int(text.split("at least ")[1].split(" ", maxsplit=1)[0].replace(",", ""))
    factored = 12_130 if "spectral" in strategy else 12_114  # a spectral cut has a bias of 16
    assert f"user: {factored:,} (min_dim 2)" in text
    assert solve(strategy, amount=least, min_dim=2).spent == least
    with pytest.raises(BudgetError):
        solve(strategy, amount=least - 1, min_dim=2)


def test_a_thousand_random_problems_are_never_over():
    rng = np.random.default_rng(5)
    for k in range(1000):
        n = int(rng.integers(1, 7))
        tables = [Table(f"t{i}", int(10 ** rng.uniform(0, 5))) for i in range(n)]
        slots = [Slot(f"s{i}", f"t{i % n}") for i in range(n + int(rng.integers(0, 3)))]
        unit = ["params", "bytes", "dims"][k % 3]
        common = int(rng.integers(1, 20))
        config = PruneConfig(
            budget=BudgetConfig(unit=unit, share=float(rng.uniform(0.01, 1))),
            min_dim=int(rng.integers(0, min(common, 3))),
            multiple_of=int(rng.choice([1, 1, 2, 4])),
            zero=["drop", "keep_min", "mean"][int(rng.integers(3))],
            rank=["ratio", "score"][int(rng.integers(2))],
        )
        cost = CostModel(unit, common, bias=bool(rng.integers(2)), state=int(rng.integers(3)))
        problem = make_problem(slots, tables, common, config, cost=cost)
        stats = Statistics({t.name: rng.normal(size=common) for t in tables})
        zero, wild = np.zeros(common), rng.normal(size=(len(slots), common, common))
        eye = np.eye(common)
        moments = {s.name: Moments(9, zero, zero, w @ w.T, w * 0, eye) for s, w in zip(slots, wild, strict=True)}
        weights = {t.name: float(rng.uniform(0.1, 1)) for t in tables}
        extra = {
            "spectral": moments,
            "mask_auc": {s.name: float(rng.normal()) for s in slots},
            "mask_exact": stats.scores,
            "search": weights,
            "optembed": weights,
            "pep": {t.name: np.sort(rng.uniform(-1, 2, 2 * common))[::-1] for t in tables},
        }
        stats = replace(stats, magnitude=stats.scores, extra=extra)
        budget = resolve(config.budget, cost, problem.uniform)
        try:
            found = STRATEGIES[FOUND[k % len(FOUND)]](problem, budget, stats)
        except BudgetError as error:
            assert "at least" in str(error)
            continue
        layout = found.layout(slots, tables)
        assert replace(cost, common=found.common).total(layout) == found.spent <= budget.amount
        if unit == "params":
            assert layout.parameters == found.spent


@pytest.mark.parametrize("strategy", FOUND)
def test_a_model_without_slots_works(strategy):
    found = solve(strategy, slots=[], tables=[], stats=Statistics(halves=({}, {})))
    assert (found.entries, found.spent, found.widths) == ((), 0, {})
    assert found.layout([], []).parameters == 0


# --- manual and stability ---


def test_manual_reads_a_file_and_checks_the_budget(tmp_path):
    path = tmp_path / "widths.yaml"
    path.write_text("widths: {user: 2, item: 4, last_item: 4, gender: 16, age: 1, zip: 0, year: 3}")
    found = solve("manual", 0.5, widths=str(path))
    assert found.strategy == "manual" and found.widths["item"] == 4 and found.notes == ("slot zip dropped",)
    with pytest.raises(BudgetError, match="its widths cost"):
        solve("manual", 0.05, widths=str(path))
    with pytest.raises(ConfigError, match=r"prune\.widths"):
        solve("manual")


def test_stability_compares_the_halves():
    config = PruneConfig(budget=BudgetConfig(share=0.25))
    problem = make_problem(SHARED, TABLES, D, config)
    budget = resolve(config.budget, problem.cost, problem.uniform)
    stats = statistics()
    same = stability(STRATEGIES["sseds"], problem, budget, replace(stats, halves=(stats.scores, stats.scores)))
    assert same is not None and same.spearman == pytest.approx(1) and same.width_difference == 0
    other = stability(STRATEGIES["sseds"], problem, budget, stats)
    assert other is not None and other.spearman is not None and other.spearman < 0.9 and other.width_difference > 0
    assert stability(STRATEGIES["sseds"], problem, budget, replace(stats, halves=None)) is None
