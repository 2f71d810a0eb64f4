"""Columns of numbers: ids, buckets, or a value for the dense part."""

from __future__ import annotations

import numpy as np

from autodim.data.infer.profile import Profile
from autodim.data.infer.words import says_id, says_number

FEW_INTEGERS, FEW_FLOATS = 100, 20
SKEWED = 2.0
BINS = 20

Entry = dict[str, str | int | float]


def number_slot(fact: Profile) -> tuple[Entry, str]:
    """(keys of the slot beside its name, why)."""
    assert fact.numbers is not None and fact.counts is not None
    values = fact.numbers[~np.isnan(fact.numbers)]
    told = f"{fact.distinct:,} distinct"
    few = FEW_INTEGERS if fact.kind == "integer" else FEW_FLOATS
    if fact.distinct <= few and fact.distinct * 3 <= fact.present:
        return {}, f"{told} numbers: few enough for an id each"
    quantile: Entry = {"kind": "buckets", "buckets": "quantile", "bins": BINS}
    if fact.kind == "integer":
        if says_id(fact.name):
            return {}, f"{told} whole numbers, named like ids"
        number = says_number(fact.name)
        if _heavy(values) and (number or _smooth(fact)):
            return {"kind": "buckets"}, f"{told} whole numbers with a long tail, as counts: floor(log(x)^2)"
        if not number and fact.distinct * 2 <= fact.present and not _smooth(fact):
            return {}, f"{told} whole numbers whose frequencies follow no order: ids"
        return quantile, f"{told} whole numbers, {_reason(number)}: quantiles"
    if fact.missing > 0.05 * fact.rows:
        return quantile, f"{told} numbers, {fact.missing / fact.rows:.0%} missing: quantiles, and an id for missing"
    if abs(_skewness(values)) > SKEWED:
        return quantile, f"{told} numbers, skewed: quantiles"
    return {"kind": "value"}, f"{told} numbers, evenly spread: a scaled value"


def _reason(named: bool) -> str:
    return "named like a quantity" if named else "near ones about as frequent, or hardly any twice"


def _heavy(values: np.ndarray) -> bool:
    """A long right tail from about zero on."""
    return bool(values.min() >= -10 and values.max() > 20 * (abs(np.median(values)) + 1) / 2) and _skewness(values) > 2


def _smooth(fact: Profile) -> bool:
    """Whether neighbouring values are about equally frequent, as those of a quantity are; of ids they are not."""
    assert fact.numbers is not None
    _, counts = np.unique(fact.numbers[~np.isnan(fact.numbers)], return_counts=True)
    if counts.mean() < 2 or counts.std() == 0:
        return False
    logs = np.log(counts)
    if logs[1:].std() == 0 or logs[:-1].std() == 0:
        return False
    return bool(np.corrcoef(logs[1:], logs[:-1])[0, 1] > 0.5)


def _skewness(values: np.ndarray) -> float:
    with np.errstate(over="ignore", invalid="ignore"):  # 1e300 is a number too
        spread = values.std()
        if not np.isfinite(spread) or spread == 0:
            return 0.0
        return float((((values - values.mean()) / spread) ** 3).mean())
