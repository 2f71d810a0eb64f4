"""The embedding tables of one model: uniform or mixed widths behind one face.

Blocks of one width lie in one tensor (a *group*) with a row offset per slot, so that a batch costs a few large
operations whatever the number of slots. Tables never receive a dense gradient: a lookup hands the model *leaves*
(pooled vectors before any projection), and afterwards turns the leaves' gradients into one coalesced sparse gradient
over the batch's unique rows.

Letters: B examples, S slots, S_g slots of a group, w its width, D common width, n_g rows of a group.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autodim.data.batch import Batch
from autodim.embedding.layout import Block, Layout
from autodim.embedding.rows import UniqueRows, take_rows, unique_rows
from autodim.embedding.vectors import Concatenated, SlotVectors, Stacked


class Group(nn.Module):
    """All blocks of one width, in one tensor.

    Attributes:
        weight: n_g x w (None when w = 0).
        linear: n_g x 1 first-order weights (None when the model has none).
        projection: blocks x w x D (None: identity).
        positions: the slots' positions in the layout: first the one-hot ones, then the multi-valued ones.
        bases: the first row of each slot's table, in the order of `positions`.
    """

    bases: Tensor
    columns: Tensor

    def __init__(self, layout: Layout, blocks: Sequence[Block], linear: bool):
        super().__init__()
        self.width = blocks[0].width
        self.blocks = tuple(blocks)
        start, first = 0, {}
        for block in blocks:
            first[block.table] = start
            start += block.rows
        self.first = first
        rows = start
        slots = [(i, s) for i, s in enumerate(layout.slots) if s.table in first]
        one_hot = [(i, s) for i, s in slots if not s.multi]
        self.multi = [s for _, s in slots if s.multi]
        ordered = one_hot + [(i, s) for i, s in slots if s.multi]
        self.positions = [i for i, _ in ordered]
        self.one_hot = len(one_hot)
        column = {s.name: k for k, s in enumerate(s for s in layout.slots if not s.multi)}
        columns = [column[s.name] for _, s in one_hot]
        self.all_columns = columns == list(range(len(column)))
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.long), persistent=False)
        bases = torch.tensor([first[s.table] for _, s in ordered], dtype=torch.int32 if rows < 2**31 else torch.int64)
        self.register_buffer("bases", bases, persistent=False)
        self.weight = nn.Parameter(torch.zeros(rows, self.width)) if self.width else None
        self.linear = nn.Parameter(torch.zeros(rows, 1)) if linear else None
        self.projection = None
        if self.width and blocks[0].projected:
            self.projection = nn.Parameter(torch.zeros(len(blocks), self.width, layout.common))
        index = {b.table: k for k, b in enumerate(blocks)}
        self.block_of = [index[s.table] for _, s in ordered]
        self.one_block_a_slot = self.block_of == list(range(len(blocks)))

    def rows_of(self, block: Block) -> slice:
        """Where a block's rows lie in the group's tensors."""
        start = self.first[block.table]
        return slice(start, start + block.rows)

    def projections(self) -> Tensor | None:
        """S_g x w x D, one per slot; slots that share a table share its projection."""
        if self.projection is None or self.one_block_a_slot:
            return self.projection
        return self.projection.index_select(0, torch.tensor(self.block_of, device=self.projection.device))


class GroupLookup:
    """One group's part of a lookup: which rows a batch reads, and the leaves that the gradients come back to."""

    def __init__(self, group: Group, batch: Batch, learn: bool):
        self.group = group
        self.batch = len(batch)
        ids = batch.ids if group.all_columns else batch.ids.index_select(1, group.columns)
        rows = [(ids + group.bases[: group.one_hot]).flatten()]  # B * S1_g, example-major
        factors: list[Tensor] = []
        sources: list[Tensor] = []
        width = len(group.positions)
        for k, slot in enumerate(group.multi, start=group.one_hot):
            bag = batch.bags[slot.name]
            lengths = bag.offsets.diff()
            bag_of = torch.repeat_interleave(
                torch.arange(self.batch, device=lengths.device), lengths, output_size=bag.values.shape[0]
            )
            factor = torch.ones_like(bag.values, dtype=torch.float32) if bag.weights is None else bag.weights
            if slot.pooling == "mean":
                factor = factor / lengths.clamp(min=1).index_select(0, bag_of)
            rows.append(bag.values + group.bases[k])
            factors.append(factor)
            sources.append(bag_of * width + k)
        self.bag_rows, self.bag_factors = rows[1:], factors
        self.bag_offsets = [batch.bags[s.name].offsets for s in group.multi]
        self.rows = torch.cat(rows) if len(rows) > 1 else rows[0]
        self.source: Tensor | None = None
        self.factors: Tensor | None = None
        if group.multi:
            base = torch.arange(self.batch, device=ids.device)[:, None] * width
            one_hot = (base + torch.arange(group.one_hot, device=ids.device)).flatten()
            self.source = torch.cat([one_hot, *sources])
            self.factors = torch.cat([torch.ones_like(one_hot, dtype=torch.float32), *factors])
        self.vectors = None if group.weight is None else self._read(group.weight, learn)  # B x S_g x w
        self.linear = None if group.linear is None else self._read(group.linear, learn)  # B x S_g x 1
        self._unique: UniqueRows | None = None

    def _read(self, weight: Tensor, learn: bool) -> Tensor:
        weight = weight.detach()
        count = self.batch * self.group.one_hot
        out = take_rows(weight, self.rows[:count]).view(self.batch, self.group.one_hot, weight.shape[1])
        if self.group.multi:
            bags = [
                F.embedding_bag(
                    rows.long(), weight, offsets.long(), mode="sum", per_sample_weights=f, include_last_offset=True
                )
                for rows, offsets, f in zip(self.bag_rows, self.bag_offsets, self.bag_factors, strict=True)
            ]
            out = torch.cat([out, torch.stack(bags, dim=1)], dim=1)  # B x S_g x w
        return out.requires_grad_(learn)

    @property
    def unique(self) -> UniqueRows:
        """The group's rows of this batch, grouped; computed once."""
        if self._unique is None:
            self._unique = unique_rows(self.rows)
        return self._unique

    def row_gradient(self, gradient: Tensor) -> Tensor:
        """B x S_g x w at the leaf -> U x w at the unique rows."""
        return self.unique.sum(gradient.reshape(-1, gradient.shape[-1]), self.source, self.factors)

    def spread(self, per_row: Tensor) -> Tensor:
        """U x w at the unique rows -> B x S_g x w at the leaf (what adding it to the rows adds to the vectors)."""
        values = per_row.index_select(0, self.unique.inverse())  # K x w
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
        self.groups = [GroupLookup(g, batch, learn) for g in tables.groups]  # type: ignore[arg-type]
        self.leaves = [g.vectors for g in self.groups if g.vectors is not None]
        self.leaves += [g.linear for g in self.groups if g.linear is not None]
        self._parameters = [g.group.weight for g in self.groups if g.vectors is not None]
        self._parameters += [g.group.linear for g in self.groups if g.linear is not None]
        self._parts = [g for g in self.groups if g.vectors is not None]
        self._parts += [g for g in self.groups if g.linear is not None]

    def inputs(self, leaves: Sequence[Tensor] | None = None) -> tuple[SlotVectors, Tensor | None]:
        """What the model reads: the slot vectors, and the first-order terms B x S (None when there are none).

        Args:
            leaves: stand-ins for the leaves (a perturbed second pass); default: the leaves.
        """
        leaves = self.leaves if leaves is None else leaves
        wide = [g for g in self.groups if g.vectors is not None]
        vectors = self._vectors(wide, leaves[: len(wide)])
        first = leaves[len(wide) :]
        if not first:
            return vectors, None
        linear = first[0] if len(first) == 1 else torch.cat(list(first), dim=1)
        linear = linear.squeeze(-1)
        return vectors, linear if self.tables.in_order else linear.index_select(1, self.tables.restore)

    def _vectors(self, wide: list[GroupLookup], leaves: Sequence[Tensor]) -> SlotVectors:
        tables = self.tables
        if tables.plain and len(wide) == 1:
            return Stacked(leaves[0])
        groups = [(leaf, g.group.projections(), g.group.positions) for leaf, g in zip(leaves, wide, strict=True)]
        like = leaves[0] if leaves else tables.restore.new_zeros((), dtype=torch.float32)
        return Concatenated(groups, tables.slot_bias(), self.size, len(tables.layout.slots), tables.layout.common, like)

    def assign(self, gradients: Sequence[Tensor | None]) -> None:
        """Give each table its sparse gradient over the unique rows, from the gradients at the leaves."""
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


