"""Whole numbers that are times."""

from __future__ import annotations

import math

import numpy as np

from autodim.data.infer.words import says_time

_EPOCH = (6.3e8, 2.5e9)  # 1990 .. 2049 in seconds
_UNITS = {1.0: "seconds", 1e3: "milliseconds", 1e6: "microseconds", 1e9: "nanoseconds"}


def time_of_numbers(name: str, distinct: np.ndarray, rising: bool) -> str:
    """Why whole numbers are times, or nothing."""
    if len(distinct) < 2:
        return ""
    low, high = float(distinct.min()), float(distinct.max())
    for unit, word in _UNITS.items():
        if _EPOCH[0] * unit <= low and high <= _EPOCH[1] * unit and (len(distinct) > 20 or says_time(name)):
            return f"whole numbers in the range of {word} since 1970"
    if (
        (says_time(name) or rising)
        and _calendar(low)
        and _calendar(high) == _calendar(low)
        and (all(_calendar(value) for value in distinct[:1000]))
    ):
        return f"whole numbers that read as {_calendar(low)}"
    if rising and len(distinct) >= 20 and says_time(name):
        return "named like a time, and never falling"
    return ""


def _calendar(value: float) -> str:
    text = str(int(value)) if math.isfinite(value) and value > 0 else ""
    year = int(text[:4]) if len(text) in (8, 10, 12, 14) else 0
    if 1990 <= year <= 2049 and 1 <= int(text[4:6]) <= 12 and 1 <= int(text[6:8]) <= 31:
        return "YYYYMMDDHHMMSS"[: len(text)]
    if len(text) == 8 and 1 <= int(text[2:4]) <= 12 and 1 <= int(text[4:6]) <= 31 and int(text[6:8]) < 24:
        return "YYMMDDHH"
    return ""
