"""The batch: what every model, optimizer and score sees of a log.

Letters: B examples, S1 one-hot slots, n numeric columns, T labels, K ids of a bag column.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from autodim.embedding.grouping import Grouping


@dataclass(frozen=True)
class Bag:
    """One multi-valued slot of a batch, in compressed rows.

    Attributes:
        values: ids, K (int32 or int64).
        offsets: start of each example's ids in `values`, B + 1; an empty bag is allowed.
        weights: K float32, or None for all ones. Pooling (sum or mean) belongs to the slot, not to the batch.
    """

    values: Tensor
    offsets: Tensor
    weights: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """A batch on the training device.

    Attributes:
        ids: B x S1 integers, the one-hot slots in the layout's order.
        numeric: B x n float32 (n may be 0).
        labels: B x T float32; NaN is a missing label.
        bags: the multi-valued slots by name.
        grouped: unique rows that are being counted early, by the group of tables that they are of (see
            `embedding.grouping`); mostly none.
    """

    ids: Tensor
    numeric: Tensor
    labels: Tensor
    bags: Mapping[str, Bag] = field(default_factory=dict)
    grouped: Mapping[Any, Grouping] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.ids.shape[0]
