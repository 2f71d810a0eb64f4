"""Lazy Adam: Adam (Kingma & Ba, ICLR 2015) on the batch's rows only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from autodim.optim.rows import RowOptimizer, gather, scatter


class LazyAdam(RowOptimizer):
    """Adam whose moments move only when their row is in the batch.

    `m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; w -= lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)` on the
    batch's rows, t the number of steps of the table (Kingma & Ba 2015, algorithm 1).

    Args:
        params: tables n x w, or groups of them.
        lr: learning rate.
        l2: lazy L2 penalty.
        l2_scale: n factors for it, or None.
        betas: b1 and b2, in [0, 1).
        eps: keeps the division finite.

    State: `exp_avg` and `exp_avg_sq`, n x w each, and `step`, a Python int.

    Differs from the paper: a row outside the batch keeps its moments and its weights, where Adam would decay the
    former and move the latter; t counts all steps, not the row's own, so a row first met late takes a first step of
    up to (1 - b1) / sqrt(1 - b2) = 3.2 lr instead of lr. Where every row is in every batch it is Adam. Differs from
    torch.optim.SparseAdam: eps is added after the bias correction, as in the paper, so that it does not swallow the
    small first gradients of rare rows.

    Cost: U w numbers read and written three times.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-3,
        l2: float = 0.0,
        l2_scale: Tensor | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ):
        if not all(0 <= b < 1 for b in betas) or eps < 0:
            raise ValueError(f"betas must be in [0, 1) and eps must not be negative; found betas={betas}, eps={eps}")
        super().__init__(params, lr, l2, l2_scale, {"betas": betas, "eps": eps})

    def fresh(self, table: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        return {"step": 0, "exp_avg": torch.zeros_like(table), "exp_avg_sq": torch.zeros_like(table)}

    def update(
        self,
        weights: Tensor,
        gradient: Tensor,
        rows: Tensor | None,
        state: dict[str, Any],
        group: dict[str, Any],
    ) -> None:
        state["step"] += 1
        beta1, beta2 = group["betas"]
        mean = gather(state["exp_avg"], rows).lerp_(gradient, 1 - beta1)
        scatter(state["exp_avg"], rows, mean)
        square = gather(state["exp_avg_sq"], rows).mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        scatter(state["exp_avg_sq"], rows, square)
        root = square.sqrt() if rows is None else square.sqrt_()  # without rows, `square` is the state itself
        root.div_((1 - beta2 ** state["step"]) ** 0.5).add_(group["eps"])
        weights.addcdiv_(mean, root, value=-group["lr"] / (1 - beta1 ** state["step"]))
