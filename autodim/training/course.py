"""The course of a training: which rows each step reads, and where it is evaluated.

Two courses: epochs over all training rows, and windows that slide over time; `alternate.py` has a third, of several
logs. All are pure functions of their arguments, so a resumed training sees the very same batches.

Letters: N training rows, W periods of a window.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Protocol

import torch
from torch import Tensor

from autodim.data.batches import Order
from autodim.errors import ConfigError
from autodim.training.seeds import derive

SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class Course(Protocol):
    """What a training walks along.

    Attributes:
        total: steps in all. epochs: parts (epochs, or windows times their epochs).
        judged: whether evaluations are comparable, so that the best one is kept and training may stop early; if not,
            the last weights are the result.
    """

    total: int
    epochs: int
    judged: bool

    def at(self, position: int) -> tuple[int, int]:
        """The epoch, and the step in it, of the update after `position` updates."""
        ...

    def rows(self, epoch: int, step: int) -> Tensor:
        """Row numbers of a step."""
        ...

    def evaluates(self, epoch: int, step: int) -> bool:
        """Whether there is an evaluation after this step."""
        ...

    def held_out(self, epoch: int) -> Tensor | None:
        """Training rows that an epoch's evaluation reads; None: the valid part."""
        ...

    def absent(self, epoch: int, step: int) -> tuple[int, ...]:
        """Positions of the tasks that no row of a step has, as far as the course knows."""
        ...


class Epochs:
    """All rows, shuffled, epoch after epoch, evaluated several times in each."""

    judged = True

    def __init__(self, rows: int, batch: int, epochs: int, evaluations: int, seed: int):
        self.order = Order(rows, batch, seed)
        self.steps = self.order.steps_per_epoch
        self.epochs, self.total = epochs, self.steps * epochs
        self.eval_at = {max(1, round(self.steps * k / evaluations)) for k in range(1, evaluations + 1)}

    def at(self, position: int) -> tuple[int, int]:
        return divmod(position, self.steps)

    def rows(self, epoch: int, step: int) -> Tensor:
        return self.order.rows(epoch, step)

    def evaluates(self, epoch: int, step: int) -> bool:
        return step + 1 in self.eval_at

    def held_out(self, epoch: int) -> Tensor | None:
        return None

    def absent(self, epoch: int, step: int) -> tuple[int, ...]:
        return ()


@dataclass(frozen=True)
class Window:
    """Rows to train on (N_w), and those of the next period; None: the valid part."""

    rows: Tensor
    following: Tensor | None


class Windows:
    """Windows in the order of time; in each its rows, shuffled, for some epochs; then the next period judges.

    Args:
        windows: in order, each with at least one row.
        batch, epochs: of each window. seed: of the shuffling.
    """

    judged = False

    def __init__(self, windows: Sequence[Window], batch: int, epochs: int, seed: int):
        self.windows, self.per_window = list(windows), epochs
        self.orders = [Order(len(w.rows), batch, derive(seed, "window", i)) for i, w in enumerate(windows)]
        self.epochs = len(self.windows) * epochs
        steps = chain.from_iterable([o.steps_per_epoch] * epochs for o in self.orders)
        self.starts = [0, *accumulate(steps)]
        self.total = self.starts[-1]

    def at(self, position: int) -> tuple[int, int]:
        epoch = bisect_right(self.starts, position) - 1
        return epoch, position - self.starts[epoch]

    def rows(self, epoch: int, step: int) -> Tensor:
        number, turn = divmod(epoch, self.per_window)
        return self.windows[number].rows.index_select(0, self.orders[number].rows(turn, step))

    def evaluates(self, epoch: int, step: int) -> bool:
        number, turn = divmod(epoch, self.per_window)
        return turn + 1 == self.per_window and step + 1 == self.orders[number].steps_per_epoch

    def held_out(self, epoch: int) -> Tensor | None:
        return self.windows[epoch // self.per_window].following

    def absent(self, epoch: int, step: int) -> tuple[int, ...]:
        return ()


def period_length(text: str, kind: str) -> float:
    """A period as a length on the time column.

    Args:
        text: `1d`, `6h`, `30min`, `2w`, `10s`, or a bare number in the column's own units.
        kind: what the column holds: `time` (microseconds since 1970), or `number`; a unit of time then means seconds.

    Raises:
        ConfigError: a bare number for a column of times, or no positive length.
    """
    match = re.fullmatch(r"([0-9.]+) ?(s|min|h|d|w)?", text.strip())
    try:
        value = float(match[1]) if match else 0.0
    except ValueError:
        value = 0.0
    if match is None or not value > 0:
        raise ConfigError(f"windows.period: found {text!r}, expected a length such as 1d, 6h, 30min, or a number")
    if match[2] is None:
        if kind == "time":
            raise ConfigError(f"windows.period: found {text!r} for a column of times; expected a unit: s, min, h, d, w")
        return value
    return value * SECONDS[match[2]] * (1e6 if kind == "time" else 1)


def cut_windows(times: Tensor, period: float, size: int, stride: int) -> list[Window]:
    """Windows of `size` periods, moved by `stride`; the last one ends with the newest row.

    Args:
        times: N float64, when each training row was. period: > 0, in the same units.

    A window without rows is left out. What follows a window is the next period that has rows; after the last one, the
    valid part.

    Raises:
        ConfigError: fewer periods than a window has.
    """
    order = torch.argsort(times, stable=True)
    number = ((times[order] - times[order[0]]) / period).floor().long()  # N, ascending
    periods = int(number[-1]) + 1
    if periods < size:
        raise ConfigError(
            f"windows: a window has {size} periods, but the training rows span only {periods}; choose a shorter period "
            "or a smaller size"
        )
    ends = list(range(size, periods + 1, stride))
    if ends[-1] != periods:
        ends.append(periods)
    bounds = torch.searchsorted(number, torch.arange(periods + 1)).tolist()
    found = []
    for end in ends:
        inside = order[bounds[end - size] : bounds[end]]
        if not len(inside):
            continue
        following = next((p for p in range(end, periods) if bounds[p + 1] > bounds[p]), None)
        after = None if following is None else order[bounds[following] : bounds[following + 1]]
        found.append(Window(inside, after))
    return found
