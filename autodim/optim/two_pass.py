"""A perturbation as a plain torch optimizer: for models and loops outside autodim."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from autodim.optim.batch_norm import batch_norms, statistics_kept
from autodim.optim.rows import gather, rows_and_values, scatter

Perturb = Callable[[Sequence[Tensor], Sequence[Tensor]], Sequence[Tensor | None]]


class TwoPass(torch.optim.Optimizer):
    """Any optimizer, fed with the gradient at perturbed weights.

    Args:
        base: what updates the weights; schedules, options and state are its own.
        perturb: `(weights, gradients) -> what to add`, for example `SAM()` or `ASAM()`. A sparse gradient is given as
            its unique rows and the weights of these, so a table costs the batch.
        module: whose batch norm layers must move their statistics in the first pass only; None: no such layers.

    `step(closure)` calls the closure twice; it must clear the gradients, compute the loss and call backward. Dropout
    is replayed only if the closure seeds it.

    Cost: two passes, and a copy of the dense parameters and of the rows that have a gradient.
    """

    def __init__(self, base: torch.optim.Optimizer, perturb: Perturb, module: nn.Module | None = None):
        super().__init__(base.param_groups, base.defaults)
        self.base, self.perturb = base, perturb
        self.batch_norms = [] if module is None else batch_norms(module)
        self._share()

    def _share(self) -> None:
        self.param_groups, self.state = self.base.param_groups, self.base.state

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update; returns the first pass's loss.

        Raises:
            ValueError: no closure.
        """
        if closure is None:
            raise ValueError(
                "a two-pass step needs a closure that clears the gradients, computes the loss and its gradients"
            )
        with torch.enable_grad():
            loss = closure()
        moved = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        rows, gradients = zip(*(rows_and_values(p.grad) for p in moved), strict=True) if moved else ((), ())
        weights = [gather(p, r) for p, r in zip(moved, rows, strict=True)]
        offsets = self.perturb(weights, gradients)
        kept = [w.clone() if r is None else w for w, r in zip(weights, rows, strict=True)]
        for parameter, row, weight, offset in zip(moved, rows, weights, offsets, strict=True):
            if offset is None:
                continue
            if row is None:
                parameter.add_(offset)
            else:
                scatter(parameter, row, weight + offset)
        with torch.enable_grad(), statistics_kept(self.batch_norms):
            closure()
        for parameter, row, original in zip(moved, rows, kept, strict=True):
            if row is None:
                parameter.copy_(original)
            else:
                scatter(parameter, row, original)
        self.base.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.base.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return self.base.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.base.load_state_dict(state_dict)
        self._share()
