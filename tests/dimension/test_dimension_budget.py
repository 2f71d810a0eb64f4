"""Budgets as people say them."""

from __future__ import annotations

import pytest

from autodim.config.schema import BudgetConfig
from autodim.dimension.budget import parse_budget, resolve
from autodim.embedding.layout import CostModel, Slot, Table, uniform_layout
from autodim.errors import ConfigError

UNIFORM = uniform_layout([Slot("a", "a"), Slot("b", "b")], [Table("a", 90), Table("b", 10)], 8)


@pytest.mark.parametrize(
    ("text", "unit", "share", "amount"),
    [
        ("25% params", "params", 0.25, None),
        ("25%", "params", 0.25, None),
        ("0.25 dims", "dims", 0.25, None),
        (".5 dims", "dims", 0.5, None),
        ("1.0 params", "params", 1.0, None),
        ("100% bytes", "bytes", 1.0, None),
        ("1000000 bytes", "bytes", None, 1_000_000),
        ("1_000_000 bytes", "bytes", None, 1_000_000),
        ("1,000,000", "params", None, 1_000_000),
        ("1e6 params", "params", None, 1_000_000),
        ("1 dims", "dims", None, 1),
    ],
)
def test_texts(text, unit, share, amount):
    budget = parse_budget(text)
    assert (budget.unit, budget.share, budget.amount) == (unit, share, amount)


@pytest.mark.parametrize(
    "text", ["", "params", "0 params", "0%", "101%", "1.5 params", "-3 params", "25% parms", "nan"]
)
def test_nonsense_is_refused(text):
    with pytest.raises(ConfigError, match="budget"):
        parse_budget(text)


def test_a_wrong_unit_gets_a_suggestion():
    with pytest.raises(ConfigError, match='did you mean "params"'):
        parse_budget("25% parms")


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("25% params", 200),
        ("25% dims", 4),
        ("25% bytes", 1600),
        ("0.29 params", 232),
        ("0.3333 dims", 5),
        ("7 dims", 7),
    ],
)
def test_shares_are_floored_shares_of_the_uniform_model(text, amount):
    cost = CostModel(parse_budget(text).unit, 8)
    budget = resolve(text, cost, UNIFORM)
    assert budget.amount == amount
    assert parse_budget(budget.asked) == parse_budget(text)


def test_a_share_does_not_lose_a_unit_to_binary_fractions():
    uniform = uniform_layout([Slot("a", "a")], [Table("a", 100)], 1)
    assert resolve(BudgetConfig(share=0.29), CostModel("params", 1), uniform).amount == 29  # 0.29 * 100 = 28.999...


def test_budget_and_costs_need_one_unit():
    with pytest.raises(ConfigError, match="one unit"):
        resolve("25% dims", CostModel("params", 8), UNIFORM)
