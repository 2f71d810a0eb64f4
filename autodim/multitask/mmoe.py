"""Mixtures of experts with one gate (OMoE) and with one gate a task (MMoE) (Ma et al., KDD 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from autodim.embedding.vectors import SlotVectors
from autodim.models.base import Gate
from autodim.models.mlp import SlotLinear
from autodim.multitask.base import Sharing
from autodim.multitask.experts import Experts, mix, names
from autodim.multitask.front import Front
from autodim.multitask.towers import Towers

if TYPE_CHECKING:
    from autodim.config.schema import ModelConfig


class MMoE(Sharing):
    """Experts that all tasks share, mixed for each task by a gate of its own.

    `f_t(x) = sum_e g_t(x)_e f_e(x)`, `g_t(x) = softmax(W_t x)`, `logit_t = h_t(f_t(x))` (Ma 2018, section 4.2).
    A gate is one linear layer of the input, without a bias, as printed.

    Args:
        front: what experts and gates read.
        tasks: T.
        experts: E.
        expert_hidden: widths of every expert's layers (the paper: one of 16).
        towers: widths of each tower's hidden layers (the paper: one of 8).
        dropout: after each hidden layer of experts and towers, [0, 1).

    Differs from the paper: experts and gates read the slots' embeddings; the paper has a dense input.

    Cost: E H_1 + T E rows of one product with the slot vectors; deeper layers of the experts are batched.
    """

    per_task = True

    def __init__(
        self,
        front: Front,
        tasks: int,
        experts: int,
        expert_hidden: Sequence[int],
        towers: Sequence[int],
        dropout: float = 0.0,
    ):
        super().__init__()
        self.front = front
        first = front.layer(experts * expert_hidden[0], parts=experts)
        self.experts = Experts(first, experts, expert_hidden, dropout)
        self.gate = nn.ModuleList(front.layer(experts, bias=False) for _ in range(tasks if self.per_task else 1))
        self.mixed = nn.Identity()  # a module, so that what it passes on can be watched
        self.towers = Towers(tasks, expert_hidden[-1], towers, dropout)

    @classmethod
    def from_config(cls, config: ModelConfig, slots: int, numeric: int, tasks: int) -> MMoE:
        front, sharing = Front.from_config(config, slots, numeric), config.sharing
        return cls(front, tasks, sharing.experts, sharing.expert_hidden, sharing.towers, config.dropout)

    def route(self, slots: SlotVectors, numeric: Tensor) -> tuple[list[Tensor], list[Gate]]:
        product, *scores = self.front([self.experts.first, *self.gate], slots, numeric)
        gates = torch.stack(scores, dim=1).softmax(-1)  # B x T x E
        mixed = self.mixed(mix(gates, self.experts(product))).unbind(1)  # T of B x H
        labels = names(self.experts.count)
        told = [Gate(t if self.per_task else None, 1, labels, g) for t, g in enumerate(gates.unbind(1))]
        return list(mixed if self.per_task else mixed * len(self.towers)), told

    def first_layers(self) -> Sequence[SlotLinear]:
        return (*self.front.first_layers(), self.experts.first, *self.gate)

    def own_parameters(self) -> list[list[nn.Parameter]]:
        own = super().own_parameters()
        if not self.per_task:
            return own
        return [[*gate.parameters(), *tower] for gate, tower in zip(self.gate, own, strict=True)]

    def representation(self) -> list[nn.Module]:
        """What the experts say, B x E x H; with one gate its mixture of them, B x 1 x H, as that gate is shared too."""
        return [self.experts if self.per_task else self.mixed]

    def last_shared(self) -> list[nn.Parameter]:
        return self.experts.last_weights()


class OMoE(MMoE):
    """Experts mixed by one gate for all tasks.

    `f(x) = sum_e g(x)_e f_e(x)`, `logit_t = h_t(f(x))` (Ma 2018): MMoE whose gate is shared.
    Arguments, cost and differences as there.
    """

    per_task = False
