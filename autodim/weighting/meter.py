"""Means over the steps since the last reading, kept where the numbers are, so that no step waits for the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


class Meter:
    """Named vectors of numbers, their means since the last `read`.

    Args:
        names: per vector the name of each of its numbers, as the gauges will show it.
    """

    def __init__(self, names: Mapping[str, Sequence[str]]):
        self.names = {key: list(found) for key, found in names.items()}
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor] = {}

    def add(self, key: str, values: Tensor) -> None:
        """Take a step's numbers (NaN: not known in this step) into the means of vector `key`."""
        values = values.detach().double()
        known = ~values.isnan()
        if not self.sums.get(key, values).shape == values.shape == (len(self.names[key]),):
            raise ValueError(f"{key}: found {tuple(values.shape)} numbers, expected {len(self.names[key])}")
        total, count = values.nan_to_num(0.0), known.double()
        if key in self.sums:
            # this order keeps the device of the numbers after a restart
            total, count = total + self.sums[key].to(total.device), count + self.counts[key].to(count.device)
        self.sums[key], self.counts[key] = total, count

    def read(self) -> dict[str, float]:
        """The means by name, NaN for what was never known; they begin anew. Waits for the device."""
        found: dict[str, float] = {}
        for key, total in self.sums.items():
            found.update(zip(self.names[key], (total / self.counts[key]).tolist(), strict=True))
        self.sums, self.counts = {}, {}
        return found

    def state(self) -> dict[str, Tensor]:
        """What a restart needs, as tensors by name."""
        return {f"{key}.{part}": t for part, d in (("sum", self.sums), ("count", self.counts)) for key, t in d.items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """The reverse of `state`."""
        self.sums = {k.removesuffix(".sum"): t for k, t in tensors.items() if k.endswith(".sum")}
        self.counts = {k.removesuffix(".count"): t for k, t in tensors.items() if k.endswith(".count")}


def empty(count: int) -> Tensor:
    """Numbers that are not known."""
    return torch.full((count,), torch.nan, dtype=torch.float64)
