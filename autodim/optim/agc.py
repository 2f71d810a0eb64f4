"""AGC: adaptive gradient clipping, unit by unit (Brock et al., ICML 2021, arXiv 2102.06171)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from autodim.optim.rows import gather, per_row, rows_and_values

if TYPE_CHECKING:
    from autodim.embedding.lookup import Lookup


def agc(gradient: Tensor, weights: Tensor, clip: float = 0.01, eps: float = 1e-3) -> Tensor:
    """Bound each unit's gradient by a share of its weights: `g min(1, clip max(||W||, eps) / ||g||)` (equation 3).

    Args:
        gradient, weights: of one shape. A unit is a row (everything but the first dimension); a tensor of at most one
            dimension is one unit.

    Returns:
        A new tensor.
    """
    return gradient * _factors(gradient, weights, clip, eps)


def _factors(gradient: Tensor, weights: Tensor, clip: float, eps: float) -> Tensor:
    if gradient.dim() < 2:
        found, size = torch.linalg.vector_norm(gradient), torch.linalg.vector_norm(weights)
    else:
        dims = tuple(range(1, gradient.dim()))
        found = torch.linalg.vector_norm(gradient, dim=dims)
        size = torch.linalg.vector_norm(weights, dim=dims)
    factors = (size.clamp_min_(eps).mul_(clip) / found.clamp_min_(torch.finfo(found.dtype).tiny)).clamp_max_(1.0)
    return factors if gradient.dim() < 2 else per_row(factors, gradient)


class AGC:
    """The clipper of AGC, for the step protocol and, with plain parameters, for any loop.

    Args:
        clip: largest gradient as a share of the unit's weights, > 0.
        eps: a unit's weights count as at least this, > 0: otherwise zero weights would never move.
        exclude: parameters left alone: the head (last layer), as the paper asks.

    Attributes:
        clipped: 0-dim, the share of units that the last step clipped; None before the first step.

    A unit is an output of a dense layer, a row of a table (the batch's rows only), a block's projection, or a whole
    1-D tensor.

    Differs from the paper: a first layer that reads slot vectors and numeric columns is kept in two weights, and each
    is measured by itself; rows of tables are units, of which the paper has none.

    Cost: two norms and one product per number that has a gradient; no host synchronisation.
    """

    def __init__(self, clip: float = 0.01, eps: float = 1e-3, exclude: Iterable[nn.Parameter] = ()):
        if clip <= 0 or eps <= 0:
            raise ValueError(f"clip and eps must be positive; found clip={clip}, eps={eps}")
        self.max_share, self.eps = clip, eps
        self.exclude = {id(p) for p in exclude}
        self.clipped: Tensor | None = None

    @torch.no_grad()
    def clip(self, tables: Sequence[nn.Parameter], dense: Sequence[nn.Parameter], lookup: Lookup | None = None) -> None:
        """Clip the parameters' `.grad` in place; a sparse one by its unique rows."""
        counts, units = [], 0
        for parameter in (*tables, *dense):
            if parameter.grad is None or id(parameter) in self.exclude or not parameter.numel():
                continue
            rows, values = rows_and_values(parameter.grad)
            if rows is not None and not parameter.grad.is_coalesced():
                parameter.grad = torch.sparse_coo_tensor(
                    rows[None], values, parameter.shape, is_coalesced=True, check_invariants=False
                )
            factors = _factors(values, gather(parameter.detach(), rows), self.max_share, self.eps)
            values.mul_(factors)
            counts.append((factors < 1).sum())
            units += factors.numel()
        if units:
            self.clipped = torch.stack(counts).sum() / units
