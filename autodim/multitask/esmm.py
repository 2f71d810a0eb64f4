"""Entire-space multi-task model (Ma et al., SIGIR 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autodim.embedding.vectors import SlotVectors
from autodim.models.base import Model
from autodim.models.mlp import SlotLinear
from autodim.multitask.front import Front
from autodim.multitask.towers import Networks

if TYPE_CHECKING:
    from autodim.config.schema import ModelConfig


def product_logit(first: Tensor, second: Tensor) -> Tensor:
    """The logit of `sigmoid(first) sigmoid(second)`, without forming a probability.

    `ln pq = ln p + ln q`, and `1 - pq = (1 - p) + p (1 - q)`, both by log-sigmoids: exact in both tails.
    """
    log_p = F.logsigmoid(first)
    return log_p + F.logsigmoid(second) - torch.logaddexp(F.logsigmoid(-first), log_p + F.logsigmoid(-second))


class ESMM(Model):
    """Click and conversion on all rows: the conversion's rate given a click is learnt through its product with pCTR.

    Two dense networks on shared tables; `pCTCVR = pCTR pCVR` (Ma 2018, equation 1), and the losses are those of the
    click and of click-and-conversion, both over all rows (equation 3), so pCVR meets no selection of samples. The
    model's logits are those of pCTR and of pCTCVR; pCVR is their ratio.

    Args:
        front: what the networks read.
        hidden: widths of each network's hidden layers.
        dropout: after each hidden layer, [0, 1).

    Differs from the paper: the product is taken in logits, so that it stays exact near 0 and 1.

    Cost: twice `dnn`'s matrices; the slot vectors are read once.
    """

    def __init__(self, front: Front, hidden: Sequence[int], dropout: float = 0.0):
        super().__init__()
        self.networks = Networks(front, 2, hidden, dropout)

    @classmethod
    def from_config(cls, config: ModelConfig, slots: int, numeric: int, tasks: int) -> ESMM:
        if tasks != 2:
            raise ValueError(f"ESMM has two tasks, click and conversion; found {tasks}")
        return cls(Front.from_config(config, slots, numeric), config.hidden, config.dropout)

    def forward(self, slots: SlotVectors, linear: Tensor | None, numeric: Tensor) -> Tensor:
        logits = self.networks(slots, numeric)
        click, conversion = logits.to(torch.promote_types(logits.dtype, torch.float32)).unbind(1)  # not in bfloat16
        return torch.stack([click, product_logit(click, conversion)], dim=1)

    def first_layers(self) -> Sequence[SlotLinear]:
        return (*self.networks.front.first_layers(), *self.networks.first)

    def own_parameters(self) -> list[list[nn.Parameter]]:
        """The conversion's network; the click's is reached by both losses."""
        return [[], self.networks.of(1)]

    def representation(self) -> list[nn.Module]:
        """The click's logit, B x 1: the last of what both losses reach."""
        return [self.networks.rest[0]]

    def last_shared(self) -> list[nn.Parameter]:
        """The last layer of the click's network."""
        return [p for p in self.networks.last_of(0) if p.ndim > 1 and p.numel()]

    def head(self) -> list[nn.Parameter]:
        return [p for t in range(2) for p in self.networks.last_of(t)]
