"""Weightings that need the losses alone: what they share, and the three that learn nothing.

They weigh the losses, as their papers do, so a task's own parameters are weighted too. A loss of exactly 0 means that
the task is absent from the batch.

Letters: T tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from autodim.weighting.meter import Meter

if TYPE_CHECKING:
    from autodim.embedding.lookup import Lookup
    from autodim.training.step import Gradients


class LossWeighting:
    """Base of the weightings by losses; `weigh` is the method.

    Args:
        tasks: T names, for the gauges.

    Gauges: `weight/TASK`, and `loss/TASK`, the loss before any weight.

    Cost: a dozen operations on T numbers beside the plain sum; one backward pass.
    """

    def __init__(self, tasks: Sequence[str]):
        self.tasks = list(tasks)
        self.meter = Meter({"weight": [f"weight/{t}" for t in tasks], "loss": [f"loss/{t}" for t in tasks]})
        self.weights = torch.ones(len(self.tasks))

    def weigh(self, losses: Tensor) -> Tensor:
        """T weights for a step's losses (T, detached), and whatever is learned from them."""
        raise NotImplementedError

    def gradients(self, losses: Tensor, targets: Sequence[Tensor], lookup: Lookup, again: bool = False) -> Gradients:
        """See `autodim.training.step.Weighting`."""
        if not targets:
            return []
        if not again:
            self._measure(losses, targets)
        weighted = (losses * self.weights.to(losses)).sum()
        return list(torch.autograd.grad(weighted, list(targets), allow_unused=True))

    def _measure(self, losses: Tensor, targets: Sequence[Tensor]) -> None:
        values = losses.detach()
        self.weights = self.weigh(values)
        self._note(values)

    def _note(self, values: Tensor) -> None:
        self.meter.add("weight", self.weights)
        self.meter.add("loss", known_losses(values))

    def read(self) -> dict[str, float]:
        """The gauges; their means begin anew."""
        return self.meter.read()

    def state(self) -> dict[str, Tensor]:
        """What a restart needs, as tensors by name."""
        return {f"meter/{k}": v for k, v in self.meter.state().items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """The reverse of `state`."""
        self.meter.load_state(below(tensors, "meter/"))


class Uniform(LossWeighting):
    """The plain sum, and the reference of all others: to the bit what `autodim.training.step.Sum` gives."""

    def weigh(self, losses: Tensor) -> Tensor:
        return self.weights

    def gradients(self, losses: Tensor, targets: Sequence[Tensor], lookup: Lookup, again: bool = False) -> Gradients:
        """See `autodim.training.step.Weighting`."""
        if not again:
            self._measure(losses, targets)
        return list(torch.autograd.grad(losses.sum(), list(targets), allow_unused=True)) if targets else []


class Static(LossWeighting):
    """Fixed weights.

    Args:
        weights: T numbers >= 0.
    """

    def __init__(self, tasks: Sequence[str], weights: Sequence[float]):
        super().__init__(tasks)
        self.fixed = torch.tensor(list(weights), dtype=torch.float32)

    def weigh(self, losses: Tensor) -> Tensor:
        self.fixed = self.fixed.to(losses)
        return self.fixed


class Decayed(LossWeighting):
    """PLE's weights `w_k gamma_k^epoch` (Tang et al., RecSys 2020, equation 9).

    Args:
        weights: T starting weights w_k >= 0. rates: T numbers gamma_k > 0.
        steps_per_epoch: of the training.

    Differs from the paper: nothing; the epoch counts from 0, and its per-task sample spaces are the losses' matter.
    """

    def __init__(self, tasks: Sequence[str], weights: Sequence[float], rates: Sequence[float], steps_per_epoch: int):
        super().__init__(tasks)
        self.start, self.rates, self.steps_per_epoch = list(weights), list(rates), steps_per_epoch
        self.steps = 0
        self.now = torch.zeros(0)

    def weigh(self, losses: Tensor) -> Tensor:
        if self.steps % self.steps_per_epoch == 0 or not len(self.now):
            epoch = self.steps // self.steps_per_epoch
            self.now = decayed_weights(self.start, self.rates, epoch).to(losses)
        self.steps += 1
        return self.now

    def state(self) -> dict[str, Tensor]:
        return {**super().state(), "steps": torch.tensor(self.steps)}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        super().load_state(tensors)
        self.steps = int(tensors["steps"])
        self.now = torch.zeros(0)


def decayed_weights(weights: Sequence[float], rates: Sequence[float], epoch: int) -> Tensor:
    """`w_k gamma_k^epoch`, T float64; epoch from 0."""
    return torch.tensor([w * g**epoch for w, g in zip(weights, rates, strict=True)], dtype=torch.float64)


def known_losses(losses: Tensor) -> Tensor:
    """The losses, NaN for a task that is absent."""
    return torch.where(losses == 0, torch.nan, losses)


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
