"""Deep & Cross network (Wang et al., ADKDD 2017)."""

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


def cross_terms(products: Tensor, cross: SlotLinear, bias: Tensor) -> tuple[Tensor, Tensor]:
    """a_L (B) and c_L (d) such that a cross network's output is `x_L = a_L x_0 + c_L`; see `DCN`.

    Args:
        products: `x_0 . w_l`, B x L. cross: row l is w_l. bias: row l is b_l, L x d.
    """
    weights = torch.cat([cross.slot_weight, cross.numeric_weight], dim=1)  # L x d
    scale, shift = 1 + products[:, 0], bias[0]  # a_1, c_1
    for layer in range(1, products.shape[1]):
        scale = scale + scale * products[:, layer] + (shift * weights[layer]).sum()
        shift = shift + bias[layer]
    return scale, shift


class DCN(Model):
    """Cross network of vectors beside a dense network (Deep & Cross).

    With `x_0 = [v_1 .. v_S, numeric]` of d = S D + n numbers: `x_{l+1} = x_0 (x_l . w_l) + b_l + x_l` (Wang 2017,
    equation 3); `logit = U [x_L, h] + b` with h the dense network's last hidden layer (section 2.4).

    Computed without ever forming x_l. By induction `x_l = a_l x_0 + c_l` with one number a_l per example and
    `c_l = b_0 + .. + b_{l-1}` per model:

        a_0 = 1,  a_{l+1} = a_l + a_l (x_0 . w_l) + c_l . w_l,   U x_L = a_L (U x_0) + U c_L.

    So the cross network reads the slot vectors only through a linear map, `x_0 -> (x_0 . w_0, .., U x_0)`,
    taken together with the dense network's first layer in one product: mixed tables fold their projections into it.
    The result is the paper's up to rounding.

    Args:
        slots: S. common: D. numeric: n.
        cross_layers: L, at least 1.
        hidden: widths of the dense network; empty: the cross network alone.
        dropout: after each hidden layer, [0, 1).
        batch_norm: before each activation of the dense network.
        tasks: T, rows of U.

    Differs from the paper: the same function computed in another order; batch norm and dropout are options.

    Cost: L + T more rows in the dense network's first matrix; no B x d temporary of its own.
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
        self.cross = SlotLinear(slots, common, numeric, cross_layers, bias=False)  # row l is w_l
        self.cross_bias = nn.Parameter(torch.zeros(cross_layers, slots * common + numeric))  # row l is b_l
        self.cross_out = SlotLinear(slots, common, numeric, tasks, bias=False)  # U's part for x_L
        self.deep = (
            Mlp(slots, common, numeric, hidden=hidden, outputs=None, dropout=dropout, batch_norm=batch_norm)
            if hidden
            else None
        )
        self.out = Dense(hidden[-1], tasks, bias=False) if hidden else None  # U's part for h
        self.bias = nn.Parameter(torch.zeros(tasks))

    @classmethod
    def from_config(cls, config: ModelConfig, slots: int, numeric: int, tasks: int) -> DCN:
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
        layers = [self.cross, self.cross_out, *(() if self.deep is None else (self.deep.first,))]
        by_cross, by_out, *hidden = joint_linear(layers, slots, numeric)  # B x L, B x T, B x H
        out = torch.cat([self.cross_out.slot_weight, self.cross_out.numeric_weight], dim=1)  # T x d
        scale, shift = cross_terms(by_cross, self.cross, self.cross_bias)
        logits = scale[:, None] * by_out + (self.bias + (out * shift).sum(1))
        if self.deep is not None and self.out is not None:
            logits = logits + self.out(self.deep.rest(hidden[0]))
        return logits

    def first_layers(self) -> Sequence[SlotLinear]:
        """The dense network's first layer and the cross vectors: everything that reads x_0, but for the output."""
        return (self.cross,) if self.deep is None else (self.cross, self.deep.first)

    def head(self) -> list[nn.Parameter]:
        out = () if self.out is None else self.out.parameters()
        return [*self.cross_out.parameters(), *out, self.bias]
