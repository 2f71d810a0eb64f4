"""Uncertainty weighting (Kendall et al., CVPR 2018, arXiv 1705.07115): the more a task's noise, the less its weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from autodim.weighting.adam import SmallAdam
from autodim.weighting.scalar import LossWeighting, below


def uncertainty_weights(s: Tensor, regression: Tensor) -> Tensor:
    """`e^-s` for classification, `e^-s / 2` for regression.

    Args:
        s: T, `ln sigma^2`. regression: T bool.
    """
    return torch.exp(-s) * torch.where(regression, 0.5, 1.0).to(s)


def uncertainty_total(losses: Tensor, s: Tensor, regression: Tensor) -> Tensor:
    """The objective, sum of `e^-s L + s / 2` or `e^-s L / 2 + s / 2` (equations 5 and 10); it may be negative."""
    return (uncertainty_weights(s, regression) * losses + s / 2).sum()


class Uncertainty(LossWeighting):
    """Uncertainty weighting.

    Args:
        lr: of s, by Adam without weight decay, > 0.
        regression: T, which losses are squared errors; default none.
        cap: the largest weight is at most this many times the smallest; None: no bound (a loss of .005 beside one of
            .3 ends with 60 times the weight).

    s starts at 0. An absent task's s stays.

    Differs from the paper: s has an optimizer of its own, apart from the network's; gradients of s in closed form. The
    `s / 2` is kept in what s learns from and in no loss that is reported.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        lr: float = 1e-3,
        regression: Sequence[bool] | None = None,
        cap: float | None = None,
    ):
        super().__init__(tasks)
        self.adam = SmallAdam(torch.zeros(len(tasks)), lr)
        self.regression = torch.tensor(list(regression or [False] * len(tasks)))
        self.cap = cap

    def weigh(self, losses: Tensor) -> Tensor:
        if self.adam.value.device != losses.device:
            state = {k: v.to(losses) for k, v in self.adam.state().items()}
            self.adam = SmallAdam(torch.zeros_like(losses), self.adam.lr)
            self.adam.load_state(state)
            self.regression = self.regression.to(losses.device)
        weights = uncertainty_weights(self.adam.value, self.regression)
        # d/ds of `w(s) L + s / 2`, as w' = -w
        self.adam.step(0.5 - weights * losses, known=losses != 0)
        return weights if self.cap is None else torch.minimum(weights, self.cap * weights.min())

    def state(self) -> dict[str, Tensor]:
        return {**super().state(), **{f"adam/{k}": v for k, v in self.adam.state().items()}}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        super().load_state(tensors)
        self.adam.load_state(below(tensors, "adam/"))
