"""Deep & Cross network V2 (Wang et al., WWW 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from autodim.embedding.vectors import SlotVectors
from autodim.models.base import Model
from autodim.models.mlp import Dense, Mlp, SlotLinear, joint_linear

if TYPE_CHECKING:
    from autodim.config.schema import ModelConfig


class DCNv2(Model):
    """Cross network of full matrices beside a dense network (Deep & Cross V2, parallel).

    With `x_0 = [v_1 .. v_S, numeric]` of d = S D + n numbers: `x_{l+1} = x_0 * (W_l x_l + b_l) + x_l` (Wang 2021,
    equation 1, * by element); `logit = U [x_L, h] + b` with h the dense network's last hidden layer (the paper's
    parallel structure). Parallel and not stacked: the paper finds no winner between them, and here the dense network
    reads the slot vectors linearly, so mixed tables fold their projections into its first layer and into W_0.

    Args:
        slots: S. common: D. numeric: n.
        cross_layers: L, at least 1.
        hidden: widths of the dense network; empty: the cross network alone.
        dropout: after each hidden layer, [0, 1).
        batch_norm: before each activation of the dense network.
        tasks: T, rows of U.

    Differs from the paper: full matrices only, no low-rank mixture of experts (DCN-Mix).

    Cost: L d^2 weights and multiplications per example beside the dense network's (d = 2,509 for 39 slots at D = 64:
    19 million for L = 3), and 3 L activations of B x d.
    """

    def __init__(
        self,
        slots: int,
        common: int,
        numeric: int,
        *,
        cross_layers: int = 3,
        hidden: Sequence[int] = (400, 400, 400),
        dropout: float = 0.0,
        batch_norm: bool = False,
        tasks: int = 1,
    ):
        super().__init__()
        inputs = slots * common + numeric
        self.cross_first = SlotLinear(slots, common, numeric, inputs)  # W_0, b_0
        self.cross_rest = nn.ModuleList(Dense(inputs, inputs) for _ in range(cross_layers - 1))
        self.deep = (
            Mlp(slots, common, numeric, hidden=hidden, outputs=None, dropout=dropout, batch_norm=batch_norm)
            if hidden
            else None
        )
        self.out = Dense(inputs + (hidden[-1] if hidden else 0), tasks)

    @classmethod
    def from_config(cls, config: ModelConfig, slots: int, numeric: int, tasks: int) -> DCNv2:
        return cls(
            slots,
            config.width,
            numeric,
            cross_layers=config.cross_layers,
            hidden=config.hidden,
            dropout=config.dropout,
            batch_norm=config.batch_norm,
            tasks=tasks,
        )

    def forward(self, slots: SlotVectors, linear: Tensor | None, numeric: Tensor) -> Tensor:
        start = torch.cat([slots.stack().flatten(1), numeric], dim=1)  # x_0, B x d
        gate, *hidden = joint_linear(self.first_layers(), slots, numeric)
        crossed = torch.addcmul(start, start, gate)  # x_1
        for layer in self.cross_rest:
            crossed = torch.addcmul(crossed, start, layer(crossed))
        if self.deep is None:
            return self.out(crossed)
        return self.out(torch.cat([crossed, self.deep.rest(hidden[0])], dim=1))

    def first_layers(self) -> Sequence[SlotLinear]:
        """The dense network's first layer and the first cross matrix."""
        return (self.cross_first,) if self.deep is None else (self.cross_first, self.deep.first)

    def head(self) -> list[nn.Parameter]:
        return list(self.out.parameters())
