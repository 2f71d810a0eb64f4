"""DeepFM (Guo et al., IJCAI 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from autodim.embedding.vectors import SlotVectors
from autodim.models.base import Model
from autodim.models.first_order import FirstOrder
from autodim.models.fm import pairs
from autodim.models.mlp import Mlp, SlotLinear

if TYPE_CHECKING:
    from autodim.config.schema import ModelConfig


class DeepFM(Model):
    """Factorization machine beside a dense network, both on the same slot vectors.

    `logit = FM + MLP([v_1 .. v_S, numeric])` (Guo 2017, equation 1).

    Args:
        slots: S. common: D. numeric: n.
        hidden: widths of the dense network's hidden layers.
        dropout: after each hidden layer, [0, 1).
        batch_norm: before each activation.
        tasks: T. The dense network ends in T outputs; FM's pairs and ids' weights are shared by all tasks.

    Differs from the paper: numeric columns enter as numbers (a linear term in FM, concatenated in the dense network),
    not as vectors; the one bias is the dense network's; batch norm is an option.

    Cost: the dense network's matrices; see `Mlp`.
    """

    uses_linear = True

    def __init__(
        self,
        slots: int,
        common: int,
        numeric: int,
        *,
        hidden: Sequence[int] = (400, 400, 400),
        dropout: float = 0.0,
        batch_norm: bool = False,
        tasks: int = 1,
    ):
        super().__init__()
        self.first_order = FirstOrder(numeric, tasks, bias=False)
        self.deep = Mlp(slots, common, numeric, hidden=hidden, outputs=tasks, dropout=dropout, batch_norm=batch_norm)

    @classmethod
    def from_config(cls, config: ModelConfig, slots: int, numeric: int, tasks: int) -> DeepFM:
        return cls(
            slots,
            config.width,
            numeric,
            hidden=config.hidden,
            dropout=config.dropout,
            batch_norm=config.batch_norm,
            tasks=tasks,
        )

    def forward(self, slots: SlotVectors, linear: Tensor | None, numeric: Tensor) -> Tensor:
        value, slots = pairs(slots)
        return self.first_order(linear, numeric) + value[:, None] + self.deep(slots, numeric)

    def first_layers(self) -> Sequence[SlotLinear]:
        return (self.deep.first,)

    def head(self) -> list[nn.Parameter]:
        return [*self.first_order.parameters(), *self.deep.last()]
