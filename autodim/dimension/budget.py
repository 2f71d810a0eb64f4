"""A budget, as said by a person, becomes a number in a unit. Torch-free."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from math import floor
from typing import get_args

from pydantic import ValidationError

from autodim.config.schema import BudgetConfig
from autodim.embedding.layout import CostModel, Layout, Unit
from autodim.errors import ConfigError, did_you_mean

UNITS: tuple[Unit, ...] = get_args(Unit)
_TEXT = re.compile(
    r"\s*(?P<number>[0-9][0-9_,]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+)\s*(?P<percent>%?)\s*(?P<unit>\w*)\s*"
)
_EXAMPLES = 'say for example "25% params", "0.25 dims", "1000000 bytes" or "10% serving_bytes"'


@dataclass(frozen=True)
class Budget:
    """What may be spent.

    Attributes:
        amount: in the unit, at least 0; never exceeded.
        unit: params, bytes, serving_bytes or dims.
        asked: the budget as it was asked for, e.g. `25% params`.
        uniform: what the uniform model spends, in the unit and in float32 (0: unknown).
    """

    amount: int
    unit: Unit
    asked: str
    uniform: int = 0


def parse_budget(text: str) -> BudgetConfig:
    """Reads `25% params`, `0.25 dims`, `1000000 bytes`; without a unit, params.

    A whole number is an amount; a number with a point or a percent sign is a share of the uniform model.

    Raises:
        ConfigError: the text is none of these.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ConfigError(f"budget {text!r} cannot be read; {_EXAMPLES}")
    unit = match["unit"] or "params"
    if unit not in UNITS:
        raise ConfigError(f"budget {text!r}: unknown unit {unit!r}{did_you_mean(unit, list(UNITS))}")
    try:
        number = Decimal(match["number"].replace("_", "").replace(",", ""))
    except InvalidOperation:
        raise ConfigError(f"budget {text!r} cannot be read; {_EXAMPLES}") from None
    whole = number == number.to_integral_value()
    is_share = bool(match["percent"]) or "." in match["number"] or not whole
    try:
        if not is_share:
            return BudgetConfig.model_validate({"unit": unit, "amount": int(number)})
        share = number / 100 if match["percent"] else number
        return BudgetConfig.model_validate({"unit": unit, "share": float(share)})
    except (ValidationError, OverflowError):
        expected = "a share is above 0 and at most 1 (100%)" if is_share else "an amount is a whole number above 0"
        raise ConfigError(f"budget {text!r} is out of range: {expected}; {_EXAMPLES}") from None


def quality_words(budget: BudgetConfig) -> str:
    """`AUC at most 0.0005 below the uncut model's`, for a budget by quality."""
    limits = []
    if budget.max_auc_drop is not None:
        limits.append(f"AUC at most {budget.max_auc_drop:g} below the uncut model's")
    if budget.max_loss_increase is not None:
        limits.append(f"log loss at most {budget.max_loss_increase:g} above the uncut model's")
    return " and ".join(limits)


def resolve(budget: BudgetConfig | str, cost: CostModel, uniform: Layout) -> Budget:
    """The amount that a budget means for a model; a share is floored, so that it is never exceeded.

    A budget by quality is the uniform model's spend here: the most that it may come to.

    Args:
        budget: a config section or a text for `parse_budget`.
        cost: what things cost; its unit must be the budget's.
        uniform: the uniform model, of which a share is a share.

    Raises:
        ConfigError: an unreadable budget, or one in another unit than `cost`.
    """
    config = parse_budget(budget) if isinstance(budget, str) else budget
    if config.unit != cost.unit:
        raise ConfigError(f"the budget is in {config.unit} and the costs are in {cost.unit}; use one unit for both")
    total = cost.reference(uniform)
    if config.amount is not None:
        return Budget(config.amount, config.unit, f"{config.amount} {config.unit}", total)
    if config.share is None:  # by quality: anything up to the uniform model may be the answer
        return Budget(total, config.unit, quality_words(config), total)
    # str() and not the float itself: 0.29 of 100 is 29, though the nearest double is a little less than 0.29.
    share = Fraction(str(config.share))
    return Budget(floor(share * total), config.unit, f"{float(share * 100):.6g}% {config.unit}", total)
