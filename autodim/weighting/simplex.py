"""Two exact solutions on the simplex, for a handful of tasks: the point of least norm, and the nearest point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def least_norm(gramian: Array) -> Array:
    """Weights `w >= 0`, `sum w = 1` with the smallest `w K w`.

    Args:
        gramian: T x T, positive semidefinite, T >= 1.

    Two tasks by the closed form; more by Wolfe's active set (Finding the nearest point in a polytope, 1976), which ends
    at the exact solution after finitely many small systems.

    Cost: microseconds for T = 2, tens of microseconds a task above.
    """
    count = len(gramian)
    if count == 1:
        return np.ones(1)
    if count == 2:
        return _two(gramian)
    diagonal = gramian.diagonal()
    scale = float(diagonal.max())
    weights = np.zeros(count)
    chosen = [int(diagonal.argmin())]
    weights[chosen[0]] = 1.0
    for _ in range(8 * count * count):  # far above what is ever needed; rounding must not loop for ever
        products = gramian @ weights
        value = float(weights @ products)
        best = int(products.argmin())
        if best in chosen or products[best] >= value - 1e-13 * value - 1e-16 * scale:
            break
        chosen.append(best)
        while True:
            target = _affine(gramian[np.ix_(chosen, chosen)])
            if (target > 0).all():
                weights[chosen] = target
                break
            # as far towards the affine solution as the simplex reaches; who hits zero leaves
            now = weights[chosen]
            falling = target <= 0
            steps = now[falling] / (now[falling] - target[falling])
            moved = now + min(1.0, float(steps.min())) * (target - now)
            out = np.flatnonzero(falling)[steps.argmin()]
            moved[out] = 0.0
            weights[:] = 0.0
            weights[chosen] = moved.clip(min=0.0)
            del chosen[out]
    return weights / weights.sum()


def _two(gramian: Array) -> Array:
    first, cross, second = gramian[0, 0], gramian[0, 1], gramian[1, 1]
    gap = first + second - 2 * cross
    if gap <= 0:  # equal gradients: every point is the same
        return np.full(2, 0.5)
    share = min(max((second - cross) / gap, 0.0), 1.0)
    return np.array([share, 1.0 - share])


def _affine(gramian: Array) -> Array:
    """The least `w K w` with `sum w = 1` alone."""
    scale = float(np.trace(gramian)) / len(gramian) or 1.0
    return bordered(gramian / scale, np.zeros(len(gramian)), 1.0)


def bordered(gramian: Array, linear: Array, total: float) -> Array:
    """`w` of `[K 1; 1' 0] [w; lambda] = [-linear; total]`, by least squares where K is singular."""
    count = len(gramian)
    system = np.ones((count + 1, count + 1))
    system[:count, :count] = gramian
    system[count, count] = 0.0
    return np.linalg.lstsq(system, np.append(-linear, total), rcond=None)[0][:count]


def nearest(point: Array, total: float) -> Array:
    """The nearest `w >= 0` with `sum w = total`, by sorting (Duchi et al., ICML 2008).

    Args:
        point: T numbers. total: > 0.
    """
    ordered = np.sort(point)[::-1]
    over = (ordered.cumsum() - total) / np.arange(1, len(point) + 1)
    last = int(np.flatnonzero(ordered > over)[-1])
    return (point - over[last]).clip(min=0.0)
