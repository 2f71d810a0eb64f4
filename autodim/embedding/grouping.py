"""Unique rows counted one batch early, so that a step on a GPU never waits for the device.

How many unique rows a batch has decides the shapes of all that follows, and at first only the device knows it. Asked in
the middle of a step, the host waits until the device has done all that came before, and the device then waits for the
host. Asked a batch early, the count has long arrived: `begin` queues the sort and the copy of two numbers before the
step of the batch before, `UniqueRows` are made of them when their own step wants them.

On a CPU there is nothing to wait for, and nothing is gained.

Letters: K looked-up ids of a batch, U unique rows among them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from autodim.embedding.rows import PIECE, UniqueRows, in_pieces

if TYPE_CHECKING:
    from autodim.data.batch import Batch
    from autodim.embedding.tables import Tables


class Grouping:
    """Looked-up rows (K integers, K > 0) that are being sorted and counted on their device.

    Args:
        piece: sums are made by pieces of so many ids (see `UniqueRows.sum`); 0: as a whole. Default: pieces on a GPU.
    """

    def __init__(self, rows: Tensor, piece: int | None = None):
        self._piece = (PIECE if rows.is_cuda else 0) if piece is None else piece
        self._ordered, self._order = torch.sort(rows, stable=True)  # K
        self._group = F.pad((self._ordered[1:] != self._ordered[:-1]).cumsum(0), (1, 0))  # K: 0 .. U - 1, ascending
        self._counts = self._group[-1:] + 1
        if self._piece:
            first = torch.searchsorted(self._ordered, self._ordered)  # K: where each id's group starts
            within = torch.arange(len(first), device=first.device) - first
            self._counts = torch.cat([self._counts, (within % self._piece == 0).sum()[None]])
        self._arrived: torch.cuda.Event | None = None
        if rows.is_cuda:
            # pinned, so that the copy is queued and not waited for; the event tells that it is done
            host = torch.empty(self._counts.shape, dtype=torch.long, pin_memory=True)
            self._counts = host.copy_(self._counts, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def finish(self) -> UniqueRows:
        """What `unique_rows` gives of the same rows on the same device, to the bit.

        Cost: a binary search for each unique row; waits only for what was queued before the count.
        """
        if self._arrived is not None:
            self._arrived.synchronize()
        unique, *total = (int(n) for n in self._counts)
        starts = torch.searchsorted(self._group, torch.arange(unique, device=self._group.device))  # U
        counts = F.pad(starts[1:], (0, 1), value=self._group.shape[0]) - starts
        pieces = in_pieces(counts, starts, total[0], self._piece) if total else None
        return UniqueRows(self._ordered.index_select(0, starts).long(), counts, self._order, starts, pieces)


def early(tables: Tables, device: torch.device) -> Callable[[Batch], Batch] | None:
    """`begin` for some tables, where asking their device means waiting for it; None on a CPU."""
    return partial(begin, tables) if device.type == "cuda" else None


def begin(tables: Tables, batch: Batch, piece: int | None = None) -> Batch:
    """The same batch, its unique rows being counted for every group of the tables that can be counted early.

    Args:
        piece: as for `Grouping`.

    Groups with blocks that are a part of their table are left out: which ids they hold must be known first.
    """
    from autodim.embedding.lookup import looked_up

    rows = {g: torch.cat(looked_up(g, batch)) for g in tables.groups if not g.partial}  # type: ignore[arg-type]
    return replace(batch, grouped={g: Grouping(r, piece) for g, r in rows.items() if len(r)})
