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
from torch import Tensor, nn
from torch.nn import functional as F

from autodim.dimension.allocation import Allocation, Entry
from autodim.dimension.blocks import Spans, item, spans_of
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
    model: nn.Module | None = None,
) -> Network:
    """Cut a trained network to an allocation; dense weights are copied.

    An allocation may have a larger common width than the network: whatever is stored at the common width (tables,
    projections, biases) then ends in zeros.

    Args:
        network: the uniform network.
        layout: the allocation's layout.
        means: the mean pooled vector of each slot (D), for slots of width 0 that keep their mean.
        counts: how often each row of each table was trained (n), for slots whose subspace is chosen here.
        factors: per table (or block, by `dimension.blocks.item`), for spectral cuts.
        model: the dense side for a larger common width; default: a copy of the network's.

    Raises:
        RunError: the allocation's common width is not the network's (a natively uniform model cannot be cut from it).
    """
    source = network.tables
    if allocation.common < source.layout.common or (allocation.common > source.layout.common) != (model is not None):
        raise RunError(
            f"widths: common width {allocation.common}, but the trained model has {source.layout.common}; it cannot "
            "start warm; use retrain.mode=cold"
        )
    source_weights = {t.name: source.read(t.name) for t in source.layout.tables}
    tables = Tables(layout, linear=any(g.linear is not None for g in source.groups))
    with torch.no_grad():
        bias: dict[str, Tensor] = {}
        spans = spans_of(allocation.entries)
        for entry in allocation.entries:
            old = {name: tensor[entry.start : entry.stop] for name, tensor in source_weights[entry.table].items()}
            cut = entry_cut(entry, old, means, counts[entry.table][entry.start : entry.stop], factors, spans)
            _cut_table(old, tables, entry, cut)
            if entry.table not in spans:
                bias |= cut.bias
        if tables.bias is not None:
            for row, position in enumerate(tables.biased):
                tables.bias[row] = padded(bias[layout.slots[position].name], layout.common)
    return Network(tables.to(next(iter(source.buffers())).device), model or copy.deepcopy(network.model))


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
    spans: Spans | None = None,
) -> Cut:
    """The cut that an entry means.

    Args:
        entry: of the allocation.
        old: the rows of the uniform table that the entry is about, `weight` n x D.
        means: see `cut_network`.
        counts: training count of each row, n.
        factors: see `cut_network`.
        spans: the blocks of the allocation's cut tables; means and factors of theirs stand under the blocks' names.

    Raises:
        RunError: a spectral cut without factors.
    """
    weight, spans = old["weight"], spans or {}
    if entry.width == 0:
        empty = weight.new_zeros(weight.shape[1], 0)
        return Cut(empty, empty.T, {s: means[item(s, entry, spans)] for s in entry.slots} if entry.bias else {})
    if not entry.projected:
        return Cut(None, None, {})
    if entry.bias:
        name = item(entry.table, entry, spans)
        if factors is None or name not in factors:
            raise RunError(f"widths: table {name} has a projection and a bias, a spectral cut; found no statistics")
        found = factors[name]
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


def _cut_table(old: Mapping[str, Tensor], target: Tables, entry: Entry, cut: Cut) -> None:
    block, common = entry.block, target.layout.common
    group = target.group_of(block)
    if group is None:
        return
    rows = group.rows_of(block)
    if group.linear is not None:
        group.linear[rows, 0] = old["linear"]
    if group.offset is not None:
        for reader, number in enumerate(group.block_of):
            if number == group.index_of(block):
                group.offset[reader] = padded(cut.bias[target.layout.slots[group.positions[reader]].name], common)
    if group.weight is None:
        return
    weight = old["weight"]
    if group.projection is None or cut.encoder is None or cut.decoder is None:
        group.weight[rows] = padded(weight, common)
        return
    group.weight[rows] = (weight.to(cut.encoder.dtype) @ cut.encoder).to(weight.dtype)
    group.projection[group.index_of(block)] = padded(cut.decoder.to(weight.dtype), common)


def padded(values: Tensor, width: int) -> Tensor:
    """... x D -> ... x width, zeros at the end."""
    return F.pad(values, (0, width - values.shape[-1])) if values.shape[-1] < width else values


def selection(kept: tuple[int, ...], common: int, like: Tensor) -> Tensor:
    """D x d matrix that picks the kept dimensions."""
    basis = like.new_zeros(common, len(kept))
    basis[list(kept), range(len(kept))] = 1.0
    return basis
