"""Between the leaves of a lookup and the rows of the tables: what perturbations and clippers share.

A method that speaks of rows (their norms, their counts) gets U x w gradients at the batch's unique rows; what it adds
to the rows goes back to the leaves as what that would add to the looked-up vectors, so no table is ever written.

Letters: U unique rows of a group in a batch, w width, T tables (blocks) of a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from autodim.embedding.group import Group
    from autodim.embedding.lookup import GroupLookup, Lookup

Gradients = list[Tensor | None]
TINY = 1e-12  # added to norms, so that a zero gradient gives a zero perturbation (Foret et al. 2021's own code)


def leaf_tables(lookup: Lookup) -> list[tuple[GroupLookup, nn.Parameter]]:
    """Per leaf, in the order of `lookup.leaves`: its part of the lookup and the table (n x w) it was read from."""
    wide = [(p, p.group.weight) for p in lookup.groups if p.vectors is not None]
    first = [(p, p.group.linear) for p in lookup.groups if p.linear is not None]
    return [(p, t) for p, t in (*wide, *first) if t is not None]


def row_gradients(gradients: Gradients, lookup: Lookup) -> Gradients:
    """Gradients at the leaves -> U x w at the unique rows; None stays None."""
    return [
        None if g is None else part.row_gradient(g)
        for g, (part, _) in zip(gradients[: len(lookup.leaves)], leaf_tables(lookup), strict=True)
    ]


def leaf_offsets(per_row: Gradients, lookup: Lookup) -> Gradients:
    """What is added to the unique rows (U x w) -> what that adds to the leaves; None stays None."""
    return [None if e is None else part.spread(e) for e, (part, _) in zip(per_row, leaf_tables(lookup), strict=True)]


def total_norm(tensors: Sequence[Tensor | None]) -> Tensor:
    """L2 norm of all numbers of all tensors together, 0-dim, without waiting for the device."""
    # empty weights (a model without numeric columns) have no norm, and foreach kernels refuse them on some devices
    known = [t for t in tensors if t is not None and t.numel()]
    return torch.nn.utils.get_total_norm(known)


@dataclass(frozen=True)
class Segments:
    """Which table each unique row of a group belongs to; rows of one table lie together.

    Attributes:
        bounds: T + 1, where each table's rows start among the U.
        table: U, the table's number.
        fixed: U bool, rows that are never perturbed: each table's row 0, the out-of-vocabulary id.
    """

    bounds: Tensor
    table: Tensor
    fixed: Tensor

    def sum(self, values: Tensor) -> Tensor:
        """U -> T. Deterministic on every device, unlike an index_add."""
        return torch.segment_reduce(values, "sum", offsets=self.bounds, unsafe=True)

    def max(self, values: Tensor) -> Tensor:
        """U numbers >= 0 -> T; 0 for a table without rows in the batch."""
        return torch.segment_reduce(values, "max", offsets=self.bounds, unsafe=True, initial=0)


def segments(rows: Tensor, starts: Tensor, unknown: Tensor | None = None) -> Segments:
    """Cut unique rows by table.

    Args:
        rows: U, ascending.
        starts: T + 1, the first row of each table of the group, then the number of its rows.
        unknown: T bool, tables whose first row is the out-of-vocabulary id; None: all (no table is cut into blocks).

    Cost: a binary search per row; no host synchronisation.
    """
    table = torch.bucketize(rows, starts[1:], right=True)
    fixed = rows == starts.index_select(0, table)
    if unknown is not None:
        fixed &= unknown.index_select(0, table)
    return Segments(torch.searchsorted(rows, starts), table, fixed)


class TableStarts:
    """The first row of each table of a group, T + 1 (the last: n), on the group's device; copied there once.

    Where a table is cut into blocks, each block counts as a table, and only the first holds the unknown id.
    """

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Group, Tensor] = WeakKeyDictionary()
        self._unknown: WeakKeyDictionary[Group, Tensor] = WeakKeyDictionary()

    def unknown(self, part: GroupLookup) -> Tensor | None:
        """Which tables begin with the out-of-vocabulary id, T bool; None: all of them."""
        if not part.group.partial:
            return None
        found = self._unknown.get(part.group)
        if found is None or found.device != part.rows.device:
            found = torch.tensor([b.start == 0 for b in part.group.blocks], device=part.rows.device)
            self._unknown[part.group] = found
        return found

    def of(self, part: GroupLookup) -> Tensor:
        """The starts of a lookup's group."""
        known = self._known.get(part.group)
        if known is None or known.device != part.rows.device:
            starts = part.group.starts
            end = starts[-1] + part.group.blocks[-1].rows
            known = torch.tensor([*starts, end], device=part.rows.device)
            self._known[part.group] = known
        return known
