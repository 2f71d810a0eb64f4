"""Clipping by the global norm (Pascanu et al., ICML 2013)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from autodim.optim.leaves import total_norm

if TYPE_CHECKING:
    from autodim.embedding.lookup import Lookup


def clip_global_norm_(gradients: Sequence[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients in place by `min(1, max_norm / (norm + 1e-6))`.

    Args:
        gradients: any shapes; sparse ones must be coalesced.

    Returns:
        0-dim, the norm before clipping, still on the device.

    Cost: one read for the norm, one pass to scale, in torch's foreach kernels.
    """
    values = [g._values() if g.is_sparse else g for g in gradients]
    norm = total_norm(values)
    if values:
        torch._foreach_mul_(values, (max_norm / (norm + 1e-6)).clamp_max_(1.0).to(values[0].device))
    return norm


class NormClip:
    """The clipper by the global norm, for the step protocol: tables' unique rows and dense parameters together.

    Args:
        max_norm: > 0.

    Attributes:
        norm: 0-dim, the last step's norm before clipping; None before the first step.
        clipped: 0-dim, 1 where that was above max_norm, else 0; None before the first step.

    Differs from the paper: nothing; repeated ids are summed first, so the norm is that of the true gradient.
    """

    def __init__(self, max_norm: float):
        if max_norm <= 0:
            raise ValueError(f"max_norm must be positive; found {max_norm}")
        self.max_norm = max_norm
        self.norm: Tensor | None = None
        self.clipped: Tensor | None = None

    @torch.no_grad()
    def clip(self, tables: Sequence[nn.Parameter], dense: Sequence[nn.Parameter], lookup: Lookup | None = None) -> None:
        """Clip the parameters' `.grad` in place."""
        parameters = (*tables, *dense)
        for p in parameters:
            if p.grad is not None and p.grad.is_sparse and not p.grad.is_coalesced():
                p.grad = p.grad.coalesce()
        self.norm = clip_global_norm_([p.grad for p in parameters if p.grad is not None], self.max_norm)
        self.clipped = (self.norm > self.max_norm).float()
