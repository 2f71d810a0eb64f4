"""The gradient of a model's own penalty, added to what the weighting of the losses gives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from autodim.models.base import Model


def with_penalty(
    gradients: Sequence[Tensor | None], targets: Sequence[Tensor], model: nn.Module
) -> list[Tensor | None]:
    """The gradients of a step's update, the penalty's (`Model.penalty`) included.

    It stands beside the losses and not among them: no weighting scales it, and no reported loss contains it.

    Args:
        gradients: at the targets. targets: leaves and dense parameters. model: any; only a `Model` may have a penalty.

    Cost: nothing without a penalty; with one, a gradient over the few parameters that it reads.
    """
    penalty = model.penalty() if isinstance(model, Model) else None
    if penalty is None:
        return list(gradients)
    extra = torch.autograd.grad(penalty, list(targets), allow_unused=True)
    return [g if e is None else e if g is None else g + e for g, e in zip(gradients, extra, strict=True)]
