"""Wide & Deep (Cheng et al., DLRS 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from autodim.embedding.vectors import SlotVectors
from autodim.models.base import Model
from autodim.models.first_order import FirstOrder
from autodim.models.mlp import Mlp, SlotLinear

if TYPE_CHECKING:
    from autodim.config.schema import ModelConfig


class WideDeep(Model):
    """First-order weights of every id (wide) beside a dense network (deep).

    `logit = w . x + MLP([v_1 .. v_S, numeric])` (Cheng 2016, equation 3).

    Args:
        slots: S. common: D. numeric: n.
        hidden: widths of the deep part's hidden layers.
        dropout: after each hidden layer, [0, 1).
        batch_norm: before each activation.
        tasks: T. The ids' weights are shared by all tasks; numeric weights and the deep part's outputs are not.

    Differs from the paper: no hand-made cross-product columns in the wide part (put a crossed column in the log to have
    one); one optimizer family for both parts instead of FTRL with L1 for the wide one; the one bias is the deep part's.

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
        self.wide = FirstOrder(numeric, tasks, bias=False)
        self.deep = Mlp(slots, common, numeric, hidden=hidden, outputs=tasks, dropout=dropout, batch_norm=batch_norm)

    @classmethod
    def from_config(cls, config: ModelConfig, slots: int, numeric: int, tasks: int) -> WideDeep:
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
        return self.wide(linear, numeric) + self.deep(slots, numeric)

    def first_layers(self) -> Sequence[SlotLinear]:
        return (self.deep.first,)

    def head(self) -> list[nn.Parameter]:
        return [*self.wide.parameters(), *self.deep.last()]
