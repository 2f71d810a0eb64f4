"""Adagrad on rows (Duchi et al., JMLR 2011)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from autodim.optim.rows import RowOptimizer, gather, scatter


class Adagrad(RowOptimizer):
    """Adagrad: each number's step shrinks with the sum of its own squared gradients.

    `G += g^2; w -= lr g / (sqrt(G) + eps)` on the batch's rows, as torch.optim.Adagrad does.

    Args:
        params: tables n x w, or groups of them.
        lr: learning rate.
        l2: lazy L2 penalty.
        l2_scale: n factors for it, or None.
        initial: where G starts, >= 0 (torch 0, TensorFlow 0.1; the larger one damps the first steps of rare rows).
        eps: keeps the division finite.

    State: `sum`, n x w.

    Differs from the paper: diagonal form without projection onto a feasible set, as everywhere in practice.

    Cost: U w numbers read and written twice (weights and G).
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-2,
        l2: float = 0.0,
        l2_scale: Tensor | None = None,
        initial: float = 0.0,
        eps: float = 1e-10,
    ):
        if initial < 0 or eps < 0:
            raise ValueError(f"initial and eps must not be negative; found initial={initial}, eps={eps}")
        super().__init__(params, lr, l2, l2_scale, {"initial": initial, "eps": eps})

    def fresh(self, table: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        return {"sum": torch.full_like(table, group["initial"])}

    def update(
        self,
        weights: Tensor,
        gradient: Tensor,
        rows: Tensor | None,
        state: dict[str, Any],
        group: dict[str, Any],
    ) -> None:
        total = gather(state["sum"], rows).addcmul_(gradient, gradient)
        scatter(state["sum"], rows, total)
        # with rows, `total` is a copy that may be used up; without, it is the state itself
        root = total.sqrt() if rows is None else total.sqrt_()
        weights.addcdiv_(gradient, root.add_(group["eps"]), value=-group["lr"])
