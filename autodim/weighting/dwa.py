"""Dynamic weight average (Liu et al., CVPR 2019, arXiv 1803.10704): more weight where the loss falls more slowly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from autodim.weighting.scalar import LossWeighting


def dwa_weights(last: Tensor, before: Tensor, temperature: float = 2.0) -> Tensor:
    """`T softmax(w / temperature)` of `w = last / before` (equation 7).

    Args:
        last, before: T, mean losses of the last window and of the one before.
    """
    return last.numel() * torch.softmax(last / before / temperature, dim=0)


class DWA(LossWeighting):
    """Dynamic weight average.

    Args:
        window: steps that a mean is taken over, >= 1; the paper's is one epoch.
        temperature: > 0; larger: more even.

    The weights are 1 in the first two windows. A task that a window never saw counts as neither falling nor rising.

    Differs from the paper: windows may be shorter than an epoch, because click models train for one to three.
    """

    def __init__(self, tasks: Sequence[str], window: int, temperature: float = 2.0):
        super().__init__(tasks)
        if window < 1 or temperature <= 0:
            raise ValueError(f"window must be at least 1 and temperature above 0; found {window}, {temperature}")
        self.window, self.temperature = window, temperature
        self.steps = 0
        count = len(tasks)
        self.total = torch.zeros(count, dtype=torch.float64)
        self.seen = torch.zeros(count, dtype=torch.float64)
        self.last = torch.zeros(count, dtype=torch.float64)
        self.now = torch.ones(count)

    def weigh(self, losses: Tensor) -> Tensor:
        if self.total.device != losses.device:
            self.load(self._values(), losses.device)
        if self.steps and self.steps % self.window == 0:
            mean = torch.where(self.seen > 0, self.total / self.seen.clamp(min=1), self.last)
            if self.steps >= 2 * self.window:
                flat = (mean == 0) | (self.last == 0)
                ones = torch.ones_like(mean)
                last, before = torch.where(flat, ones, mean), torch.where(flat, ones, self.last)
                self.now = dwa_weights(last, before, self.temperature).to(losses)
            self.last = mean
            self.total, self.seen = torch.zeros_like(self.total), torch.zeros_like(self.seen)
        self.total = self.total + losses
        self.seen = self.seen + (losses != 0)
        self.steps += 1
        return self.now.to(losses)

    def _values(self) -> dict[str, Tensor]:
        return {"total": self.total, "seen": self.seen, "last": self.last, "now": self.now}

    def load(self, values: Mapping[str, Tensor], device: torch.device) -> None:
        """Take sums and weights over, to a device."""
        self.total, self.seen, self.last, self.now = (values[k].to(device) for k in ("total", "seen", "last", "now"))

    def state(self) -> dict[str, Tensor]:
        return {**super().state(), **self._values(), "steps": torch.tensor(self.steps)}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        super().load_state(tensors)
        self.load(tensors, self.total.device)
        self.steps = int(tensors["steps"])
