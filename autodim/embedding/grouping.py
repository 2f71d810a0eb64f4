"""Unique rows counted one batch early, so that a step on a GPU never waits for the device.

How many unique rows a batch has decides the shapes of all that follows, and at first only the device knows it. Asked in
the middle of a step, the host waits until the device has done all that came before, and the device then waits for the
host. Asked a batch early, the count has long arrived: `begin` queues the sort and the copy of one number before the
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

from autodim.embedding.rows import UniqueRows

if TYPE_CHECKING:
    from autodim.data.batch import Batch
    from autodim.embedding.tables import Tables


class Grouping:
    """Looked-up rows (K integers, K > 0) that are being sorted and counted on their device."""

    def __init__(self, rows: Tensor):
        self._ordered, self._order = torch.sort(rows, stable=True)  # K
        self._group = F.pad((self._ordered[1:] != self._ordered[:-1]).cumsum(0), (1, 0))  # K: 0 .. U - 1, ascending
        self._count = self._group[-1:] + 1
        self._arrived: torch.cuda.Event | None = None
        if rows.is_cuda:
            # pinned, so that the copy is queued and not waited for; the event tells that it is done
            self._count = torch.empty(1, dtype=torch.long, pin_memory=True).copy_(self._count, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def finish(self) -> UniqueRows:
        """What `unique_rows` gives of the same rows, to the bit.

        Cost: a binary search for each unique row; waits only for what was queued before the count.
        """
        if self._arrived is not None:
            self._arrived.synchronize()
        every = torch.arange(int(self._count), device=self._group.device)  # U
        starts = torch.searchsorted(self._group, every)
        ends = F.pad(starts[1:], (0, 1), value=self._group.shape[0])
        return UniqueRows(self._ordered.index_select(0, starts).long(), ends - starts, self._order, starts)


def early(tables: Tables, device: torch.device) -> Callable[[Batch], Batch] | None:
    """`begin` for some tables, where asking their device means waiting for it; None on a CPU."""
    return partial(begin, tables) if device.type == "cuda" else None


def begin(tables: Tables, batch: Batch) -> Batch:
    """The same batch, its unique rows being counted for every group of the tables that can be counted early.

    Groups with blocks that are a part of their table are left out: which ids they hold must be known first.
    """
    from autodim.embedding.lookup import looked_up

    rows = {g: torch.cat(looked_up(g, batch)) for g in tables.groups if not g.partial}  # type: ignore[arg-type]
    return replace(batch, grouped={g: Grouping(r) for g, r in rows.items() if len(r)})
