"""Shared-Bottom (Caruana 1997)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from autodim.embedding.vectors import SlotVectors
from autodim.models.base import Gate
from autodim.models.mlp import SlotLinear, last_layer, tail
from autodim.multitask.base import Sharing
from autodim.multitask.front import Front
from autodim.multitask.towers import Towers

if TYPE_CHECKING:
    from autodim.config.schema import ModelConfig


class SharedBottom(Sharing):
    """One dense network for all tasks, and a tower per task on top of it.

    `logit_t = h_t(f(x))` (Caruana 1997; Ma et al., KDD 2018, equation 1).

    Args:
        front: what the bottom reads.
        tasks: T.
        hidden: widths of the bottom's layers; at least one.
        towers: widths of each tower's hidden layers; empty: one linear layer.
        dropout: after each hidden layer, [0, 1).

    Differs from the paper: ReLU throughout.

    Cost: `dnn`'s matrices, and T towers.
    """

    def __init__(self, front: Front, tasks: int, hidden: Sequence[int], towers: Sequence[int], dropout: float = 0.0):
        super().__init__()
        self.front = front
        self.first = front.layer(hidden[0])
        self.rest = tail(hidden, dropout, batch_norm=False, activate_last=True)
        self.towers = Towers(tasks, hidden[-1], towers, dropout)

    @classmethod
    def from_config(cls, config: ModelConfig, slots: int, numeric: int, tasks: int) -> SharedBottom:
        front = Front.from_config(config, slots, numeric)
        return cls(front, tasks, config.hidden, config.sharing.towers, config.dropout)

    def route(self, slots: SlotVectors, numeric: Tensor) -> tuple[list[Tensor], list[Gate]]:
        features = self.rest(self.front([self.first], slots, numeric)[0])
        return [features] * len(self.towers), []

    def first_layers(self) -> Sequence[SlotLinear]:
        return (*self.front.first_layers(), self.first)

    def representation(self) -> list[nn.Module]:
        """The bottom, whose end is activated also where it has one layer."""
        return [self.rest]

    def last_shared(self) -> list[nn.Parameter]:
        layer = last_layer(self.rest) or list(self.first.parameters())
        return [p for p in layer if p.ndim > 1 and p.numel()]
