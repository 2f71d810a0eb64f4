"""The batch: what every model, optimizer and score sees of a log.

Letters: B examples, S1 one-hot slots, n numeric columns, T labels, K ids of a bag column.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


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
    """

    ids: Tensor
    numeric: Tensor
    labels: Tensor
    bags: Mapping[str, Bag] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.ids.shape[0]
