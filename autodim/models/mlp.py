"""The deep part: dense layers over slot vectors and numeric columns.

The first layer asks the slot vectors for a linear map instead of asking for the vectors themselves, so that tables of
mixed widths fold their projections into it and a cut model reads sum(d_i) numbers per example instead of S D.

Letters: B examples, S slots, D common width, n numeric columns, H width of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autodim.embedding.vectors import SlotVectors


def xavier_(parameter: Tensor, fan_in: int, fan_out: int, generator: torch.Generator | None = None) -> None:
    """Fill in place with U(-a, a), a = sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, equation 16).

    Drawn where the generator lives (default: the CPU) and copied, so a seed means the same weights on every device.
    """
    bound = (6.0 / max(fan_in + fan_out, 1)) ** 0.5
    device = "cpu" if generator is None else generator.device
    draw = torch.rand(parameter.shape, generator=generator, device=device)
    with torch.no_grad():
        parameter.copy_(draw.mul_(2 * bound).sub_(bound))


class Dense(nn.Linear):
    """A dense layer with Xavier weights and zero bias, drawn from a given generator."""

    def reset_parameters(self) -> None:
        self.reset(None)

    def reset(self, generator: torch.Generator | None) -> None:
        """Draw the weights afresh."""
        xavier_(self.weight, self.in_features, self.out_features, generator)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class SlotLinear(nn.Module):
    """One dense layer over [slot vectors, numeric columns], kept in two weights.

    Args:
        slots: S. common: D. numeric: n. out: H.
        bias: add a bias.
        parts: layers of equal height that stand in it one above the other (experts); each is drawn as one of its own.

    Attributes:
        slot_weight: H x (S D), slot-major.
        numeric_weight: H x n.
        bias: H, or None.
    """

    def __init__(self, slots: int, common: int, numeric: int, out: int, bias: bool = True, parts: int = 1):
        super().__init__()
        self.parts = parts
        self.slot_weight = nn.Parameter(torch.empty(out, slots * common))
        self.numeric_weight = nn.Parameter(torch.empty(out, numeric))
        self.bias = nn.Parameter(torch.empty(out)) if bias else None
        self.reset(None)

    def reset(self, generator: torch.Generator | None) -> None:
        """Draw the weights afresh, as Xavier layers with S D + n inputs."""
        out, inputs = self.slot_weight.shape[0] // self.parts, self.slot_weight.shape[1] + self.numeric_weight.shape[1]
        xavier_(self.slot_weight, inputs, out, generator)
        xavier_(self.numeric_weight, inputs, out, generator)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, slots: SlotVectors, numeric: Tensor) -> Tensor:
        """B x H."""
        if numeric.shape[1]:
            return slots.linear(self.slot_weight, F.linear(numeric, self.numeric_weight, self.bias))
        # H numbers instead of B x H; the empty weight stays in the graph, so that its gradient is empty and not absent
        empty = self.numeric_weight.sum(1)
        return slots.linear(self.slot_weight, empty if self.bias is None else self.bias + empty)


def joint_linear(layers: Sequence[SlotLinear], slots: SlotVectors, numeric: Tensor, bias: bool = True) -> list[Tensor]:
    """Several layers of the same inputs as one product: the slot vectors are read once, and so is their gradient.

    Args:
        bias: add the layers' biases.

    Returns:
        Per layer B x H.
    """
    heights = [layer.slot_weight.shape[0] for layer in layers]
    parts = slots.linear(torch.cat([layer.slot_weight for layer in layers])).split(heights, dim=1)
    return [
        part + F.linear(numeric, layer.numeric_weight, layer.bias if bias else None)
        for part, layer in zip(parts, layers, strict=True)
    ]


def tail(widths: Sequence[int], dropout: float, batch_norm: bool, activate_last: bool = False) -> nn.Sequential:
    """What follows a first dense layer: activation, then further layers.

    Args:
        widths: widths of all layers, the first one's included; at least one.
        dropout: share dropped after each activation, [0, 1).
        batch_norm: normalise before each activation.
        activate_last: the last width is a hidden layer; otherwise it holds logits and stays linear.
    """
    parts: list[nn.Module] = []
    for k, width in enumerate(widths):
        if k:
            parts.append(Dense(widths[k - 1], width))
        if k < len(widths) - 1 or activate_last:
            if batch_norm:
                parts.append(nn.BatchNorm1d(width))
            parts.append(nn.ReLU(inplace=True))  # what it overwrites is needed by no gradient
            if dropout:
                parts.append(nn.Dropout(dropout))
    return nn.Sequential(*parts)


def last_layer(rest: nn.Sequential) -> list[nn.Parameter]:
    """Parameters of the last dense layer of a `tail`; empty where it has none."""
    layers = [m for m in rest if isinstance(m, Dense)]
    return list(layers[-1].parameters()) if layers else []


class Mlp(nn.Module):
    """Dense layers from slot vectors and numeric columns to `outputs` numbers.

    Args:
        slots: S. common: D. numeric: n.
        hidden: widths of the hidden layers; empty: one linear layer.
        outputs: numbers per example; None: end with the last hidden layer, activated (`hidden` must not be empty).
        dropout: share dropped after each hidden layer, [0, 1).
        batch_norm: normalise before each activation.

    Attributes:
        first: the layer that reads the slot vectors.
        rest: everything after it.

    Cost: about `S D H_1 + sum H_k H_{k+1}` multiplications per example; where tables are cut, S D shrinks to sum(d_i).
    """

    def __init__(
        self,
        slots: int,
        common: int,
        numeric: int,
        *,
        hidden: Sequence[int],
        outputs: int | None,
        dropout: float = 0.0,
        batch_norm: bool = False,
    ):
        super().__init__()
        widths = (*hidden, *(() if outputs is None else (outputs,)))
        if not widths:
            raise ValueError("a deep part without outputs needs at least one hidden layer")
        self.first = SlotLinear(slots, common, numeric, widths[0])
        self.rest = tail(widths, dropout, batch_norm, activate_last=outputs is None)

    def forward(self, slots: SlotVectors, numeric: Tensor) -> Tensor:
        """B x outputs (B x the last hidden width where outputs is None)."""
        return self.rest(self.first(slots, numeric))

    def last(self) -> list[nn.Parameter]:
        """Parameters of the last dense layer; the first one's where there is no other."""
        return last_layer(self.rest) or list(self.first.parameters())
