"""The allocator on 10,000 tables of 128 dimensions: times are printed (`pytest -s tests/benchmarks`), laws hold."""

from __future__ import annotations

import time

import numpy as np

from autodim.dimension.allocate import by_ratio, most_gain
from autodim.dimension.api import allocate
from autodim.dimension.curves import Curve, Flat, hull

SLOTS, D = 10_000, 128


def curves():
    rng = np.random.default_rng(0)
    found = []
    for i in range(SLOTS):
        cost = np.arange(D) * (int(10 ** rng.uniform(0.5, 6)) + D)
        gain = np.cumsum(np.sort(rng.random(D) ** 4)[::-1])
        if i % 3 == 0:  # stored whole at the end: a jump of gain for one more unit
            cost[-1], gain[-1] = cost[-2] + 1, gain[-1] + 3
        found.append(Curve(f"s{i}", np.arange(D), cost, gain))
    return found


def test_ten_thousand_curves():
    made = curves()
    budget = int(0.1 * sum(int(c.costs[-1]) for c in made))
    times = []
    for _ in range(3):
        start = time.process_time()
        chosen, rule = most_gain(made, budget)
        times.append(time.process_time() - start)
    print(f"\n{SLOTS:,} slots x {D}, curves given: {min(times):.2f} s ({rule})")
    spent = sum(int(c.costs[k]) for c, k in zip(made, chosen, strict=True))
    gained = sum(float(c.gains[k] - c.gains[0]) for c, k in zip(made, chosen, strict=True))
    flat = Flat.of(made)
    before, after, ratio = hull(flat)
    order = np.argsort(-ratio)
    cost, gain = (flat.cost[after] - flat.cost[before])[order], (flat.gain[after] - flat.gain[before])[order]
    bound = float(np.interp(budget, np.cumsum(cost), np.cumsum(gain)))
    assert spent <= budget and rule == "greedy" and chosen == by_ratio(made, budget)
    assert bound - gain.max() <= gained <= bound * (1 + 1e-9)


def test_ten_thousand_tables_from_scores_to_widths():
    rng = np.random.default_rng(1)
    names = [f"s{i:05d}" for i in range(SLOTS)]
    rows = {n: int(10 ** rng.uniform(0.5, 6)) for n in names}
    scores = {n: rng.random(D) ** 6 for n in names}
    start = time.process_time()
    found = allocate(scores, rows, "10% serving_bytes", precision="int8")
    seconds = time.process_time() - start
    print(f"\n{SLOTS:,} slots x {D}, scores to widths: {seconds:.2f} s")
    assert found.spent <= found.asked < found.spent + min(r + 4 for r in rows.values()) + 4 * D
