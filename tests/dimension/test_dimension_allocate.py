"""Laws of the allocator: the naive rule exactly, never over, monotone, order-free, near the best."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autodim.dimension.allocate import by_order, by_ratio
from autodim.dimension.curves import Curve, Flat, hull
from autodim.errors import BudgetError


def curve(name, costs, gains, forced=""):
    costs = np.array(costs)
    return Curve(name, np.arange(len(costs)), costs, np.array(gains, dtype=float), forced)


def useful(c):
    """Positions that no other beats, by definition: quadratic, and told apart from the code under test."""
    points = list(zip(c.costs.tolist(), c.gains.tolist(), range(len(c.costs)), strict=True))
    keep = [
        p
        for p in points
        if not any(
            (q[0] <= p[0] and q[1] >= p[1]) and ((q[0] < p[0] or q[1] > p[1]) or q[2] < p[2])
            for q in points
            if q is not p
        )
    ]
    return sorted(keep)


def naive(curves, budget):
    """The rule as it is stated: every step looks at every larger width of every slot."""
    points = [useful(c) for c in curves]
    place = [0] * len(curves)
    left = budget - sum(p[0][0] for p in points)
    assert left >= 0
    while True:
        best = None
        for i, own in enumerate(points):
            cost0, gain0, _ = own[place[i]]
            for j in range(place[i] + 1, len(own)):
                extra, gain = own[j][0] - cost0, own[j][1] - gain0
                if extra > left or gain <= 0:
                    continue
                key = (-(gain / extra), extra, curves[i].name)
                if best is None or key < best[0]:
                    best = (key, i, j)
        if best is None:
            return [own[at][2] for own, at in zip(points, place, strict=True)]
        (_, extra, _), i, j = best
        left -= extra
        place[i] = j


def spent(curves, chosen):
    return sum(int(c.costs[k]) for c, k in zip(curves, chosen, strict=True))


def gained(curves, chosen):
    return sum(float(c.gains[k]) for c, k in zip(curves, chosen, strict=True))


def least(curves):
    return sum(int(c.costs.min()) for c in curves)


@st.composite
def problems(draw, most_slots=6, most_widths=7, largest=9):
    """Small whole numbers: many ties, plateaus of cost and of gain, dents, straight lines."""
    curves = []
    for i in range(draw(st.integers(1, most_slots))):
        n = draw(st.integers(1, most_widths))
        steps = st.lists(st.integers(0, largest), min_size=n, max_size=n)
        curves.append(curve(f"s{i}", np.cumsum(draw(steps)), np.cumsum(draw(steps))))
    extra = draw(st.integers(0, 3 * largest * len(curves)))
    return draw(st.permutations(curves)), least(curves) + extra


@settings(max_examples=400, deadline=None)
@given(problems())
def test_equals_the_naive_rule(problem):
    curves, budget = problem
    assert by_ratio(curves, budget) == naive(curves, budget)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_equals_the_naive_rule_on_real_numbers(seed, share):
    rng = np.random.default_rng(seed)
    curves = []
    for i in range(8):
        rows = int(10 ** rng.uniform(0, 5))
        cost = np.arange(9) * (rows + 8)
        cost[-1] = max(cost[-2] + 1, rows * 8)
        gain = np.cumsum(rng.random(9) ** 6) if i % 2 else np.cumsum(np.sort(rng.random(9) ** 6)[::-1])
        curves.append(curve(f"s{i}", cost, gain))
    low, high = least(curves), sum(int(c.costs[-1]) for c in curves)
    budget = low + int(share**3 * (high - low))
    assert by_ratio(curves, budget) == naive(curves, budget)


@settings(max_examples=200, deadline=None)
@given(problems())
def test_never_over_and_no_single_further_step_fits(problem):
    curves, budget = problem
    chosen = by_ratio(curves, budget)
    left = budget - spent(curves, chosen)
    assert left >= 0
    for c, k in zip(curves, chosen, strict=True):
        better = (c.gains > c.gains[k]) & (c.costs - c.costs[k] <= left)
        assert not better.any()


@settings(max_examples=100, deadline=None)
@given(problems())
def test_predicted_loss_never_rises_with_the_budget(problem):
    curves, _ = problem
    top = sum(int(c.costs.max()) for c in curves)
    gains = [gained(curves, by_ratio(curves, b)) for b in range(least(curves), top + 2)]
    assert gains == sorted(gains)
    assert gains[-1] == sum(c.gains.max() for c in curves)


@settings(max_examples=100, deadline=None)
@given(problems(), st.randoms(use_true_random=False))
def test_independent_of_slot_order(problem, random):
    curves, budget = problem
    shuffled = list(curves)
    random.shuffle(shuffled)
    one = dict(zip((c.name for c in curves), by_ratio(curves, budget), strict=True))
    other = dict(zip((c.name for c in shuffled), by_ratio(shuffled, budget), strict=True))
    assert one == other


@settings(max_examples=100, deadline=None)
@given(problems(most_slots=3, most_widths=5))
def test_within_one_hull_segment_of_the_best(problem):
    curves, budget = problem
    best = max(
        gained(curves, k)
        for k in itertools.product(*(range(len(c.costs)) for c in curves))
        if spent(curves, k) <= budget
    )
    flat = Flat.of(curves)
    before, after, _ = hull(flat)
    segment = max((flat.gain[after] - flat.gain[before]).tolist(), default=0.0)
    assert best <= gained(curves, by_ratio(curves, budget)) + segment + 1e-9


def test_close_to_the_best_on_real_numbers():
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(60):
        rows = 10 ** rng.uniform(0.5, 4, 4)
        curves = [
            curve(f"s{i}", np.arange(6) * (int(n) + 5), np.cumsum(np.append(0, np.sort(rng.random(5))[::-1])))
            for i, n in enumerate(rows)
        ]
        budget = int(0.3 * sum(c.costs[-1] for c in curves))
        options = itertools.product(range(6), repeat=4)
        best = max(gained(curves, k) for k in options if spent(curves, k) <= budget)
        ratios.append(gained(curves, by_ratio(curves, budget)) / best)
    print(f"gain / best gain: mean {np.mean(ratios):.4f}, least {np.min(ratios):.4f}")
    assert np.mean(ratios) > 0.98 and np.min(ratios) > 0.9


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=4), min_size=1, max_size=3), st.integers(0, 12))
def test_best_where_costs_are_equal_and_gains_fall(steps, budget):
    curves = [
        curve(f"s{i}", 3 * np.arange(len(s) + 1), np.cumsum([0, *sorted(s, reverse=True)])) for i, s in enumerate(steps)
    ]
    best = max(
        gained(curves, k)
        for k in itertools.product(*(range(len(c.costs)) for c in curves))
        if spent(curves, k) <= 3 * budget
    )
    assert gained(curves, by_ratio(curves, 3 * budget)) == best


def test_a_misfit_may_take_a_step_that_the_hull_leaves_out():
    dented = curve("a", [0, 4, 10], [0, 1, 10])  # the hull goes from 0 to 10 at once
    assert by_ratio([dented], 10) == [2]
    assert by_ratio([dented], 9) == [1]


def test_gains_without_cost_are_taken():
    assert by_ratio([curve("a", [5, 5, 5, 9], [0, 2, 1, 2])], 100) == [1]


def test_hull_is_the_same_by_rounds_and_by_stack():
    rng = np.random.default_rng(1)
    falling = np.cumsum(np.sort(rng.random(200))[::-1])
    falling[-1] += 500  # a dent at the end takes the points one after the other: more rounds than are made at once
    c = curve("a", np.arange(200), falling)
    _, after, ratio = hull(Flat.of([c, curve("b", np.arange(200), np.cumsum(rng.random(200)))]))
    assert (np.diff(ratio[after < 200]) <= 0).all() and (np.diff(ratio[after >= 200]) <= 0).all()
    assert after.tolist()[0] == 199 and 399 in after


def test_too_small_a_budget_names_what_is_needed():
    curves = [curve("user", [70], [0], "min_dim 2"), curve("item", [30], [0], "fixed 3"), curve("zip", [0, 5], [0, 1])]
    with pytest.raises(BudgetError) as error:
        by_ratio(curves, 99)
    text = str(error.value)
    assert "at least 100" in text and text.index("user: 70 (min_dim 2)") < text.index("item: 30 (fixed 3)")
    assert "1. " in text and "prune.min_dim" in text and "zip" not in text
    assert by_ratio(curves, 100) == [0, 0, 0]


# --- by_order ---


def falling(draw_gains):
    return np.sort(np.asarray(draw_gains, dtype=float))[::-1]


@settings(max_examples=100, deadline=None)
@given(problems(), st.booleans())
def test_by_order_is_a_prefix(problem, fill):
    """Without fill: the first steps of one list. With it: no single further step fits."""
    curves, budget = problem
    rng = np.random.default_rng(budget)
    priorities = [falling(rng.integers(1, 5, len(c.costs) - 1)) for c in curves]
    budget = max(budget, sum(int(c.costs[0]) for c in curves))
    chosen = by_order(curves, priorities, budget, fill=fill)
    left = budget - spent(curves, chosen)
    assert left >= 0
    following = [
        (-p[k], c.name, c.costs[k + 1] - c.costs[k])
        for c, p, k in zip(curves, priorities, chosen, strict=True)
        if k + 1 < len(c.costs)
    ]
    if fill:
        assert all(cost > left for *_, cost in following)
    else:
        taken = [(-p[j], c.name) for c, p, k in zip(curves, priorities, chosen, strict=True) for j in range(k)]
        first = min(following, default=None)
        assert first is None or (first[2] > left and all(t <= first[:2] for t in taken))


@settings(max_examples=50, deadline=None)
@given(problems())
def test_by_order_widths_only_grow_with_the_budget(problem):
    curves, _ = problem
    rng = np.random.default_rng(len(curves))
    priorities = [falling(rng.random(len(c.costs) - 1)) for c in curves]
    low, top = sum(int(c.costs[0]) for c in curves), sum(int(c.costs[-1]) for c in curves)
    chosen = np.array([by_order(curves, priorities, b) for b in range(low, top + 1)])
    assert (np.diff(chosen, axis=0) >= 0).all()
    assert chosen[-1].tolist() == [len(c.costs) - 1 for c in curves]


def test_by_order_stops_where_by_ratio_goes_on():
    curves = [curve("big", [0, 100], [0, 2]), curve("small", [0, 1], [0, 1])]
    priorities = [np.array([2.0]), np.array([1.0])]
    assert by_order(curves, priorities, 50) == [0, 0]
    assert by_order(curves, priorities, 50, fill=True) == [0, 1]
    assert by_ratio(curves, 50) == [0, 1]
