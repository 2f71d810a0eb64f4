"""Experts: E small networks of one shape, computed as one; and the mixtures of what they say.

Letters: B examples, E experts, H width of an expert's layer, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autodim.models.mlp import SlotLinear, xavier_


class Parallel(nn.Module):
    """E dense layers of one shape side by side: rows e H .. (e + 1) H of the weight are layer e.

    Kept as one matrix, so that whatever works by units (rows), such as AGC, sees the units of a plain layer.

    Args:
        count: E. inputs: I. outputs: H.

    Attributes:
        weight: (E H) x I. bias: E H.
    """

    def __init__(self, count: int, inputs: int, outputs: int):
        super().__init__()
        self.count, self.inputs, self.outputs = count, inputs, outputs
        self.weight = nn.Parameter(torch.empty(count * outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(count * outputs))
        xavier_(self.weight, inputs, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """B x E x I, each layer its own input, -> B x E x H."""
        weight = self.weight.view(self.count, self.outputs, self.inputs).transpose(1, 2)
        return torch.baddbmm(self.bias.view(self.count, 1, -1), inputs.transpose(0, 1), weight).transpose(0, 1)

    def same(self, inputs: Tensor) -> Tensor:
        """B x I, one input for all layers, -> B x (E H)."""
        return F.linear(inputs, self.weight, self.bias)


class Experts(nn.Module):
    """E networks of dense layers with ReLU after each, from the product with their first layer on.

    Args:
        first: the layer that makes the first E H_1 numbers; its owner computes that product (with those of others).
        count: E, at least 1.
        hidden: widths H_1, H_2, .. of every expert; at least one.
        dropout: after each layer, [0, 1).
    """

    def __init__(self, first: SlotLinear | Parallel, count: int, hidden: Sequence[int], dropout: float = 0.0):
        super().__init__()
        self.first = first
        self.count = count
        self.rest = nn.ModuleList(Parallel(count, a, b) for a, b in pairwise(hidden))
        self.dropout = nn.Dropout(dropout)

    def forward(self, product: Tensor) -> Tensor:
        """B x (E H_1) or B x E x H_1, before the activation, -> B x E x H."""
        values = self.dropout(F.relu(product.reshape(len(product), self.count, -1)))
        for layer in self.rest:
            values = self.dropout(F.relu(layer(values)))
        return values

    def last_weights(self) -> list[nn.Parameter]:
        """Weights of the last dense layer."""
        layer = self.rest[-1] if len(self.rest) else self.first
        return [p for p in layer.parameters() if p.ndim > 1 and p.numel()]


def mix(gates: Tensor, experts: Tensor) -> Tensor:
    """`sum_e gates_te experts_e`: gates B x T x E, experts B x E x H -> B x T x H."""
    if gates.device.type == "cpu":  # B tiny products; measured 2 to 6 times slower than their B x T x E x H terms
        return (gates[..., None] * experts[:, None]).sum(2)
    return torch.bmm(gates, experts)


def names(count: int, of: str = "expert") -> tuple[str, ...]:
    """`expert 1`, `expert 2`, .."""
    return tuple(f"{of} {k + 1}" for k in range(count))
