"""A supernet: one network trained at random prefix widths of its slots, a fresh draw each batch.

Lyu et al., OptEmbed: Learning Optimal Embedding Table for Click-through Rate Prediction, CIKM 2022, arXiv 2208.04482,
section 2.3: an embedding masked to its first d dimensions, d uniform, so that every width can be judged without a
training of its own.

Letters: S slots, D common width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from autodim.data.batch import Batch
from autodim.embedding.lookup import Lookup
from autodim.embedding.tables import Tables
from autodim.embedding.vectors import Stacked
from autodim.training.network import Network


def prefix_masks(widths: Tensor, common: int) -> Tensor:
    """S widths -> S x D: 1 for the first `width` dimensions, 0 for the rest."""
    return (torch.arange(common, device=widths.device) < widths[:, None]).float()


class PrefixNetwork(Network):
    """While it trains, each table shows a random prefix of its dimensions, 0 to D; in evaluation it shows all.

    The draw comes from torch's own generator, which the step seeds: the same step of the same training draws the same.

    Args:
        tables: uniform.

    Differs from the paper: width 0 is drawn too, since the budget may drop a slot, and rows are not masked (OptEmbed's
    other half); slots that share a table share the draw.
    """

    def __init__(self, tables: Tables, model: nn.Module):
        super().__init__(tables, model)
        names = [t.name for t in tables.layout.tables]
        self.table_of = [names.index(s.table) for s in tables.layout.slots]

    def logits(self, lookup: Lookup, batch: Batch, leaves: Sequence[Tensor] | None = None) -> Tensor:
        if not self.training:
            return super().logits(lookup, batch, leaves)
        slots, linear = lookup.inputs(leaves)
        layout = self.tables.layout
        drawn = torch.randint(0, layout.common + 1, (len(layout.tables),))[self.table_of]
        vectors = slots.stack()
        masks = prefix_masks(drawn, layout.common).to(vectors)
        return self.model(Stacked(vectors * masks), linear, batch.numeric)
