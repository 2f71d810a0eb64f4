"""Batches for the device: from its own memory where the log fits there, otherwise pinned and fetched ahead."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from autodim.data.batch import Bag, Batch
from autodim.data.columns import Columns

_SHARE = 0.5  # of the free device memory that a log may take; the rest is for tables, their state and the batch


def fits(columns: Columns, device: torch.device, free: int | None = None) -> bool:
    """Whether a part of a log may lie on a device as a whole.

    Args:
        free: bytes that are free there; default: what CUDA says.
    """
    free = torch.cuda.mem_get_info(device)[0] if free is None else free
    return columns.nbytes <= _SHARE * free


class Feed:
    """Gives the batches of a training in order.

    Args:
        columns: the rows; on the device already, or on the host.
        rows: step number -> the rows of its batch.
        steps: how many steps there are.
        ahead: fetch the next batch in a thread while this one trains; default: where the rows must travel.
        prepare: what is begun with each batch before the batch before it trains (`embedding.grouping.begin`).

    A batch is a pure function of its step, so that nothing here needs to be kept in a checkpoint.
    """

    def __init__(
        self,
        columns: Columns,
        rows: Callable[[int], Tensor | slice],
        steps: int,
        device: torch.device,
        ahead: bool | None = None,
        prepare: Callable[[Batch], Batch] | None = None,
    ):
        self.columns, self.rows, self.steps, self.device = columns, rows, steps, device
        self.ahead = columns.device.type != device.type if ahead is None else ahead
        self.prepare = prepare
        self._next: tuple[int, Future[Batch]] | None = None
        self._prepared: tuple[int, Batch] | None = None
        self._thread = ThreadPoolExecutor(1, "feed") if self.ahead else None

    def __call__(self, step: int) -> Batch:
        """The batch of a step, on the device."""
        if self.prepare is None:
            return self._fetch(step)
        known = self._prepared
        batch = known[1] if known is not None and known[0] == step else self.prepare(self._fetch(step))
        self._prepared = (step + 1, self.prepare(self._fetch(step + 1))) if step + 1 < self.steps else None
        return batch

    def _fetch(self, step: int) -> Batch:
        if self._thread is None:
            return self.columns.batch(self.rows(step), self.device)
        if self._next is None or self._next[0] != step:
            self._next = (step, self._thread.submit(self._host, step))
        host = self._next[1].result()
        self._next = (step + 1, self._thread.submit(self._host, step + 1)) if step + 1 < self.steps else None
        # pinned memory, so the copy runs while earlier kernels do; the stream orders it before its readers
        return _each(host, lambda t: t.to(self.device, non_blocking=True))

    def _host(self, step: int) -> Batch:
        batch = self.columns.batch(self.rows(step))
        return _each(batch, lambda t: t.pin_memory()) if self.device.type == "cuda" else batch

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)


def _each(batch: Batch, move: Callable[[Tensor], Tensor]) -> Batch:
    bags = {
        name: Bag(move(b.values), move(b.offsets), None if b.weights is None else move(b.weights))
        for name, b in batch.bags.items()
    }
    return Batch(move(batch.ids), move(batch.numeric), move(batch.labels), bags)
