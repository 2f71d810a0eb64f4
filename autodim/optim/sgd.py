"""Stochastic gradient descent on rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from autodim.optim.rows import RowOptimizer


class SGD(RowOptimizer):
    """Plain gradient descent: no state at all.

    `w -= lr g` on the batch's rows (Robbins & Monro 1951).

    Args:
        params: tables n x w, or groups of them.
        lr: learning rate. Rare ids have rare gradients, so it must be far larger than a dense network's.
        l2: lazy L2 penalty.
        l2_scale: n factors for it, or None.

    Differs from the paper: the step size is whatever the loop sets, with no decay of its own; no momentum, which
    would move rows outside the batch.

    Cost: U w numbers read and written once.
    """

    def __init__(self, params: Iterable[Any], *, lr: float = 0.1, l2: float = 0.0, l2_scale: Tensor | None = None):
        super().__init__(params, lr, l2, l2_scale, {})

    def fresh(self, table: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        return {}

    def update(
        self,
        weights: Tensor,
        gradient: Tensor,
        rows: Tensor | None,
        state: dict[str, Any],
        group: dict[str, Any],
    ) -> None:
        weights.add_(gradient, alpha=-group["lr"])
