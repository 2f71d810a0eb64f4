"""The knee of a curve of quality over budgets. Torch-free.

Kneedle (Satopaa et al. 2011, "Finding a kneedle in a haystack"): both axes are scaled to 0..1, and the knee is where
the curve stands highest above the straight line between its ends. The budget's axis is its logarithm, since halving is
the step that people think in.

Differs from the paper: no smoothing and no sensitivity, the points are few and measured; and a knee that stands above
the line by less than the noise of its own point is not called one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def knee(budgets: Sequence[float], quality: Sequence[float], noise: Sequence[float] | None = None) -> int | None:
    """Index of the knee; None where there is none.

    Args:
        budgets: N different budgets above 0, in any order.
        quality: N, higher is better.
        noise: N, half widths of the qualities' intervals; default 0.

    Returns:
        None with fewer than three points, on a flat or falling curve, or where no point stands above the line between
        the ends by more than its noise. Ties go to the smaller budget.
    """
    order = sorted(range(len(budgets)), key=lambda i: budgets[i])
    if len(order) < 3:
        return None
    first, last = order[0], order[-1]
    low, high = math.log(budgets[first]), math.log(budgets[last])
    rise = quality[last] - quality[first]
    if rise <= 0 or high == low:
        return None
    best, height = None, 0.0
    for i in order[1:-1]:
        above = quality[i] - quality[first] - rise * (math.log(budgets[i]) - low) / (high - low)
        if above > max(height, noise[i] if noise else 0.0):
            best, height = i, above
    return best
