"""The course of a training over several logs: each batch has rows of one log, and the logs take turns.

Letters: N_k rows of log k, n_k = its batches, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from autodim.data.batches import Order
from autodim.data.several import LogRows
from autodim.training.seeds import derive


def turns(steps: Sequence[int], how: Literal["by_size", "equal"]) -> np.ndarray:
    """Which log each step of an epoch reads: int64.

    Args:
        steps: n_k, batches of each log, at least 1.
        how: `by_size`: each log n_k times, evenly spread, every log among the first turns; `equal`: one after another,
            as often as the longest log has batches.
    """
    if how == "equal":
        return np.tile(np.arange(len(steps)), max(steps))
    logs = np.repeat(np.arange(len(steps)), steps)
    places = np.concatenate([np.arange(n) / n for n in steps])
    return logs[np.lexsort((logs, places))]


class Alternate:
    """Epochs over several logs, each with an order of its own; a pure function of its arguments.

    Args:
        logs: their rows among the training rows; logs without a task are left out.
        tasks: T.
        batch, epochs, evaluations: as for one log. An epoch shows each row once (`equal`: those of the longest log;
            shorter ones go round again, newly shuffled, and the next epoch goes on where they stopped).
        seed: the first log's batches are those of a training on it alone with this seed.
        how: see `turns`.

    Cost: one permutation of each log an epoch, as for one log.
    """

    judged = True

    def __init__(
        self,
        logs: Sequence[LogRows],
        tasks: int,
        batch: int,
        epochs: int,
        evaluations: int,
        seed: int,
        how: Literal["by_size", "equal"] = "by_size",
    ):
        self.logs = [one for one in logs if one.tasks]
        self.tasks = tasks
        self.orders = [
            Order(one.stop - one.start, batch, derive(seed, "log", k) if k else seed) for k, one in enumerate(self.logs)
        ]
        self.away = [tuple(t for t in range(tasks) if t not in one.tasks) for one in self.logs]
        self.turn = turns([order.steps_per_epoch for order in self.orders], how)
        self.number = np.zeros(len(self.turn), np.int64)  # of the turn among those of its log in an epoch
        for k in range(len(self.logs)):
            mine = self.turn == k
            self.number[mine] = np.arange(mine.sum())
        self.per_epoch = np.bincount(self.turn, minlength=len(self.logs)).tolist()
        self.steps = len(self.turn)
        self.epochs, self.total = epochs, self.steps * epochs
        self.eval_at = {max(1, round(self.steps * k / evaluations)) for k in range(1, evaluations + 1)}

    def at(self, position: int) -> tuple[int, int]:
        return divmod(position, self.steps)

    def rows(self, epoch: int, step: int) -> Tensor:
        k = int(self.turn[step])
        order = self.orders[k]
        own = divmod(epoch * self.per_epoch[k] + int(self.number[step]), order.steps_per_epoch)
        return order.rows(*own) + self.logs[k].start

    def evaluates(self, epoch: int, step: int) -> bool:
        return step + 1 in self.eval_at

    def held_out(self, epoch: int) -> Tensor | None:
        return None

    def shares(self) -> list[float]:
        """T: the share of the batches whose log has the task."""
        counts = list(zip(self.per_epoch, self.away, strict=True))
        return [1 - sum(n for n, away in counts if t in away) / self.steps for t in range(self.tasks)]

    def absent(self, epoch: int, step: int) -> tuple[int, ...]:
        return self.away[int(self.turn[step])]


class LastLosses:
    """What a batch of one log cannot tell: the losses of the tasks that it does not have, as they last were.

    The watch and the training's own loss look at the sum of T losses; without this it would jump with every turn.

    Args:
        tasks: T.

    Cost: one small operation a step; no wait for the device.
    """

    def __init__(self, tasks: int, device: torch.device):
        self.values = torch.zeros(tasks, device=device)
        self._masks: dict[tuple[int, ...], Tensor] = {}

    def fill(self, losses: Tensor, absent: Sequence[int]) -> Tensor:
        """T losses; those of absent tasks are the last ones of a batch that had them."""
        key = tuple(absent)
        if key not in self._masks:
            mask = torch.zeros(len(self.values), dtype=torch.bool)
            mask[list(key)] = True
            self._masks[key] = mask.to(self.values.device)
        self.values = torch.where(self._masks[key], self.values, losses.float())
        return self.values
