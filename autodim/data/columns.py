"""Encoded rows, memory-mapped or on a device, and batches of them.

Letters: N rows, S1 one-hot slots, n numeric columns, T labels, K ids of a bag column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from autodim.data.batch import Bag, Batch


@dataclass(frozen=True)
class Columns:
    """Encoded rows, on disk (memory-mapped) or on a device.

    Attributes:
        ids: N x S1 int32, the one-hot slots in the config's order.
        numeric: N x n float32.
        labels: N x T float32; NaN is a missing label.
        bags: by slot name, (values K int32, offsets N + 1 int64).
        one_hot_slots: names of the S1 slots.
        bag_weights: by slot name, K float32, of the bags that have weights.
    """

    ids: Tensor
    numeric: Tensor
    labels: Tensor
    bags: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    one_hot_slots: tuple[str, ...] = ()
    bag_weights: Mapping[str, Tensor] = field(default_factory=dict)

    @staticmethod
    def from_arrays(
        ids: np.ndarray | Tensor,
        numeric: np.ndarray | Tensor | None = None,
        labels: np.ndarray | Tensor | None = None,
        bags: Mapping[str, tuple[np.ndarray | Tensor, np.ndarray | Tensor]] | None = None,
        one_hot_slots: Sequence[str] = (),
        bag_weights: Mapping[str, np.ndarray | Tensor] | None = None,
    ) -> Columns:
        """Columns of arrays in memory; absent ones become N x 0 (labels: one column of NaN, N x 1)."""
        rows = len(ids)
        return Columns(
            torch.as_tensor(ids, dtype=torch.int32),
            torch.zeros(rows, 0) if numeric is None else torch.as_tensor(numeric, dtype=torch.float32),
            torch.full((rows, 1), torch.nan) if labels is None else torch.as_tensor(labels, dtype=torch.float32),
            {
                name: (torch.as_tensor(values, dtype=torch.int32), torch.as_tensor(offsets, dtype=torch.int64))
                for name, (values, offsets) in (bags or {}).items()
            },
            tuple(one_hot_slots),
            {name: torch.as_tensor(weights, dtype=torch.float32) for name, weights in (bag_weights or {}).items()},
        )

    def __len__(self) -> int:
        return self.labels.shape[0]

    @property
    def device(self) -> torch.device:
        return self.labels.device

    @property
    def nbytes(self) -> int:
        """Bytes that `to` would put on a device."""
        tensors = [self.ids, self.numeric, self.labels, *(t for pair in self.bags.values() for t in pair)]
        tensors += self.bag_weights.values()
        return sum(t.numel() * t.element_size() for t in tensors)

    def to(self, device: torch.device | str) -> Columns:
        """All rows on a device (or, from a memory map, in memory: `to("cpu")` copies)."""
        return replace(
            self,
            ids=self.ids.to(device, copy=True),
            numeric=self.numeric.to(device, copy=True),
            labels=self.labels.to(device, copy=True),
            bags={
                name: (values.to(device, copy=True), offsets.to(device, copy=True))
                for name, (values, offsets) in self.bags.items()
            },
            bag_weights={name: weights.to(device, copy=True) for name, weights in self.bag_weights.items()},
        )

    def batch(self, rows: Tensor | slice, device: torch.device | str | None = None) -> Batch:
        """Some rows.

        Args:
            rows: B row numbers (int64, any order, best on the columns' device or on the CPU), or a slice without a
                step (no copy is made on the columns' own device).
            device: where the batch should lie (default: where the columns lie).

        Cost: one gather per kind of column. Bags of columns on a GPU cost one synchronisation a batch, unless `rows`
        lies on the CPU, where the batch's length is known without asking the GPU.
        """
        target = self.device if device is None else torch.device(device)
        bags = {name: self._bag(name, rows) for name in self.bags}
        index = rows if isinstance(rows, slice) else _move(rows, self.device)

        def take(column: Tensor) -> Tensor:
            return _move(column[index] if isinstance(index, slice) else column.index_select(0, index), target)

        return Batch(
            take(self.ids),
            take(self.numeric),
            take(self.labels),
            {
                name: Bag(
                    _move(b.values, target),
                    _move(b.offsets, target),
                    None if b.weights is None else _move(b.weights, target),
                )
                for name, b in bags.items()
            },
        )

    @cached_property
    def _host_offsets(self) -> dict[str, Tensor]:
        return {name: offsets.cpu() for name, (_, offsets) in self.bags.items()}

    def _bag(self, name: str, rows: Tensor | slice) -> Bag:
        values, offsets = self.bags[name]
        weights = self.bag_weights.get(name)
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            assert step == 1, "a slice of rows has no step"
            host = self._host_offsets[name]
            ends = offsets[start : max(stop, start) + 1]
            items = slice(int(host[start]), int(host[max(stop, start)]))
            return Bag(values[items], ends - ends[:1], None if weights is None else weights[items])
        host_rows = rows.device.type == "cpu"
        total = None
        if host_rows:
            host = self._host_offsets[name]
            total = int((host[rows + 1] - host[rows]).sum())
        index = _move(rows, self.device)
        starts = offsets.index_select(0, index)  # B
        lengths = offsets.index_select(0, index + 1) - starts  # B
        ends = torch.zeros(len(index) + 1, dtype=torch.int64, device=self.device)  # B + 1
        torch.cumsum(lengths, 0, out=ends[1:])
        shift = torch.repeat_interleave(starts - ends[:-1], lengths, output_size=total)  # K
        at = shift + torch.arange(len(shift), device=self.device)
        return Bag(values.index_select(0, at), ends, None if weights is None else weights.index_select(0, at))


def _move(tensor: Tensor, target: torch.device) -> Tensor:
    if tensor.device == target:
        return tensor
    if tensor.device.type == "cpu" and target.type == "cuda":
        tensor = tensor.pin_memory()  # else the host waits until the device has done all that was queued
    return tensor.to(target, non_blocking=True)
