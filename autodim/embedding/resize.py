"""A trained table at another width: wider by zero fill or by a linear map and batch norm, narrower by a linear map.

What moves a slot from one tier of widths to another. Each way returns the new table and the affine map back, so that a
projection can be made of it and a warm start begins where the old table was.

Letters: n rows, d old width, w new width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Resized:
    """A table at its new width.

    Attributes:
        table: n x w.
        back: w x d; `table @ back + offset` is the old table: exactly where it became wider, the nearest (rows weighted
            by their counts) where it became narrower.
        offset: d.
    """

    table: Tensor
    back: Tensor
    offset: Tensor

    @property
    def restored(self) -> Tensor:
        """The old table, n x d, as far as the new one knows it."""
        return self.table @ self.back + self.offset


def zero_fill(table: Tensor, width: int) -> Resized:
    """The old columns, and columns of zeros that training may fill (METHODS 1.3, expansion a).

    Args:
        table: n x d. width: w >= d.

    Cost: one copy.

    Differs from the paper: a common step without one paper. The new columns have no gradient where their projection is
    zero too: give the projection's new rows small random numbers.
    """
    rows, old = table.shape
    _wider(old, width)
    back = torch.eye(width, old, dtype=table.dtype, device=table.device)
    return Resized(torch.cat([table, table.new_zeros(rows, width - old)], 1), back, table.new_zeros(old))


def linear_batch_norm(
    table: Tensor, width: int, counts: Tensor, generator: torch.Generator, epsilon: float = 1e-5
) -> Resized:
    """A random linear map to the new width, then batch norm (METHODS 1.3, expansion b).

    Every new column is used from the first step on. The map has orthonormal rows (exact to invert). The norm is that of
    one batch with every id as often as in training; it leaves each column with mean 0 and the old table's usual spread,
    so that learning rates keep their meaning.

    Args:
        table: n x d. width: w >= d. counts: n, training occurrences of each row.
        generator: on the CPU; draws the map.
        epsilon: of the batch norm, as a share of the usual variance.

    Cost: one product n x d x w.

    Differs from the paper: a common step without one paper (cf. Zhao et al., AutoDim, WWW 2021, which trains map and
    norm in the model); here both are folded into the table.
    """
    old = table.shape[1]
    _wider(old, width)
    drawn = torch.randn(width, old, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(drawn).Q.T.to(table.device)  # d x w, orthonormal rows
    rows = table.double()
    weights = counts.to(rows) if counts.sum() > 0 else torch.ones_like(rows[:, 0])
    weights = weights / weights.sum()
    mapped = rows @ rotation
    mean = weights @ mapped
    variance = weights @ (mapped - mean).square()
    usual = (weights @ (rows - weights @ rows).square()).mean()
    spread = (variance / usual.clamp(min=torch.finfo(torch.float64).tiny) + epsilon).sqrt()
    back = spread[:, None] * rotation.T
    return Resized(
        ((mapped - mean) / spread).to(table.dtype), back.to(table.dtype), (mean @ rotation.T).to(table.dtype)
    )


def reduce_linear(table: Tensor, width: int, counts: Tensor) -> Resized:
    """The best linear map to a narrower table: its leading directions, rows weighted by their counts.

    Args:
        table: n x d. width: w <= d. counts: n.

    Cost: one product d x n x d and an eigen-decomposition of d x d.

    Differs from the paper: a common step without one paper; the same map that cuts tables whose strategy names a width.
    """
    old = table.shape[1]
    if not 0 <= width <= old:
        raise ValueError(f"a reduction of width {old} goes to 0 .. {old}, found {width}")
    basis = leading(table, width, counts)
    return Resized(table @ basis, basis.T, table.new_zeros(old))


def leading(table: Tensor, width: int, counts: Tensor) -> Tensor:
    """d x width: the leading eigenvectors of the table's second moment (float64; signs fixed, so it repeats).

    Args:
        table: n x d. counts: n, the weight of each row.
    """
    rows = table.double()
    moment = rows.T @ (rows * counts.to(rows)[:, None])
    _, vectors = torch.linalg.eigh(moment)
    basis = vectors.flip(1)[:, :width]
    signs = basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()
    return (basis * torch.where(signs == 0, 1.0, signs)).to(table.dtype)


def _wider(old: int, width: int) -> None:
    if width < old:
        raise ValueError(f"an expansion of width {old} goes to {old} or more, found {width}; use reduce_linear")
