"""How often an id occurs: the three frequencies that Helen's radii may follow.

Each gives a number >= 0 per unique row of a group's batch, and per table the number that counts as the most frequent.
Rows that are never perturbed (row 0) count as 0, so they never set that maximum.

Letters: U unique rows of a group in a batch, T tables of a group, n rows of a group, N_k count of row k.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from autodim.optim.leaves import Segments

if TYPE_CHECKING:
    from autodim.embedding.lookup import GroupLookup


class Frequency(Protocol):
    """Frequencies of a batch's rows."""

    def advance(self) -> None:
        """A new batch begins."""
        ...

    def of(self, part: GroupLookup, number: int, cut: Segments) -> tuple[Tensor, Tensor]:
        """Frequencies U and maxima T of group `number`; called once a batch and group."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What a restart needs, as tensors by name."""
        ...

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """The reverse of `state`."""
        ...


class BatchFrequency:
    """The counts of the batch itself; the unique rows have them already, so they are free."""

    def advance(self) -> None:
        pass

    def of(self, part: GroupLookup, number: int, cut: Segments) -> tuple[Tensor, Tensor]:
        counts = part.unique.counts.to(torch.float32).masked_fill(cut.fixed, 0.0)
        return counts, cut.max(counts)

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        pass


class GlobalFrequency(BatchFrequency):
    """The counts of the whole log.

    Args:
        counts: per table name, one number >= 0 a row (row 0 is ignored).

    Cost: one float32 a row of memory, one gather of U numbers a batch.
    """

    def __init__(self, counts: Mapping[str, Tensor]):
        self.counts = dict(counts)
        self._known: dict[int, tuple[Tensor, Tensor]] = {}

    def of(self, part: GroupLookup, number: int, cut: Segments) -> tuple[Tensor, Tensor]:
        if number not in self._known or self._known[number][0].device != part.rows.device:
            self._known[number] = self._gathered(part)
        counts, maxima = self._known[number]
        return counts.index_select(0, part.unique.rows), maxima

    def _gathered(self, part: GroupLookup) -> tuple[Tensor, Tensor]:
        parts = []
        for block in part.group.blocks:
            found = self.counts.get(block.table)
            if found is None or found.shape[0] < block.stop:
                have = "none" if found is None else str(found.shape[0])
                raise ValueError(
                    f"counts of table {block.table!r}: found {have}, expected one a row ({block.stop}); "
                    "pass counts for every table, or use frequency='batch'"
                )
            own = found[block.start : block.stop].to(part.rows.device, torch.float32).clone()
            if block.start == 0:
                own[:1] = 0
            parts.append(own)
        # a table of no rows has no maximum, so a zero is appended before each
        return torch.cat(parts), torch.stack([torch.cat([p.new_zeros(1), p]).max() for p in parts])


class EmaFrequency:
    """An exponential moving average of the batches' counts, kept for the rows that were met.

    `f_k <- decay^(steps since k was met) f_k + (1 - decay) N_k` on the batch's rows, which equals the average that
    decays every row at every step. The maximum is over the batch's rows, so that a step costs the batch.

    Args:
        decay: in [0, 1); 0 is the batch's counts.

    State: per group a float32 and an int32 a row, and the number of steps. One object serves one network.
    """

    def __init__(self, decay: float = 0.99):
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1); found {decay}")
        self.decay = decay
        self.steps = 0
        self._average: dict[int, Tensor] = {}
        self._met: dict[int, Tensor] = {}

    def advance(self) -> None:
        self.steps += 1

    def of(self, part: GroupLookup, number: int, cut: Segments) -> tuple[Tensor, Tensor]:
        rows, device = part.unique.rows, part.rows.device
        if number not in self._average:
            size = sum(b.rows for b in part.group.blocks)
            self._average[number] = torch.zeros(size, device=device)
            self._met[number] = torch.zeros(size, dtype=torch.int32, device=device)
        elif self._average[number].device != device:  # restored from a file
            self._average[number] = self._average[number].to(device)
            self._met[number] = self._met[number].to(device)
        average, met = self._average[number], self._met[number]
        since = self.steps - met.index_select(0, rows)
        found = average.index_select(0, rows) * self.decay ** since.to(torch.float32)
        found.add_(part.unique.counts, alpha=1 - self.decay)
        average.index_copy_(0, rows, found)
        met.index_fill_(0, rows, self.steps)
        found = found.masked_fill(cut.fixed, 0.0)
        return found, cut.max(found)

    def state(self) -> dict[str, Tensor]:
        out = {"ema/steps": torch.tensor(self.steps)}
        for number, average in self._average.items():
            out[f"ema/{number}/average"] = average
            out[f"ema/{number}/met"] = self._met[number]
        return out

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        self.steps = int(tensors["ema/steps"])
        self._average, self._met = {}, {}
        for name, tensor in tensors.items():
            _, number, *rest = name.split("/")
            if rest:
                (self._average if rest[0] == "average" else self._met)[int(number)] = tensor.clone()
