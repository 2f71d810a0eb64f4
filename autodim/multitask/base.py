"""What the architectures with features and towers have in common."""

from __future__ import annotations

from torch import Tensor, nn

from autodim.embedding.vectors import SlotVectors
from autodim.models.base import Gate, Model
from autodim.multitask.front import Front
from autodim.multitask.towers import Towers


class Sharing(Model):
    """A model that makes T features of the shared input and gives each to its task's tower.

    Attributes:
        front: what is read.
        towers: from features to logits.
    """

    front: Front
    towers: Towers

    def route(self, slots: SlotVectors, numeric: Tensor) -> tuple[list[Tensor], list[Gate]]:
        """T features B x H, and the gates that mixed them."""
        raise NotImplementedError

    def forward(self, slots: SlotVectors, linear: Tensor | None, numeric: Tensor) -> Tensor:
        return self.towers(self.route(slots, numeric)[0])

    def gates(self, slots: SlotVectors, numeric: Tensor) -> list[Gate]:
        return self.route(slots, numeric)[1]

    def own_parameters(self) -> list[list[nn.Parameter]]:
        return [list(tower.parameters()) for tower in self.towers]

    def start(self, logits: Tensor) -> None:
        """Let a fresh model begin at T given logits (those of the labels' rates), as far as its last biases can.

        Differs from the papers, which name no initial values: biases elsewhere start at 0.
        """
        self.towers.start(logits)

    def head(self) -> list[nn.Parameter]:
        return self.towers.head()
