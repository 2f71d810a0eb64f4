"""Quantiles of Student's t. Torch-free; the standard library has the normal law only."""

from __future__ import annotations

import math
from statistics import NormalDist


def quantile(probability: float, freedom: float) -> float:
    """The t below which Student's law with `freedom` degrees of freedom has `probability` (0..1, not at the ends).

    Found by bisection on the incomplete beta function; `freedom` inf (or above a million) is the normal law.
    Accurate to about 1e-9 of its value.
    """
    if not 0 < probability < 1 or not freedom > 0:
        raise ValueError(f"expected a probability inside 0..1 and freedom above 0, found {probability} and {freedom}")
    if freedom > 1e6:
        return NormalDist().inv_cdf(probability)
    if probability < 0.5:
        return -quantile(1 - probability, freedom)
    low, high = 0.0, 1.0
    while _above(high, freedom) > 1 - probability:
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if _above(middle, freedom) > 1 - probability else (low, middle)
    return (low + high) / 2


def _above(t: float, freedom: float) -> float:
    """P(T > t) for t >= 0: half the regularised incomplete beta function at `f / (f + t^2)`, f the freedom."""
    x = freedom / (freedom + t * t)
    return 0.5 * _beta(x, freedom / 2, 0.5)


def _beta(x: float, a: float, b: float) -> float:
    if x <= 0 or x >= 1:
        return min(max(x, 0.0), 1.0)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x > (a + 1) / (a + b + 2):  # where the fraction converges fast
        return 1 - front * _fraction(1 - x, b, a) / b
    return front * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    """Continued fraction of the incomplete beta function, by Lentz's method (Press et al., Numerical Recipes, 6.4)."""
    tiny = 1e-300
    c, d = 1.0, 1.0 / ((1 - (a + b) * x / (a + 1)) or tiny)
    total = d
    for m in range(1, 10_000):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / ((1 + step * d) or tiny)
            c = (1 + step / c) or tiny
            total *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return total
