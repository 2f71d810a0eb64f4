"""All blocks of one width in one tensor: what a batch reads with a few large operations, whatever the number of slots.

Letters: S_g slots of a group, w its width, D common width, n_g its rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from autodim.embedding.layout import Block, Layout


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
