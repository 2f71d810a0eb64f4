"""Budgets: recomputed from the saved tensors, never over; or the smallest feasible one is named, and it is feasible."""

from __future__ import annotations

import random
import re
from collections import Counter

import numpy as np
import pytest
from conftest import tiny_config
from safetensors.torch import load, save
from tiny_runs import walk

from autodim.config.reader import load_config
from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import resolve
from autodim.dimension.problem import make_problem
from autodim.dimension.statistics import Statistics
from autodim.dimension.strategies import STRATEGIES
from autodim.embedding.layout import CostModel, Slot, Table, uniform_layout
from autodim.embedding.tables import Tables
from autodim.errors import AutodimError, BudgetError, ConfigError

NAMES = ("sseds", "magnitude", "uniform", "random", "frequency_tiers", "power_rule", "fourth_root")


def spent_in_tensors(allocation: Allocation, slots: list[Slot], tables: list[Table], cost: CostModel) -> int:
    """What saved tensors hold, counted from their shapes alone."""
    saved = load(save({k: v.contiguous() for k, v in Tables(allocation.layout(slots, tables)).state_dict().items()}))
    if cost.unit == "dims":
        return sum(e.width for e in allocation.entries)
    numbers = sum(tensor.numel() for tensor in saved.values())
    if cost.unit == "params":
        return numbers
    rows = sum(v.shape[0] for k, v in saved.items() if k.endswith("weight"))
    return cost.element * (numbers * (1 + cost.state) + rows * cost.row_state)


def problem(draw: random.Random):
    """Random tables, units, limits, budgets and scores."""
    count, common = draw.randint(1, 8), draw.choice((1, 2, 3, 8, 16))
    tables = [Table(f"t{i}", draw.choice((1, 2, 5, 17, 100, 400))) for i in range(count)]
    slots = [Slot(t.name, t.name, draw.random() < 0.2) for t in tables]
    unit, strategy = draw.choice(("params", "bytes", "dims")), draw.choice(NAMES)
    share = draw.choice((1.0, 0.5, 0.25, 0.1, 0.03, 0.001, draw.uniform(0.001, 1)))
    limits = [f"prune.min_dim={min(draw.choice((0, 0, 0, 1, 2)), common)}"] if draw.random() < 0.5 else []
    minimal = {"data": {"path": "x.csv", "labels": ["y"], "slots": ["a"]}}
    overrides = [f"prune.budget={{share: {share}, unit: {unit}}}", f"prune.strategy={strategy}", *limits]
    try:
        settings = load_config(minimal, overrides, "bar").config.prune
    except ConfigError:  # a limit that this strategy does not have
        settings = load_config(minimal, overrides[:2], "bar").config.prune
    state, row_state = draw.choice(((1, 0), (2, 0), (0, 1), (0, 0)))
    cost = CostModel(unit=unit, common=common, state=state, row_state=row_state)
    numbers = np.random.default_rng(draw.randrange(2**32))
    counts = {t.name: np.sort(numbers.integers(0, 1000, t.rows))[::-1].copy() for t in tables}
    posed = make_problem(slots, tables, common, settings, cost=cost, counts=counts, source="")
    scores = {t.name: numbers.normal(size=common) for t in tables}
    squares = {t.name: numbers.random(common) for t in tables}
    return slots, tables, cost, settings, posed, Statistics(scores, squares, (scores, scores), 100)


def solve(draw: random.Random) -> str:
    try:
        slots, tables, cost, settings, posed, statistics = problem(draw)
    except BudgetError:
        return "infeasible"
    uniform = uniform_layout(slots, tables, cost.common)
    try:
        budget = resolve(settings.budget, posed.cost, uniform)
        allocation = STRATEGIES[settings.strategy](posed, budget, statistics)
    except BudgetError as error:
        numbers = [int(n.replace(",", "")) for n in re.findall(r"\d[\d,]*", str(error))]
        assert numbers, error
        return "refused with numbers"
    found = spent_in_tensors(allocation, slots, tables, cost)
    if allocation.common == cost.common:
        assert found == allocation.spent, (settings, found, allocation.spent)
    assert found <= budget.amount, (settings, found, budget.amount)
    assert allocation.spent <= budget.amount
    return "within"


@pytest.mark.parametrize("seed", range(4))
def test_random_problems_recomputed_from_saved_tensors_are_never_over(seed):
    draw = random.Random(seed)
    told = Counter(solve(draw) for _ in range(250))
    print(dict(told))
    assert told["within"] > 100
    assert told["refused with numbers"] > 0


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ("{share: 0}", "share"),
        ("{share: -0.5}", "share"),
        ("{share: 1.5}", "share"),
        ("{share: .nan}", "share"),
        ("{amount: 0}", "amount"),
        ("{amount: -3}", "amount"),
    ],
)
def test_budgets_that_cannot_be_meant_are_refused_before_data_is_read(tmp_path, budget, words):
    with pytest.raises(ConfigError, match=words):
        tiny_config(tmp_path / "not there.csv", tmp_path / "run", f"prune.budget={budget}")


def test_an_infeasible_budget_is_refused_before_training_and_the_named_one_is_feasible(tmp_path):
    config = ("prune.min_dim=2", "prune.budget={amount: 10, unit: dims}")
    with pytest.raises(BudgetError) as error:
        walk(tmp_path / "run", "prune.min_dim=3", config[1])
    assert not (tmp_path / "run" / "pretrain").exists()
    assert re.search(r"\d", str(error.value))
    named = max(int(n) for n in re.findall(r"\b(\d+) dims", str(error.value)))
    run = walk(tmp_path / "run", "prune.min_dim=3", f"prune.budget={{amount: {named}, unit: dims}}")
    allocation = Allocation.from_yaml((run / "widths.yaml").read_text())
    assert allocation.spent <= named


def test_a_budget_over_the_uniform_model_spends_no_more_than_it(tmp_path):
    try:
        run = walk(tmp_path / "run", "prune.budget={amount: 100000000, unit: params}")
    except AutodimError as error:
        assert "100000000" in str(error).replace(",", "")
        return
    allocation = Allocation.from_yaml((run / "widths.yaml").read_text())
    assert allocation.spent == allocation.uniform
