"""A network whose embeddings pass a learned soft threshold (PEP).

Liu et al., Learnable Embedding Sizes for Recommender Systems, ICLR 2021, arXiv 2101.07577, equation 6:
`S(V, s) = sign(V) ReLU(|V| - g(s))`, g the sigmoid, s trained with everything else.

Letters: B examples, S slots, D common width, n rows of a table, x extra columns of a table (0, 1 or D).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from autodim.data.batch import Batch
from autodim.embedding.lookup import Lookup
from autodim.embedding.tables import Tables
from autodim.embedding.vectors import Stacked
from autodim.training.network import Network

Granularity = Literal["global", "dimension", "feature", "feature_dimension"]


def soft_threshold(values: Tensor, s: Tensor) -> Tensor:
    """`sign(v) ReLU(|v| - sigmoid(s))`; s broadcasts over the values."""
    return values.sign() * (values.abs() - s.sigmoid()).relu()


def extra_columns(granularity: Granularity, common: int) -> int:
    """Columns that thresholds of single ids take in a table."""
    return {"feature": 1, "feature_dimension": common}.get(granularity, 0)


class ThresholdNetwork(Network):
    """Tables that hold D numbers a row and, for thresholds of single ids, x more; the model sees `S(V, s)`.

    Thresholds of ids lie beside the ids' vectors, so that they get the same gradients over the batch's unique rows.
    All of them are stored as `s - start`, so that weight decay draws them to where they began.

    Args:
        tables: uniform, of width D + x.
        common: D.
        granularity: one threshold for all, one for each dimension, for each id, or for each id and dimension.
        start: s at the beginning.

    Differs from the paper: a bag's threshold is taken of its pooled vector, with its ids' thresholds pooled alike.
    """

    def __init__(self, tables: Tables, model: nn.Module, common: int, granularity: Granularity, start: float):
        super().__init__(tables, model)
        self.common, self.start = common, start
        shape = {"global": (1,), "dimension": (common,)}.get(granularity)
        self.threshold = None if shape is None else nn.Parameter(torch.zeros(shape))

    def logits(self, lookup: Lookup, batch: Batch, leaves: Sequence[Tensor] | None = None) -> Tensor:
        slots, linear = lookup.inputs(leaves)
        wide = slots.stack()  # B x S x (D + x)
        moved = wide[..., self.common :] if self.threshold is None else self.threshold
        vectors = soft_threshold(wide[..., : self.common], moved + self.start)
        return self.model(Stacked(vectors), linear, batch.numeric)

    def dense_parameters(self) -> list[nn.Parameter]:
        return [*super().dense_parameters(), *([] if self.threshold is None else [self.threshold])]

    def margins(self, table: str) -> Tensor:
        """`|V| - g(s)` of every entry of a table, n x D: those above 0 are kept."""
        weight = self.tables.read(table)["weight"]
        moved = weight[:, self.common :] if self.threshold is None else self.threshold.detach()
        return weight[:, : self.common].abs() - (moved + self.start).sigmoid()
