"""Adam for a handful of numbers: the few parameters that a weighting learns beside the network."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPS = 1e-8


class SmallAdam:
    """Adam (Kingma & Ba 2015) on one tensor, its state as plain tensors.

    Args:
        value: what is learned; changed in place.
        lr: > 0.
    """

    def __init__(self, value: Tensor, lr: float):
        self.value, self.lr = value, lr
        self.first, self.second = torch.zeros_like(value), torch.zeros_like(value)
        self.steps = torch.zeros_like(value)  # per number: a task that is absent stays as it is

    def step(self, gradient: Tensor, known: Tensor | None = None) -> None:
        """One update; numbers that are not known (bool, like the value) stay untouched with their moments."""
        one, two = BETAS
        first = one * self.first + (1 - one) * gradient
        second = two * self.second + (1 - two) * gradient.square()
        steps = self.steps + 1
        move = self.lr * (first / (1 - one**steps)) / ((second / (1 - two**steps)).sqrt() + EPS)
        if known is None:
            self.first, self.second, self.steps = first, second, steps
            self.value.sub_(move)
            return
        self.first = torch.where(known, first, self.first)
        self.second = torch.where(known, second, self.second)
        self.steps = torch.where(known, steps, self.steps)
        self.value.sub_(torch.where(known, move, 0.0))

    def state(self) -> dict[str, Tensor]:
        """What a restart needs, the value itself included."""
        return {"value": self.value, "first": self.first, "second": self.second, "steps": self.steps}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """The reverse of `state`; the value is filled in place."""
        self.value.copy_(tensors["value"])
        for name in ("first", "second", "steps"):
            setattr(self, name, tensors[name].to(self.value.device))
