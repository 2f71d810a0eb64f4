"""The embedding tables of one model: uniform or mixed widths behind one face.

Blocks of one width lie in one tensor (a *group*) with a row offset per slot. `lookup` reads a batch; `lookup.py` tells
how gradients come back over its unique rows.

Letters: S slots, w width of a group, D common width, n rows of a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autodim.data.batch import Batch
from autodim.embedding.group import Group, part_bias
from autodim.embedding.layout import Block, Layout
from autodim.embedding.lookup import Lookup


class Tables(nn.Module):
    """The embedding side of a model.

    Args:
        layout: slots, tables, blocks and the common width.
        linear: also keep a width-1 table of first-order weights for every id (FM, DeepFM, Wide & Deep).

    Weights start at zero; `initialise` draws them, or a warm start fills them.

    A table that is cut into blocks of rows is read block by block: each of its slots has one vector a block, zero where
    the block does not hold the example's id, and their sum is the slot's vector (see `parts.py`).

    Raises:
        ValueError: the blocks of a table do not follow each other from its first row to its last.
    """

    restore: Tensor
    bias_slots: Tensor

    def __init__(self, layout: Layout, linear: bool = False):
        super().__init__()
        check_blocks(layout)
        self.layout = layout
        sizes = {t.name: t.rows for t in layout.tables}
        kinds: dict[tuple[int, bool, bool], list[Block]] = {}
        for block in layout.blocks:
            kinds.setdefault((block.width, block.projected, part_bias(block, sizes)), []).append(block)
        groups = [
            Group(layout, blocks, linear)
            for (width, _, offset), blocks in sorted(kinds.items())
            if width or linear or offset
        ]
        self.groups = nn.ModuleList(groups)
        order = [p for g in groups for p in g.positions]
        self.in_order = all(a < b for a, b in pairwise(order))
        self.register_buffer("restore", columns_by_slot(order), persistent=False)
        whole = {b.table for b in layout.blocks if b.bias and not part_bias(b, sizes)}
        biased = [s.table in whole for s in layout.slots]
        cut = {b.table for b in layout.blocks if b.rows != sizes[b.table]}
        self.overlap = any(s.multi and s.table in cut for s in layout.slots)
        self.bias = nn.Parameter(torch.zeros(sum(biased), layout.common)) if any(biased) else None
        self.biased = [i for i, b in enumerate(biased) if b]
        self.register_buffer("bias_slots", torch.tensor(self.biased, dtype=torch.long), persistent=False)
        # plain: every slot in one unprojected tensor in the layout's order, so the leaf itself is the stack
        wide = [g for g in groups if g.width]
        self.plain = (
            len(wide) == 1
            and wide[0].projection is None
            and wide[0].positions == list(range(len(layout.slots)))
            and self.bias is None
            and all(g.offset is None for g in groups)
        )

    def lookup(self, batch: Batch, learn: bool = False) -> Lookup:
        """Look up all slots of a batch, once; `learn` makes the leaves ask for gradients."""
        return Lookup(self, batch, learn)

    def by_slot(self, columns: Tensor) -> Tensor:
        """First-order terms in the order of the groups' readers -> B x S; those of a slot's blocks add up."""
        if self.in_order:
            return columns
        if self.restore.dim() == 1:
            return columns.index_select(1, self.restore)
        padded = F.pad(columns, (0, 1))  # the last column is zero
        return padded.index_select(1, self.restore.flatten()).unflatten(1, self.restore.shape).sum(2)

    def slot_bias(self) -> Tensor | None:
        """S x D constants added to the slot vectors, or None."""
        if self.bias is None:
            return None
        if len(self.biased) == len(self.layout.slots):
            return self.bias
        return self.bias.new_zeros(len(self.layout.slots), self.layout.common).index_copy(0, self.bias_slots, self.bias)

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
                if block.start == 0:
                    rows[:1].zero_()
                if group.projection is not None:
                    part = group.projection[group.index_of(block)]
                    part.copy_(torch.randn(part.shape, generator=generator) / block.width**0.5)

    def group_of(self, block: Block) -> Group | None:
        """The group that holds a block; None for a slot without any weights."""
        for group in self.groups:
            if group.holds(block):  # type: ignore[operator]
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
        found = [p for g in self.groups for p in (g.projection, g.offset) if p is not None]
        return [*found, *([] if self.bias is None else [self.bias])]  # type: ignore[list-item]

    def read(self, table: str) -> dict[str, Tensor]:
        """A whole table's own tensors: `weight` n x w, `projection` w x D, `linear` n, each where it exists."""
        blocks = self.layout.blocks_of(table)
        assert len(blocks) == 1, f"table {table} is cut into blocks; read them one by one"
        return self.read_block(blocks[0])

    def read_block(self, block: Block) -> dict[str, Tensor]:
        """One block's own tensors, as `read`; and its offset per slot, `offset/SLOT` D, where it has any."""
        group = self.group_of(block)
        if group is None:
            return {}
        out = {}
        if group.weight is not None:
            out["weight"] = group.weight.detach()[group.rows_of(block)]
        if group.projection is not None:
            out["projection"] = group.projection.detach()[group.index_of(block)]
        if group.linear is not None:
            out["linear"] = group.linear.detach()[group.rows_of(block), 0]
        if group.offset is not None:
            for reader, number in enumerate(group.block_of):
                if number == group.index_of(block):
                    out[f"offset/{self.layout.slots[group.positions[reader]].name}"] = group.offset.detach()[reader]
        return out


def check_blocks(layout: Layout) -> None:
    """Raises ValueError where the blocks of a table do not cover its rows, one after the other."""
    edges: dict[str, int] = {}
    for block in layout.blocks:
        if block.start != edges.get(block.table, 0) or block.stop < block.start:
            raise ValueError(f"table {block.table}: a block [{block.start}, {block.stop}) is out of order")
        edges[block.table] = block.stop
    for table in layout.tables:
        if edges.get(table.name) != table.rows:
            raise ValueError(f"table {table.name}: its blocks end at {edges.get(table.name)}, it has {table.rows} rows")


def columns_by_slot(order: Sequence[int]) -> Tensor:
    """Which columns hold each slot's terms: S, or S x R where some slot has R of them (missing ones: one past the end).

    Args:
        order: the slot of each column.
    """
    found: dict[int, list[int]] = {}
    for column, slot in enumerate(order):
        found.setdefault(slot, []).append(column)
    most = max((len(c) for c in found.values()), default=1)
    index = torch.tensor([found[s] + [len(order)] * (most - len(found[s])) for s in sorted(found)], dtype=torch.long)
    return index.view(-1, most) if most > 1 else index.view(-1)
