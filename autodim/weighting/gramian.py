"""The Gramian of T tasks' gradients over everything they share, without a dense gradient of any table.

A gradient of a table is compared at the batch's unique rows: the gradient at the looked-up vectors, summed per row as
the update would sum it (repeated ids, bags, means and shared tables included). `K_ij = <R_i, R_j> + <dense_i, dense_j>`
is then exactly the product of the two dense gradients, at the cost of the batch.

Letters: T tasks, U unique rows, w width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from autodim.optim.leaves import Gradients, row_gradients

if TYPE_CHECKING:
    from autodim.embedding.lookup import Lookup

CHUNK = 1 << 16  # numbers of a gradient that are in float64 at a time: they stay in cache
SMALL = 1 << 14  # tensors up to this are joined, so that many small ones cost as one


def gramian(gradients: Sequence[Sequence[Tensor | None]]) -> Tensor:
    """`K_ij = <g_i, g_j>` of T lists of tensors, T x T float64; None counts as zero.

    Args:
        gradients: T lists of equal length; the tensors at one place have one shape.

    Cost: one read of every gradient; the products are added in float64.
    """
    count = len(gradients)
    device = next((g.device for one in gradients for g in one if g is not None), torch.device("cpu"))
    total = torch.zeros(count, count, dtype=torch.float64, device=device)
    small: list[Sequence[Tensor | None]] = []
    for parts in zip(*gradients, strict=True):
        size = max((p.numel() for p in parts if p is not None), default=0)
        if size > SMALL:
            total += _product(_flat(parts))
        elif size:
            small.append(parts)
    if small:
        columns = [_flat(parts) for parts in small]
        total += _product([torch.cat([c[t] for c in columns]) for t in range(count)])
    return total


def _flat(parts: Sequence[Tensor | None]) -> list[Tensor]:
    like = next(p for p in parts if p is not None)
    return [torch.zeros_like(like).reshape(-1) if p is None else p.reshape(-1) for p in parts]


def _product(flat: Sequence[Tensor]) -> Tensor:
    size = flat[0].numel()
    total = torch.zeros(len(flat), len(flat), dtype=torch.float64, device=flat[0].device)
    for start in range(0, size, CHUNK):
        block = torch.stack([v[start : start + CHUNK].double() for v in flat])
        total.addmm_(block, block.T)
    return total


def rows_of(gradients: Gradients, lookup: Lookup) -> Gradients:
    """Gradients at the leaves (and whatever follows) -> the leaves' summed to U x w, the rest as it is."""
    rows = row_gradients(gradients, lookup)
    return [*rows, *gradients[len(rows) :]]


def mix(gradients: Sequence[Sequence[Tensor | None]], weights: Sequence[float]) -> Gradients:
    """`sum w_t g_t` at each place; None where every task's is.

    The first weighted tensor is fresh, so nothing that autograd still holds is changed.
    """
    out: Gradients = [None] * len(gradients[0])
    for one, weight in zip(gradients, weights, strict=True):
        totals, terms = [], []
        for i, (total, term) in enumerate(zip(out, one, strict=True)):
            if term is None:
                continue
            if total is None:
                out[i] = term * weight
            else:
                totals.append(total)
                terms.append(term)
        if totals:
            torch._foreach_add_(totals, terms, alpha=weight)
    return out
