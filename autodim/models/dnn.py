"""The dense network alone: concatenated slot vectors into dense layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from autodim.embedding.vectors import SlotVectors
from autodim.models.base import Model
from autodim.models.mlp import Mlp, SlotLinear

if TYPE_CHECKING:
    from autodim.config.schema import ModelConfig


class DNN(Model):
    """Dense network on the concatenated slot vectors and numeric columns.

    `logit = MLP([v_1 .. v_S, numeric])`: the deep half of Cheng et al. 2016, and the plain "embedding + MLP" of the
    click literature (Zhang et al., ECIR 2016, without their FM pretraining).

    Args:
        slots: S. common: D. numeric: n.
        hidden: widths of the hidden layers.
        dropout: after each hidden layer, [0, 1).
        batch_norm: before each activation.
        tasks: T, outputs of the last layer.

    Differs from the paper: ReLU throughout, Xavier weights, batch norm as an option.

    Cost: see `Mlp`. It never asks for the vectors themselves, so narrow slots make it faster in proportion.
    """

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
        self.deep = Mlp(slots, common, numeric, hidden=hidden, outputs=tasks, dropout=dropout, batch_norm=batch_norm)

    @classmethod
    def from_config(cls, config: ModelConfig, slots: int, numeric: int, tasks: int) -> DNN:
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
        return self.deep(slots, numeric)

    def first_layers(self) -> Sequence[SlotLinear]:
        return (self.deep.first,)

    def head(self) -> list[nn.Parameter]:
        return self.deep.last()
