"""One batch's rows, looked up once: the leaves that a model reads from, and the way back of their gradients.

A lookup hands the model *leaves* (pooled vectors before any projection), and afterwards turns the leaves' gradients
into one coalesced sparse gradient over the batch's unique rows. Dense gradients over whole tables never exist.

Letters: B examples, S slots, S_g slots of a group, w its width, D common width, K looked-up ids, U unique rows.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from autodim.data.batch import Batch
from autodim.embedding.group import Group
from autodim.embedding.parts import KeptIds
from autodim.embedding.rows import UniqueRows, take_rows, unique_rows
from autodim.embedding.vectors import Concatenated, SlotVectors, Stacked

if TYPE_CHECKING:
    from autodim.embedding.tables import Tables


def one_hot_ids(group: Group, batch: Batch) -> Tensor:
    """The ids of a group's one-hot readers, B x S1_g."""
    return batch.ids if group.all_columns else batch.ids.index_select(1, group.columns)


def looked_up(group: Group, batch: Batch) -> list[Tensor]:
    """Rows that a batch reads of a group whose readers hold every id: B * S1_g of its one-hot readers, example-major,
    then those of each bag."""
    bases, bags = group.bases, [batch.bags[slot.name].values for slot in group.multi]
    one_hot = (one_hot_ids(group, batch) + bases[: group.one_hot]).flatten()
    return [one_hot, *(values + bases[k] for k, values in enumerate(bags, start=group.one_hot))]


class GroupLookup:
    """One group's part of a lookup: which rows a batch reads, and the leaves that the gradients come back to."""

    def __init__(self, group: Group, batch: Batch, learn: bool):
        self.group = group
        self.batch = len(batch)
        rows = looked_up(group, batch)
        # ids that blocks of rows hold
        self.kept = KeptIds(group, one_hot_ids(group, batch)) if group.partial else None
        if self.kept is not None:
            rows[0] = rows[0].index_select(0, self.kept.places)
        factors: list[Tensor] = []
        offsets: list[Tensor] = []
        sources: list[Tensor] = []
        width = len(group.positions)
        kind = group.dtype
        for number, slot in enumerate(group.multi, start=1):
            k, bag = group.one_hot + number - 1, batch.bags[slot.name]
            lengths = bag.offsets.diff()
            bag_of = torch.repeat_interleave(
                torch.arange(self.batch, device=lengths.device), lengths, output_size=bag.values.shape[0]
            )
            factor = torch.ones_like(bag.values, dtype=kind) if bag.weights is None else bag.weights.to(kind)
            if slot.pooling == "mean":
                factor = factor / lengths.clamp(min=1).index_select(0, bag_of)
            starts = bag.offsets
            if self.kept is not None:
                held = self.kept.bag(k, bag.values, rows[number], starts, factor, bag_of)
                rows[number], starts, factor, bag_of = held
            factors.append(factor)
            offsets.append(starts)
            sources.append(bag_of * width + k)
        self.bag_rows, self.bag_factors, self.bag_offsets = rows[1:], factors, offsets
        self.one_hot_rows = rows[0]
        self.rows = torch.cat(rows) if len(rows) > 1 else rows[0]
        self.source: Tensor | None = None
        self.factors: Tensor | None = None
        if group.multi or self.kept is not None:
            base = torch.arange(self.batch, device=self.rows.device)[:, None] * width
            one_hot = (base + torch.arange(group.one_hot, device=self.rows.device)).flatten()
            if self.kept is not None:
                one_hot = one_hot.index_select(0, self.kept.places)
            self.source = torch.cat([one_hot, *sources])
            self.factors = torch.cat([torch.ones_like(one_hot, dtype=kind), *factors])
        self.vectors = None if group.weight is None else self._read(group.weight, learn)  # B x S_g x w
        self.linear = None if group.linear is None else self._read(group.linear, learn)  # B x S_g x 1
        self._grouping = batch.grouped.get(group)
        self._unique: UniqueRows | None = None

    def _read(self, weight: Tensor, learn: bool) -> Tensor:
        weight = weight.detach()
        out = take_rows(weight, self.one_hot_rows)
        if self.kept is not None:
            out = self.kept.spread(out, self.batch * self.group.one_hot)
        out = out.view(self.batch, self.group.one_hot, weight.shape[1])
        if self.group.multi:
            bags = [
                F.embedding_bag(
                    rows.long(), weight, offsets.long(), mode="sum", per_sample_weights=f, include_last_offset=True
                )
                for rows, offsets, f in zip(self.bag_rows, self.bag_offsets, self.bag_factors, strict=True)
            ]
            out = torch.cat([out, torch.stack(bags, dim=1)], dim=1)  # B x S_g x w
        return out.requires_grad_(learn)

    def mapped(self, leaf: Tensor | None, piece: slice | None = None) -> tuple[Tensor, Tensor | None, list[int]]:
        """What `Concatenated` reads of the group: vectors B x S_g x w, projections S_g x w x D or None, positions.

        The offset of a block is one more row of its projection, and the mass of its ids one more number of the vector:
        `v P + m c = [v, m] [P; c]`.

        Args:
            piece: which of the batch's rows the leaf has; default: all.
        """
        group, projection = self.group, self.group.projections()
        if group.offset is None:
            assert leaf is not None
            return leaf, projection, group.positions
        mass = self.masses if piece is None else self.masses[piece]  # B x S_g x 1
        offset = group.offset[:, None]  # S_g x 1 x D
        if leaf is None or projection is None:
            return mass, offset, group.positions
        return torch.cat([leaf, mass], dim=2), torch.cat([projection, offset], dim=1), group.positions

    @cached_property
    def masses(self) -> Tensor:
        """How much of each reader's vector is its block's, B x S_g x 1 (see `KeptIds.masses`)."""
        assert self.kept is not None, "offsets belong to blocks that are a part of their table"
        return self.kept.masses(self.batch, self.bag_factors, self.bag_offsets)

    @property
    def unique(self) -> UniqueRows:
        """The group's rows of this batch, grouped; computed once."""
        if self._unique is None:
            self._unique = unique_rows(self.rows) if self._grouping is None else self._grouping.finish()
        return self._unique

    def row_gradient(self, gradient: Tensor) -> Tensor:
        """B x S_g x w at the leaf -> U x w at the unique rows; what is U x w already stays as it is."""
        if gradient.dim() == 2:
            return gradient
        return self.unique.sum(gradient.reshape(-1, gradient.shape[-1]), self.source, self.factors)

    def spread(self, per_row: Tensor) -> Tensor:
        """U x w at the unique rows -> B x S_g x w at the leaf (what adding it to the rows adds to the vectors)."""
        values = take_rows(per_row, self.unique.inverse())  # K x w
        if self.source is None or self.factors is None:
            return values.view(self.batch, len(self.group.positions), -1)
        flat = values.new_zeros(self.batch * len(self.group.positions), values.shape[1])
        flat.index_add_(0, self.source, values * self.factors[:, None])
        return flat.view(self.batch, len(self.group.positions), -1)


