"""Scales and round tick marks for the charts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from autodim.report import svg


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] linearly onto [start, stop] of the picture; a degenerate range maps to the middle."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        if self.high == self.low:
            return (self.start + self.stop) / 2
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten apart) inside [low, high], about `wanted` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / max(wanted, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def padded(values: list[float], part: float = 0.06, least: float = 1e-4) -> tuple[float, float]:
    """A range that holds the values with some air on both sides."""
    low, high = min(values), max(values)
    air = max((high - low) * part, least)
    return low - air, high + air


def tick_digits(values: list[float], least: int = 0) -> int:
    """Decimals that tell neighbouring ticks apart."""
    if len(values) < 2:
        return 3
    step = values[1] - values[0]
    return max(least, math.ceil(-math.log10(step) - 1e-9))


def bottom_axis(
    scale: Scale, y: float, top: float, label: Callable[[float], str], *, wanted: int = 5, grid: bool = False
) -> list[str]:
    """Tick marks and labels along y, with grid lines up to `top` on request."""
    parts = [svg.line(scale.start, y, scale.stop, y, "axis")]
    for value in ticks(scale.low, scale.high, wanted):
        x = scale(value)
        parts.append(svg.line(x, top if grid else y, x, y + 4, "grid" if grid else "axis"))
        parts.append(svg.text(x, y + 17, label(value), "tick", "middle"))
    return parts


def left_axis(scale: Scale, x: float, right: float, label: Callable[[float], str], wanted: int = 6) -> list[str]:
    """Labels left of x and grid lines to `right`."""
    parts = []
    for value in ticks(scale.low, scale.high, wanted):
        y = scale(value)
        parts += [svg.line(x, y, right, y, "grid"), svg.text(x - 7, y + 4, label(value), "tick", "end")]
    return parts