class Tables(nn.Module):
    """The embedding side of a model.

    Args:
        layout: slots, tables, blocks and the common width.
        linear: also keep a width-1 table of first-order weights for every id (FM, DeepFM, Wide & Deep).

    Weights start at zero; `initialise` draws them, or a warm start fills them.

    Raises:
        ValueError: a table is cut into several blocks, which this class does not train.
    """

    restore: Tensor
    bias_mask: Tensor

    def __init__(self, layout: Layout, linear: bool = False):
        super().__init__()
        if any(len(layout.blocks_of(t.name)) != 1 for t in layout.tables):
            raise ValueError("each table must be exactly one block; frequency blocks are not trained yet")
        self.layout = layout
        kinds = sorted({(b.width, b.projected) for b in layout.blocks})
        groups = [
            Group(layout, [b for b in layout.blocks if (b.width, b.projected) == kind], linear)
            for kind in kinds
            if kind[0] or linear
        ]
        self.groups = nn.ModuleList(groups)
        order = [p for g in groups for p in g.positions]
        self.in_order = order == sorted(order)
        restore = torch.tensor(sorted(range(len(order)), key=order.__getitem__), dtype=torch.long)
        self.register_buffer("restore", restore, persistent=False)
        biased = [s.table in {b.table for b in layout.blocks if b.bias} for s in layout.slots]
        self.bias = nn.Parameter(torch.zeros(sum(biased), layout.common)) if any(biased) else None
        self.biased = [i for i, b in enumerate(biased) if b]
        # plain: every slot in one unprojected tensor in the layout's order, so the leaf itself is the stack
        wide = [g for g in groups if g.width]
        self.plain = (
            len(wide) == 1
            and wide[0].projection is None
            and wide[0].positions == list(range(len(layout.slots)))
            and self.bias is None
        )

    def lookup(self, batch: Batch, learn: bool = False) -> Lookup:
        """Look up all slots of a batch, once; `learn` makes the leaves ask for gradients."""
        return Lookup(self, batch, learn)

    def slot_bias(self) -> Tensor | None:
        """S x D constants added to the slot vectors, or None."""
        if self.bias is None:
            return None
        if len(self.biased) == len(self.layout.slots):
            return self.bias
        index = torch.tensor(self.biased, device=self.bias.device)
        return self.bias.new_zeros(len(self.layout.slots), self.layout.common).index_copy(0, index, self.bias)

    def initialise(self, std: float, generator: torch.Generator) -> None:
        """Draw fresh weights: rows N(0, std), the out-of-vocabulary row and first-order weights zero, projections
        N(0, 1/w), so that projected vectors start with the same spread."""
        with torch.no_grad():
            for block in self.layout.blocks:
                group = self.group_of(block)
                if group is None or group.weight is None:
                    continue
                rows = group.weight[group.rows_of(block)]
                if rows.device == generator.device:
                    rows.normal_(std=std, generator=generator)  # in place: a copy of a large table would stay resident
                else:
                    rows.copy_(torch.randn(rows.shape, generator=generator) * std)
                rows[:1].zero_()
                if group.projection is not None:
                    part = group.projection[group.blocks.index(block)]
                    part.copy_(torch.randn(part.shape, generator=generator) / block.width**0.5)

    def group_of(self, block: Block) -> Group | None:
        """The group that holds a block; None for a slot without any weights."""
        for group in self.groups:
            if block in group.blocks:  # type: ignore[operator]
                return group  # type: ignore[return-value]
        return None

    def table_parameters(self) -> list[nn.Parameter]:
        """What receives sparse gradients: tables and first-order weights."""
        return [p for g in self.groups for p in (g.weight, g.linear) if p is not None]  # type: ignore[misc]

    def linear_parameters(self) -> list[nn.Parameter]:
        """The first-order weights among them: reported, never cut."""
        return [g.linear for g in self.groups if g.linear is not None]  # type: ignore[misc]

    def dense_parameters(self) -> list[nn.Parameter]:
        """What receives dense gradients: projections and biases."""
        found = [g.projection for g in self.groups if g.projection is not None]
        return [*found, *([] if self.bias is None else [self.bias])]  # type: ignore[list-item]

    def read(self, table: str) -> dict[str, Tensor]:
        """One table's own tensors: `weight` n x w, `projection` w x D, `linear` n, each where it exists."""
        block = self.layout.blocks_of(table)[0]
        group = self.group_of(block)
        if group is None:
            return {}
        out = {}
        if group.weight is not None:
            out["weight"] = group.weight.detach()[group.rows_of(block)]
        if group.projection is not None:
            out["projection"] = group.projection.detach()[group.blocks.index(block)]
        if group.linear is not None:
            out["linear"] = group.linear.detach()[group.rows_of(block), 0]
        return out
