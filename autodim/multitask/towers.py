"""Towers: each task's own layers, from features to its logit.

Letters: B examples, H numbers of features, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from autodim.embedding.vectors import SlotVectors
from autodim.models.mlp import Dense, last_layer, tail
from autodim.multitask.front import Front


class Towers(nn.ModuleList):
    """T small networks, one a task.

    Args:
        tasks: T. inputs: H.
        hidden: widths of the hidden layers; empty: one linear layer.
        dropout: after each hidden layer, [0, 1).

    A loop over tasks and not one batched product: so the gradient of one task's loss costs one tower.
    """

    def __init__(self, tasks: int, inputs: int, hidden: Sequence[int], dropout: float = 0.0):
        widths = (*hidden, 1)
        super().__init__(
            nn.Sequential(Dense(inputs, widths[0]), *tail(widths, dropout, batch_norm=False)) for _ in range(tasks)
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """T features B x H -> logits B x T."""
        return torch.cat([tower(x) for tower, x in zip(self, features, strict=True)], dim=1)

    def start(self, logits: Tensor) -> None:
        """Let fresh towers begin at T given logits, by their last biases.

        A small tower whose features are never negative dies where it has to climb down from 0 to a rare label's rate:
        that gradient has one sign for all examples and shuts one hidden unit after the other.
        """
        with torch.no_grad():
            for tower, logit in zip(self, logits, strict=True):
                last_layer(tower)[-1].fill_(float(logit))  # type: ignore[arg-type]

    def head(self) -> list[nn.Parameter]:
        """Parameters of each tower's last layer."""
        return [p for tower in self for p in last_layer(tower)]  # type: ignore[arg-type]


class Networks(nn.Module):
    """T dense networks on the shared input, one a task; their first layers are one product.

    Args:
        front: what they read.
        tasks: T.
        hidden: widths of the hidden layers; empty: one linear layer.
        dropout: after each hidden layer, [0, 1).
    """

    def __init__(self, front: Front, tasks: int, hidden: Sequence[int], dropout: float = 0.0):
        super().__init__()
        self.front = front
        self.first = nn.ModuleList(front.layer((*hidden, 1)[0]) for _ in range(tasks))
        self.rest = nn.ModuleList(tail((*hidden, 1), dropout, batch_norm=False) for _ in range(tasks))

    def forward(self, slots: SlotVectors, numeric: Tensor) -> Tensor:
        """B x T."""
        products = self.front(list(self.first), slots, numeric)
        return torch.cat([rest(x) for rest, x in zip(self.rest, products, strict=True)], dim=1)

    def of(self, task: int) -> list[nn.Parameter]:
        """A task's parameters."""
        return [*self.first[task].parameters(), *self.rest[task].parameters()]

    def last_of(self, task: int) -> list[nn.Parameter]:
        """Parameters of a task's last layer."""
        return last_layer(self.rest[task]) or list(self.first[task].parameters())  # type: ignore[arg-type]
