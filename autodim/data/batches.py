"""The order of rows: a pure function of (seed, epoch, step), so that a resumed run sees the very same batches.

Up to FULL rows an epoch is one permutation. Beyond, blocks of BLOCK consecutive rows are permuted, GROUP of them at a
time are laid end to end, and the rows within are permuted: each epoch still visits every row once, while reading
touches a few MB of the memory map at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from autodim.data.splits import uniform

FULL = 1 << 24
BLOCK = 4096
GROUP = 64


class Order:
    """Shuffled batches of row numbers.

    Args:
        rows: N, at least 1.
        batch: rows of a step; the last step of an epoch has the rest (never one row alone).
        seed: any integer.
        device: where the row numbers lie. The numbers do not depend on it.
    """

    def __init__(self, rows: int, batch: int, seed: int, device: torch.device | str = "cpu") -> None:
        if rows < 1 or batch < 1:
            raise ValueError(f"rows ({rows}) and batch ({batch}) must be at least 1")
        self._rows, self._batch, self._seed, self._device = rows, batch, seed, torch.device(device)
        self._cache: dict[tuple[int, int], Tensor] = {}

    @property
    def steps_per_epoch(self) -> int:
        full, rest = divmod(self._rows, self._batch)
        # a last row alone joins the step before it: batch norm cannot train on one example
        return max(1, full + (rest > 1))

    def rows(self, epoch: int, step: int) -> Tensor:
        """Row numbers of one step: `batch` int64 (fewer in the last step, or one more).

        Cost: a permutation of the epoch (at most FULL rows) or of a group of blocks is made when first asked for and
        kept while steps stay near it.
        """
        if not 0 <= step < self.steps_per_epoch:
            raise IndexError(f"step {step} of {self.steps_per_epoch}")
        start = step * self._batch
        stop = self._rows if step + 1 == self.steps_per_epoch else start + self._batch
        if self._rows <= FULL:
            return self._permutation(epoch, 0)[start:stop]
        ends = self._group_ends(epoch)
        first, last = (int(g) for g in torch.searchsorted(ends, torch.tensor([start, stop - 1]), right=True))
        before = int(ends[first - 1]) if first else 0
        found = [self._permutation(epoch, group) for group in range(first, last + 1)]
        joined = found[0] if len(found) == 1 else torch.cat(found)
        return joined[start - before : stop - before]

    def _permutation(self, epoch: int, group: int) -> Tensor:
        """Rows of one group of an epoch, shuffled (up to FULL rows: the whole epoch)."""
        key = (epoch, group)
        if key not in self._cache:
            if len(self._cache) > 1 or any(e != epoch for e, _ in self._cache):
                self._cache = {k: v for k, v in self._cache.items() if k[0] == epoch and k[1] >= group - 1}
            if self._rows <= FULL:
                rows = torch.randperm(self._rows, generator=self._generator(epoch, 0))
            else:
                blocks = self._blocks(epoch)[group * GROUP : (group + 1) * GROUP]
                every = (blocks[:, None] * BLOCK + torch.arange(BLOCK)).flatten()
                every = every[every < self._rows]  # the log's last block may be short
                rows = every[torch.randperm(len(every), generator=self._generator(epoch, group + 1))]
            self._cache[key] = rows.to(self._device)
        return self._cache[key]

    def _blocks(self, epoch: int) -> Tensor:
        return torch.randperm(-(-self._rows // BLOCK), generator=self._generator(epoch, 0))

    def _group_ends(self, epoch: int) -> Tensor:
        """Rows of the epoch before the end of each group."""
        key = (epoch, -1)
        if key not in self._cache:
            sizes = torch.clamp(self._rows - self._blocks(epoch) * BLOCK, max=BLOCK)
            groups = torch.arange(len(sizes)) // GROUP
            totals = torch.zeros(int(groups[-1]) + 1, dtype=torch.int64).index_add_(0, groups, sizes)
            self._cache[key] = totals.cumsum(0)
        return self._cache[key]

    def _generator(self, epoch: int, group: int) -> torch.Generator:
        share = uniform(np.array([epoch]), self._seed, salt=1000 + group)[0]
        return torch.Generator().manual_seed(int(share * 2**53))


def sequential(rows: int, batch: int) -> Iterator[slice]:
    """Rows in their order, as slices of `batch` (the last may be shorter)."""
    return (slice(start, min(start + batch, rows)) for start in range(0, rows, batch))
