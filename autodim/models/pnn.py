"""Product-based neural network (Qu et al., ICDM 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from autodim.embedding.vectors import SlotVectors
from autodim.models.base import Model
from autodim.models.mlp import Dense, SlotLinear, last_layer, tail

if TYPE_CHECKING:
    from autodim.config.schema import ModelConfig


def inner_products(vectors: Tensor) -> Tensor:
    """`<v_i, v_j>` of every pair i < j, in the order (0,1), (0,2), ... (B x S x D -> B x S (S - 1) / 2)."""
    slots = vectors.shape[1]
    first, second = torch.triu_indices(slots, slots, offset=1, device=vectors.device)
    gram = torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1)  # B x S^2
    return gram.index_select(1, first * slots + second)


def outer_product(vectors: Tensor) -> Tensor:
    """Upper half (with the diagonal) of `s s^T`, `s = sum_i v_i` (B x S x D -> B x D (D + 1) / 2)."""
    total = vectors.sum(1)  # B x D
    first, second = torch.triu_indices(total.shape[1], total.shape[1], device=vectors.device)
    return total.index_select(1, first) * total.index_select(1, second)


class PNN(Model):
    """Dense network whose first layer also reads products of slot vectors (inner or outer).

    `l_1 = relu(W_z [v_1 .. v_S, numeric] + W_p p + b)`, then dense layers (Qu 2016, section III.A).
    `inner` (IPNN, section III.B): p holds `<v_i, v_j>` of all pairs.
    `outer` (OPNN, section III.C): p is `s s^T` with `s = sum_i v_i`, the superposition of all pairs' outer products;
    each first-layer neuron weighs it by its own D x D kernel.

    Args:
        slots: S. common: D. numeric: n.
        product: which p.
        hidden: widths of the hidden layers.
        dropout: after each hidden layer, [0, 1).
        batch_norm: before each activation.
        tasks: T, outputs of the last layer.

    Differs from the paper: inner products have a free weight per neuron and pair i < j, where the paper factorises
    them (rank one: `theta_i theta_j`, i = j included); `s s^T` is symmetric and so are the paper's kernels, so only its
    upper half is weighed; numeric columns join the linear signal. The follow-up's kernel products with one D x D matrix
    per pair (KPNN, TOIS 2018) are not this model.

    Cost: inner B S^2 D for the products and S (S - 1) / 2 more inputs of the first layer; outer D (D + 1) / 2 more
    inputs (2,080 at D = 64), whatever S is.
    """

    def __init__(
        self,
        slots: int,
        common: int,
        numeric: int,
        *,
        product: Literal["inner", "outer"] = "inner",
        hidden: Sequence[int] = (400, 400, 400),
        dropout: float = 0.0,
        batch_norm: bool = False,
        tasks: int = 1,
    ):
        super().__init__()
        self.inner = product == "inner"
        products = slots * (slots - 1) // 2 if self.inner else common * (common + 1) // 2
        widths = (*hidden, tasks)
        self.first = SlotLinear(slots, common, numeric, widths[0])
        self.product = Dense(products, widths[0], bias=False)
        self.rest = tail(widths, dropout, batch_norm)

    @classmethod
    def from_config(cls, config: ModelConfig, slots: int, numeric: int, tasks: int) -> PNN:
        return cls(
            slots,
            config.width,
            numeric,
            product=config.product,
            hidden=config.hidden,
            dropout=config.dropout,
            batch_norm=config.batch_norm,
            tasks=tasks,
        )

    def forward(self, slots: SlotVectors, linear: Tensor | None, numeric: Tensor) -> Tensor:
        vectors = slots.stack()
        products = inner_products(vectors) if self.inner else outer_product(vectors)
        return self.rest(self.first(slots, numeric) + self.product(products))

    def first_layers(self) -> Sequence[Dense | SlotLinear]:
        return (self.first, self.product)

    def head(self) -> list[nn.Parameter]:
        return last_layer(self.rest) or self.first_dense()
