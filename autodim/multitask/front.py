"""What every architecture reads: slot vectors and numeric columns, with interactions where they are asked for.

Letters: B examples, S slots, D common width, n numeric columns, d = S D + n, L cross layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from autodim.embedding.vectors import SlotVectors
from autodim.models.dcn import cross_terms
from autodim.models.mlp import SlotLinear, joint_linear

if TYPE_CHECKING:
    from autodim.config.schema import ModelConfig


class Front(nn.Module):
    """The shared input of experts, gates and towers, read by all of them in one product.

    Interactions:

    - `none`: `x_0 = [v_1 .. v_S, numeric]`.
    - `fm`: x_0 and the D sums over slot pairs of `v_i * v_j` by element (bi-interaction pooling, He & Chua, SIGIR
      2017, equation 4); their sum is FM's second-order term.
    - `cross`: the output x_L of a cross network (Wang et al., ADKDD 2017, equation 3) in place of x_0. As
      `x_L = a_L x_0 + c_L` with one number a_l per example (see `autodim.models.dcn.DCN`), a layer of it is
      `W x_L + b = a_L (W x_0) + W c_L + b`: still one product with the slot vectors.

    Mixed tables fold their projections into the product; `fm` asks for the vectors themselves as well.

    Args:
        slots: S. common: D. numeric: n.
        interaction: none, fm or cross.
        cross_layers: L, of `cross`.

    Cost: one product for all layers that are read together. `fm`: two reads of B x S x D more. `cross`: L rows.
    """

    def __init__(self, slots: int, common: int, numeric: int, interaction: str = "none", cross_layers: int = 3):
        super().__init__()
        self.slots, self.common, self.interaction = slots, common, interaction
        self.numeric = numeric + (common if interaction == "fm" else 0)
        self.cross = SlotLinear(slots, common, numeric, cross_layers, bias=False) if interaction == "cross" else None
        inputs = slots * common + numeric
        self.cross_bias = nn.Parameter(torch.zeros(cross_layers, inputs)) if interaction == "cross" else None

    @classmethod
    def from_config(cls, config: ModelConfig, slots: int, numeric: int) -> Front:
        return cls(slots, config.width, numeric, config.sharing.interaction, config.cross_layers)

    def layer(self, out: int, *, parts: int = 1, bias: bool = True) -> SlotLinear:
        """A layer that reads the shared input; `parts` as for `SlotLinear`."""
        return SlotLinear(self.slots, self.common, self.numeric, out, bias=bias, parts=parts)

    def forward(self, layers: Sequence[SlotLinear], slots: SlotVectors, numeric: Tensor) -> list[Tensor]:
        """Per layer B x H."""
        if self.interaction == "fm":
            numeric = torch.cat([numeric, pair_products(slots)], dim=1)
        if self.cross is None or self.cross_bias is None:
            return joint_linear(layers, slots, numeric)
        products, *parts = joint_linear([self.cross, *layers], slots, numeric, bias=False)
        scale, shift = cross_terms(products, self.cross, self.cross_bias)
        found = []
        for part, layer in zip(parts, layers, strict=True):
            constant = torch.cat([layer.slot_weight, layer.numeric_weight], dim=1) @ shift  # H
            found.append(scale[:, None] * part + (constant if layer.bias is None else constant + layer.bias))
        return found

    def first_layers(self) -> Sequence[SlotLinear]:
        """The cross vectors, which read the slot vectors directly."""
        return () if self.cross is None else (self.cross,)


def pair_products(slots: SlotVectors) -> Tensor:
    """`sum over slot pairs i < j of v_i * v_j` by element: B x D."""
    vectors = slots.stack()
    return (vectors.sum(1).square() - vectors.square().sum(1)) * 0.5
