"""All blocks of one width in one tensor: what a batch reads with a few large operations, whatever the number of slots.

A slot whose table is cut into blocks stands in a group once for each of its blocks there: a *reader* is such a pair.
Without frequency blocks readers are slots.

Letters: S_g readers of a group, w its width, D common width, n_g its rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from autodim.embedding.layout import Block, Layout


class Group(nn.Module):
    """All blocks of one width, in one tensor.

    Attributes:
        weight: n_g x w (None when w = 0).
        linear: n_g x 1 first-order weights (None when the model has none).
        projection: blocks x w x D (None: identity).
        offset: S_g x D, the biases of blocks that are a part of their table: added once for each id that the block
            holds (and not to every example, as the bias of a whole table is). None where no such block has one.
        positions: the readers' slots, as positions in the layout: first the one-hot ones, then the multi-valued ones.
        bases: what is added to an id of each reader to get its row, in the order of `positions`.
        partial: some block is a part of its table, so that a reader does not hold every id.
        bounds: 2 x S_g, the ids that each reader holds (from, to).
        starts: the first row of each block.
    """

    bases: Tensor
    columns: Tensor
    bounds: Tensor
    projected_by: Tensor

    def __init__(self, layout: Layout, blocks: Sequence[Block], linear: bool):
        super().__init__()
        self.width = blocks[0].width
        self.blocks = tuple(blocks)
        rows, self.starts = 0, []
        at: dict[str, list[int]] = {}  # table -> its blocks here
        for k, block in enumerate(blocks):
            at.setdefault(block.table, []).append(k)
            self.starts.append(rows)
            rows += block.rows
        self._index = {block: k for k, block in enumerate(blocks)}
        readers = [(i, s, k) for i, s in enumerate(layout.slots) for k in at.get(s.table, ())]
        one_hot = [r for r in readers if not r[1].multi]
        ordered = one_hot + [r for r in readers if r[1].multi]
        self.multi = [s for _, s, _ in ordered[len(one_hot) :]]
        self.positions = [i for i, _, _ in ordered]
        self.one_hot = len(one_hot)
        column = {s.name: k for k, s in enumerate(s for s in layout.slots if not s.multi)}
        columns = [column[s.name] for _, s, _ in one_hot]
        self.all_columns = columns == list(range(len(column)))
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.long), persistent=False)
        kind = torch.int32 if rows < 2**31 else torch.int64
        self.block_of = [k for _, _, k in ordered]
        bases = torch.tensor([self.starts[k] - blocks[k].start for k in self.block_of], dtype=kind)
        self.register_buffer("bases", bases, persistent=False)
        sizes = {t.name: t.rows for t in layout.tables}
        self.partial = any(b.rows != sizes[b.table] for b in blocks)
        bounds = torch.tensor([[blocks[k].start, blocks[k].stop] for k in self.block_of]).view(-1, 2).T.contiguous()
        self.register_buffer("bounds", bounds, persistent=False)
        offset = part_bias(blocks[0], sizes)
        self.offset = nn.Parameter(torch.zeros(len(ordered), layout.common)) if offset else None
        self.weight = nn.Parameter(torch.zeros(rows, self.width)) if self.width else None
        self.linear = nn.Parameter(torch.zeros(rows, 1)) if linear else None
        self.projection = None
        if self.width and blocks[0].projected:
            self.projection = nn.Parameter(torch.zeros(len(blocks), self.width, layout.common))
        self.one_block_a_slot = self.block_of == list(range(len(blocks)))
        self.register_buffer("projected_by", torch.tensor(self.block_of, dtype=torch.long), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """Of its numbers."""
        return next(p.dtype for p in (self.weight, self.linear, self.offset) if p is not None)

    def rows_of(self, block: Block) -> slice:
        """Where a block's rows lie in the group's tensors."""
        start = self.starts[self._index[block]]
        return slice(start, start + block.rows)

    def index_of(self, block: Block) -> int:
        """Which of the group's blocks it is."""
        return self._index[block]

    def holds(self, block: Block) -> bool:
        """Whether the block lies here."""
        return block in self._index

    def projections(self) -> Tensor | None:
        """S_g x w x D, one per slot; slots that share a table share its projection."""
        if self.projection is None or self.one_block_a_slot:
            return self.projection
        return self.projection.index_select(0, self.projected_by)


def part_bias(block: Block, sizes: Mapping[str, int]) -> bool:
    """Whether a block has a bias that counts only for its own ids (it is a part of its table).

    Args:
        sizes: rows of each table.
    """
    return block.bias and block.rows != sizes[block.table]
