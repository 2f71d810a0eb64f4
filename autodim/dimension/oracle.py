"""Brute-force scores, to judge the one-shot ones. Torch-free."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def mask_exact(
    loss: Callable[[NDArray[np.float64]], float], slots: int, common: int, *, epsilon: float = 1.0
) -> NDArray[np.float64]:
    """What each dimension is worth: `L(V*1) - L(V*(1 - epsilon at (i, j)))`, SSEDS (arXiv 2204.03281), equation 4.

    Divided by `epsilon` it tends to the one-shot g of `saliency` as epsilon goes to 0; at 1 the dimension is gone.

    Args:
        loss: of a mask (slots x common) that multiplies the slot vectors.
        slots: S.
        common: D.
        epsilon: how much of a dimension is taken away, above 0 and at most 1.

    Returns:
        S x D; negative where the dimension helps.

    Cost: S*D + 1 evaluations.

    Differs from the paper: nothing; the paper masks whole dimensions, epsilon 1.
    """
    full = np.ones((slots, common))
    base = loss(full)
    change = np.empty_like(full)
    for cell in np.ndindex(slots, common):
        mask = full.copy()
        mask[cell] -= epsilon
        change[cell] = base - loss(mask)
    return change
