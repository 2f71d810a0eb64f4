"""What all models share: the face, and what a retrain may start afresh."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from autodim.config.schema import ModelConfig
    from autodim.embedding.vectors import SlotVectors
    from autodim.models.mlp import Dense, SlotLinear


@dataclass(frozen=True)
class Gate:
    """One gate of a model with experts, on B examples.

    Attributes:
        task: its task's position; None: a gate that all tasks share.
        level: of the experts that it mixes, from 1.
        experts: what it chooses among.
        weights: B x E.
    """

    task: int | None
    level: int
    experts: tuple[str, ...]
    weights: Tensor


class Model(nn.Module):
    """Base of every model.

    Attributes:
        uses_linear: the model reads first-order weights, so the embedding side must keep width-1 tables.
    """

    uses_linear: bool = False

    @classmethod
    def from_config(cls, config: ModelConfig, slots: int, numeric: int, tasks: int) -> Model:
        """Build from a config's section `model`, taking only the options that this model uses."""
        raise NotImplementedError

    def forward(self, slots: SlotVectors, linear: Tensor | None, numeric: Tensor) -> Tensor:
        """Logits.

        Args:
            slots: the slot vectors of B examples.
            linear: B x S first-order weights of the examples' ids, or None. Ignored where `uses_linear` is False.
            numeric: B x n.

        Returns:
            B x T logits.
        """
        raise NotImplementedError

    def first_layers(self) -> Sequence[Dense | SlotLinear]:
        """The layers that read the slot vectors directly; empty for a model without any (FM)."""
        return ()

    def first_dense(self) -> list[nn.Parameter]:
        """Parameters of the first dense layer(s): what a retrain with a cold first layer draws afresh."""
        return [p for layer in self.first_layers() for p in layer.parameters()]

    def head(self) -> list[nn.Parameter]:
        """Parameters whose product is a part of the logits: the last layer, which clipping by units leaves alone."""
        raise NotImplementedError

    def own_parameters(self) -> list[list[nn.Parameter]]:
        """Per task the parameters that no other task's loss reaches (towers, own experts, own gates); T lists.

        Empty: the model shares everything. A weighting of gradients never scales a task's own parameters.
        """
        return []

    def last_shared(self) -> list[nn.Parameter]:
        """Weights of the last layer that all tasks share, where GradNorm measures; never a table."""
        return [p for p in self.head() if p.ndim > 1]

    def representation(self) -> list[nn.Module]:
        """The modules whose outputs are the last representation that all tasks share, together.

        Each runs once a forward pass, called as a module (and not read by another), and gives one tensor with the
        examples in one of its dimensions. Empty: there is none, and no weighting can compare gradients there.
        """
        return []

    def penalty(self) -> Tensor | None:
        """A term of the objective that depends on the model's parameters alone, 0-dim; None: there is none.

        A step adds its gradient to what the weighting of the losses gives; no task's loss or weight contains it.
        """
        return None

    def gates(self, slots: SlotVectors, numeric: Tensor) -> list[Gate]:
        """How each example's features are mixed from experts; empty for a model without gates."""
        return []

    def reset_first(self, generator: torch.Generator | None = None) -> None:
        """Draw the first dense layer(s) afresh.

        Args:
            generator: source of the draw; the same CPU generator gives the same weights on every device.
        """
        for layer in self.first_layers():
            layer.reset(generator)
