"""Blocks that are a part of their table: which of a batch's ids they hold.

A reader (a slot at one block) holds the ids from its block's first row to its last. The ids that it does not hold are
taken out before anything is looked up, so they cost no row, have no gradient and are no unique row of the batch; the
reader's vector is zero there. An id is held by exactly one block, so a one-hot slot's vector is one of its readers'
vectors, and a bag's is their sum.

Letters: B examples, S_g readers of a group (S1_g of them one-hot), K ids of a bag column, D common width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from autodim.data.batch import Batch
    from autodim.embedding.group import Group
    from autodim.embedding.lookup import Lookup


class KeptIds:
    """The ids of one batch that a group's blocks hold.

    Args:
        group: the group.
        ids: B x S1_g, the ids of its one-hot readers.

    Attributes:
        places: the held ones among the B * S1_g, ascending.

    Cost: a comparison an id; on a GPU one wait for the number of held ids.
    """

    def __init__(self, group: Group, ids: Tensor):
        self.group = group
        low, high = group.bounds[:, : group.one_hot]
        self.held = (ids >= low) & (ids < high)  # B x S1_g
        self.places = self.held.flatten().nonzero().squeeze(1)

    def bag(
        self, reader: int, values: Tensor, rows: Tensor, offsets: Tensor, factors: Tensor, bag_of: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The held part of a bag column of K values: of its K rows, B + 1 offsets, K factors and K bags."""
        low, high = self.group.bounds[:, reader]
        held = (values >= low) & (values < high)
        places = held.nonzero().squeeze(1)
        before = F.pad(held.cumsum(0), (1, 0))  # held values before each
        return (
            rows.index_select(0, places),
            before.index_select(0, offsets.long()),
            factors.index_select(0, places),
            bag_of.index_select(0, places),
        )

    def spread(self, vectors: Tensor, count: int) -> Tensor:
        """Vectors of the held ids -> `count` vectors (B * S1_g), zero for the others."""
        return vectors.new_zeros(count, vectors.shape[1]).index_copy_(0, self.places, vectors)

    def masses(self, batch: int, factors: list[Tensor], offsets: list[Tensor]) -> Tensor:
        """How much of each reader's vector is its block's: 1 or 0 for one id, the sum of the held factors of a bag.

        Args:
            batch: B.
            factors, offsets: of the held ids of each bag, as `bag` gave them.

        Returns:
            B x S_g x 1.
        """
        kind = self.group.dtype
        found = [self.held.to(kind)]
        for f, o in zip(factors, offsets, strict=True):
            every = torch.arange(f.shape[0], device=f.device)
            found.append(F.embedding_bag(every, f[:, None].to(kind), o.long(), mode="sum", include_last_offset=True))
        return torch.cat(found, dim=1)[:, :, None]


def slot_part(lookup: Lookup, batch: Batch, position: int, start: int, stop: int) -> tuple[Tensor, Tensor]:
    """What rows [start, stop) of a slot's table give to the slot's vectors, in uniform tables: B x D; and masses, B.

    Args:
        lookup: of the batch. position: of the slot in the layout.
    """
    slots, group = lookup.tables.layout.slots, lookup.groups[0]
    slot = slots[position]
    weight = lookup.tables.read(slot.table)["weight"]
    if slot.multi:
        bag, number = batch.bags[slot.name], [s.name for s in group.group.multi].index(slot.name)
        return part_vectors(weight, bag.values, bag.offsets, group.bag_factors[number], start, stop)
    column = [s.name for s in slots if not s.multi].index(slot.name)
    return part_vectors(weight, batch.ids[:, column], None, None, start, stop)


def part_vectors(
    weight: Tensor, ids: Tensor, offsets: Tensor | None, factors: Tensor | None, start: int, stop: int
) -> tuple[Tensor, Tensor]:
    """What rows [start, stop) of a table give to the pooled vectors of a slot.

    Args:
        weight: n x D, the table.
        ids: B, or the K values of a bag column with `offsets` (B + 1) and `factors` (K).

    Returns:
        B x D, zero where no id is held; and the masses, B.
    """
    held = (ids >= start) & (ids < stop)
    if offsets is None or factors is None:
        mass = held.to(weight.dtype)
        return weight.index_select(0, ids.long()) * mass[:, None], mass
    factors = factors * held
    found = F.embedding_bag(
        ids.long(), weight, offsets.long(), mode="sum", per_sample_weights=factors, include_last_offset=True
    )
    every = torch.arange(len(factors), device=factors.device)
    mass = F.embedding_bag(every, factors[:, None], offsets.long(), mode="sum", include_last_offset=True)
    return found, mass.squeeze(1)
