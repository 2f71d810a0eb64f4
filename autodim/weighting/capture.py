"""Tensors inside a model's forward pass, by hooks: the last representation that all tasks share, and the logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from autodim.models.base import Model


class Captured:
    """The outputs of some modules in the last forward pass that asked for gradients.

    Args:
        modules: each runs once a forward pass and gives one tensor.
    """

    def __init__(self, modules: Sequence[nn.Module]):
        self.found: dict[int, Tensor] = {}
        for number, module in enumerate(modules):
            module.register_forward_hook(self._hook(number))

    def _hook(self, number: int) -> Callable[[nn.Module, object, Tensor], None]:
        def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
            if torch.is_grad_enabled() and output.requires_grad:
                self.found[number] = output

        return keep

    def take(self) -> list[Tensor]:
        """The tensors, which are forgotten here: a graph does not outlive its step."""
        found = [self.found[k] for k in sorted(self.found)]
        self.found = {}
        return found


def shared_modules(model: nn.Module) -> list[nn.Module]:
    """The modules whose outputs are the last representation that all tasks share; empty where there is none.

    None: the model has no parameters of the tasks' own (its last shared layer gives the logits), or no layer is shared.
    """
    if not isinstance(model, Model) or not any(model.own_parameters()):
        return []
    return model.representation()
