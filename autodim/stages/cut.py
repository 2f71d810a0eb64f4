"""The cut: from a trained network and an allocation to the small network that starts the retrain.

Kept dimensions become the columns of a narrower table, and the slot's projection puts them back where they were
(a selection matrix), so the cut network computes exactly what the masked one does. Where an allocation gives only a
width, the best subspace of that width is taken from the table itself: the leading eigenvectors of its second moment,
each row weighted by how often it was trained.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from autodim.dimension.allocation import Allocation, Entry
from autodim.embedding.layout import Layout
from autodim.embedding.tables import Tables
from autodim.errors import RunError
from autodim.training.network import Network


def cut_network(
    network: Network, allocation: Allocation, layout: Layout, means: dict[str, Tensor], counts: dict[str, Tensor]
) -> Network:
    """Cut a trained network to an allocation; dense weights are copied.

    Args:
        network: the uniform network.
        layout: the allocation's layout.
        means: the mean pooled vector of each slot (D), for slots of width 0 that keep their mean.
        counts: how often each row of each table was trained (n), for slots whose subspace is chosen here.

    Raises:
        RunError: the allocation's common width is not the network's (a natively uniform model cannot be cut from it).
    """
    source = network.tables
    if allocation.common != source.layout.common:
        raise RunError(
            f"widths: common width {allocation.common}, but the trained model has {source.layout.common}; it cannot "
            "start warm; use retrain.mode=cold"
        )
    tables = Tables(layout, linear=any(g.linear is not None for g in source.groups))
    with torch.no_grad():
        for entry in allocation.entries:
            _cut_table(source, tables, layout, entry, counts[entry.table])
        if tables.bias is not None:
            for row, position in enumerate(tables.biased):
                tables.bias[row] = means[layout.slots[position].name]
    return Network(tables.to(next(iter(source.buffers())).device), copy.deepcopy(network.model))


def _cut_table(source: Tables, target: Tables, layout: Layout, entry: Entry, counts: Tensor) -> None:
    block = layout.blocks_of(entry.table)[0]
    group = target.group_of(block)
    if group is None:
        return
    old = source.read(entry.table)
    rows = group.rows_of(block)
    if group.linear is not None:
        group.linear[rows, 0] = old["linear"]
    if group.weight is None:
        return
    weight = old["weight"]
    if group.projection is None:
        group.weight[rows] = weight
        return
    if entry.kept is not None:
        basis = selection(entry.kept, weight.shape[1], weight)
    else:
        basis = leading(weight, entry.width, counts)
    group.weight[rows] = weight @ basis
    group.projection[group.blocks.index(block)] = basis.T


def selection(kept: tuple[int, ...], common: int, like: Tensor) -> Tensor:
    """D x d matrix that picks the kept dimensions."""
    basis = like.new_zeros(common, len(kept))
    basis[list(kept), range(len(kept))] = 1.0
    return basis


def leading(weight: Tensor, width: int, counts: Tensor) -> Tensor:
    """D x width: the leading eigenvectors of the table's second moment (float64; signs fixed, so it repeats).

    Args:
        weight: n x D. counts: n, the weight of each row.
    """
    rows = weight.double()
    moment = rows.T @ (rows * counts.to(rows)[:, None])
    _, vectors = torch.linalg.eigh(moment)
    basis = vectors.flip(1)[:, :width]
    signs = basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()
    return (basis * torch.where(signs == 0, 1.0, signs)).to(weight.dtype)
