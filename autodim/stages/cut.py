"""The cut: from a trained network and an allocation to the small network that starts the retrain.

Kept dimensions become the columns of a narrower table, and the slot's projection puts them back where they were
(a selection matrix), so the cut network computes exactly what the masked one does. Where an allocation gives only a
width, the best subspace of that width is taken from the table itself: the leading eigenvectors of its second moment,
each row weighted by how often it was trained. A block with a projection and a bias is a spectral cut: its encoder,
decoder and bias come from the slot's factors (`dimension.factor`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from autodim.dimension.allocation import Allocation, Entry
from autodim.dimension.factor import Factors
from autodim.embedding.layout import Layout
from autodim.embedding.resize import leading
from autodim.embedding.tables import Tables
from autodim.errors import RunError
from autodim.training.network import Network


def cut_network(
    network: Network,
    allocation: Allocation,
    layout: Layout,
    means: Mapping[str, Tensor],
    counts: Mapping[str, Tensor],
    factors: Mapping[str, Factors] | None = None,
) -> Network:
    """Cut a trained network to an allocation; dense weights are copied.

    Args:
        network: the uniform network.
        layout: the allocation's layout.
        means: the mean pooled vector of each slot (D), for slots of width 0 that keep their mean.
        counts: how often each row of each table was trained (n), for slots whose subspace is chosen here.
        factors: per table, for spectral cuts.

    Raises:
        RunError: the allocation's common width is not the network's (a natively uniform model cannot be cut from it).
    """
    source = network.tables
    if allocation.common != source.layout.common:
        raise RunError(
            f"widths: common width {allocation.common}, but the trained model has {source.layout.common}; it cannot "
            "start warm; use retrain.mode=cold"
        )
    source_weights = {t.name: source.read(t.name) for t in source.layout.tables}
    tables = Tables(layout, linear=any(g.linear is not None for g in source.groups))
    with torch.no_grad():
        bias: dict[str, Tensor] = {}
        for entry in allocation.entries:
            cut = entry_cut(entry, source_weights[entry.table], means, counts[entry.table], factors)
            _cut_table(source_weights[entry.table], tables, layout, entry, cut)
            bias |= cut.bias
        if tables.bias is not None:
            for row, position in enumerate(tables.biased):
                tables.bias[row] = bias[layout.slots[position].name]
    return Network(tables.to(next(iter(source.buffers())).device), copy.deepcopy(network.model))


@dataclass(frozen=True)
class Cut:
    """How one table is cut: `v -> v @ encoder @ decoder + bias`; None: stored whole.

    Attributes:
        encoder: D x r float64, or float32 where it only selects.
        decoder: r x D.
        bias: D per slot that has one.
    """

    encoder: Tensor | None
    decoder: Tensor | None
    bias: dict[str, Tensor]


def entry_cut(
    entry: Entry,
    old: Mapping[str, Tensor],
    means: Mapping[str, Tensor],
    counts: Tensor,
    factors: Mapping[str, Factors] | None,
) -> Cut:
    """The cut that an entry means.

    Args:
        entry: of the allocation.
        old: the uniform table, `weight` n x D.
        means: see `cut_network`.
        counts: training count of each row, n.
        factors: see `cut_network`.

    Raises:
        RunError: a spectral cut without factors.
    """
    weight = old["weight"]
    if entry.width == 0:
        empty = weight.new_zeros(weight.shape[1], 0)
        return Cut(empty, empty.T, {s: means[s] for s in entry.slots} if entry.bias else {})
    if not entry.projected:
        return Cut(None, None, {})
    if entry.bias:
        if factors is None or entry.table not in factors:
            raise RunError(
                f"widths: table {entry.table} has a projection and a bias, a spectral cut; found no statistics"
            )
        found = factors[entry.table]
        encoder, decoder = (
            torch.from_numpy(m.copy()) for m in (found.encoder(entry.width), found.decoder(entry.width))
        )
        bias = {s: torch.from_numpy(found.bias(s, entry.width)) for s in entry.slots}
        return Cut(encoder.to(weight.device), decoder.to(weight.device), bias)
    if entry.kept is not None:
        basis = selection(entry.kept, weight.shape[1], weight)
    else:
        basis = leading(weight, entry.width, counts)
    return Cut(basis, basis.T, {})


def _cut_table(old: Mapping[str, Tensor], target: Tables, layout: Layout, entry: Entry, cut: Cut) -> None:
    block = layout.blocks_of(entry.table)[0]
    group = target.group_of(block)
    if group is None:
        return
    rows = group.rows_of(block)
    if group.linear is not None:
        group.linear[rows, 0] = old["linear"]
    if group.weight is None:
        return
    weight = old["weight"]
    if group.projection is None or cut.encoder is None or cut.decoder is None:
        group.weight[rows] = weight
        return
    group.weight[rows] = (weight.to(cut.encoder.dtype) @ cut.encoder).to(weight.dtype)
    group.projection[group.blocks.index(block)] = cut.decoder.to(weight.dtype)


def selection(kept: tuple[int, ...], common: int, like: Tensor) -> Tensor:
    """D x d matrix that picks the kept dimensions."""
    basis = like.new_zeros(common, len(kept))
    basis[list(kept), range(len(kept))] = 1.0
    return basis