class Lookup:
    """All slots of one batch, looked up once.

    Attributes:
        groups: one part per width.
        leaves: what the gradients are asked at: the groups' vectors, then their linear terms.
    """

    def __init__(self, tables: Tables, batch: Batch, learn: bool):
        self.tables = tables
        self.size = len(batch)
        self._piece: slice | None = None
        self.groups = [GroupLookup(g, batch, learn) for g in tables.groups]  # type: ignore[arg-type]
        self.leaves = [g.vectors for g in self.groups if g.vectors is not None]
        self.leaves += [g.linear for g in self.groups if g.linear is not None]
        self._parameters = [g.group.weight for g in self.groups if g.vectors is not None]
        self._parameters += [g.group.linear for g in self.groups if g.linear is not None]
        self._parts = [g for g in self.groups if g.vectors is not None]
        self._parts += [g for g in self.groups if g.linear is not None]

    def piece(self, rows: slice) -> Lookup:
        """The same lookup, asked for `inputs` at stand-ins for the leaves' rows `rows`."""
        found = copy.copy(self)
        found.size, found._piece = rows.stop - rows.start, rows
        return found

    def inputs(self, leaves: Sequence[Tensor] | None = None) -> tuple[SlotVectors, Tensor | None]:
        """What the model reads: the slot vectors, and the first-order terms B x S (None when there are none).

        Args:
            leaves: stand-ins for the leaves (a perturbed second pass; of a `piece`, its rows); default: the leaves.
        """
        leaves = self.leaves if leaves is None else leaves
        wide = [g for g in self.groups if g.vectors is not None]
        vectors = self._vectors(wide, leaves[: len(wide)])
        first = leaves[len(wide) :]
        if not first:
            return vectors, None
        linear = first[0] if len(first) == 1 else torch.cat(list(first), dim=1)
        return vectors, self.tables.by_slot(linear.squeeze(-1))

    def _vectors(self, wide: list[GroupLookup], leaves: Sequence[Tensor]) -> SlotVectors:
        tables = self.tables
        if tables.plain and len(wide) == 1:
            return Stacked(leaves[0])
        given = iter(leaves)
        groups = [
            g.mapped(None if g.vectors is None else next(given), self._piece)
            for g in self.groups
            if g.vectors is not None or g.group.offset is not None
        ]
        like = leaves[0] if leaves else tables.restore.new_zeros((), dtype=torch.float32)
        layout = tables.layout
        bias = tables.slot_bias()
        return Concatenated(groups, bias, self.size, len(layout.slots), layout.common, like, tables.overlap)

    def assign(self, gradients: Sequence[Tensor | None]) -> None:
        """Give each table its sparse gradient over the unique rows, from the gradients at the leaves (or at their
        unique rows, where a weighting has summed them already)."""
        for part, parameter, gradient in zip(self._parts, self._parameters, gradients, strict=True):
            assert parameter is not None
            if gradient is None:
                parameter.grad = None
                continue
            parameter.grad = torch.sparse_coo_tensor(
                part.unique.rows[None],
                part.row_gradient(gradient),
                parameter.shape,
                check_invariants=False,
                is_coalesced=True,
            )
