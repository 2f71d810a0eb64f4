"""The embedding tables of one model: uniform or mixed widths behind one face.

Blocks of one width lie in one tensor (a *group*) with a row offset per slot. `lookup` reads a batch; `lookup.py` tells
how gradients come back over its unique rows.

Letters: S slots, w width of a group, D common width, n rows of a table.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autodim.data.batch import Batch
from autodim.embedding.group import Group
from autodim.embedding.layout import Block, Layout
from autodim.embedding.lookup import Lookup


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
