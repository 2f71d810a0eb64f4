"""One network a task: the reference that sharing is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from autodim.embedding.vectors import SlotVectors
from autodim.models.base import Model
from autodim.models.mlp import SlotLinear
from autodim.multitask.front import Front
from autodim.multitask.towers import Networks

if TYPE_CHECKING:
    from autodim.config.schema import ModelConfig


class Single(Model):
    """A dense network per task; nothing is shared but the embedding tables.

    `logit_t = MLP_t([v_1 .. v_S, numeric])`. With one label it is a single-task model, tables included: the reference
    of a comparison is a run per label (`data.labels` with one entry). With several labels the tables still serve all
    tasks, which is the cheapest sharing there is (Shared-Bottom without a bottom).

    Args:
        front: what the networks read.
        tasks: T.
        hidden: widths of each network's hidden layers.
        dropout: after each hidden layer, [0, 1).

    Differs from the paper: there is none; this is `dnn` once a task.

    Cost: T times `dnn`'s matrices; the slot vectors are read once.
    """

    def __init__(self, front: Front, tasks: int, hidden: Sequence[int], dropout: float = 0.0):
        super().__init__()
        self.networks = Networks(front, tasks, hidden, dropout)
        self.tasks = tasks

    @classmethod
    def from_config(cls, config: ModelConfig, slots: int, numeric: int, tasks: int) -> Single:
        return cls(Front.from_config(config, slots, numeric), tasks, config.hidden, config.dropout)

    def forward(self, slots: SlotVectors, linear: Tensor | None, numeric: Tensor) -> Tensor:
        return self.networks(slots, numeric)

    def first_layers(self) -> Sequence[SlotLinear]:
        return (*self.networks.front.first_layers(), *self.networks.first)

    def own_parameters(self) -> list[list[nn.Parameter]]:
        return [self.networks.of(t) for t in range(self.tasks)]

    def last_shared(self) -> list[nn.Parameter]:
        """None: no dense layer is shared, but for cross vectors where there are any."""
        return [p for layer in self.networks.front.first_layers() for p in layer.parameters() if p.numel()]

    def head(self) -> list[nn.Parameter]:
        return [p for t in range(self.tasks) for p in self.networks.last_of(t)]
