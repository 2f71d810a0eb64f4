"""Rows that only judge: with a budget by quality, the validation part is divided once and for all.

`watch` rows stop trainings early and are scored; `confirm` rows do neither and decide which cut is safe. Which row is
which depends on its number in the validation part and on the split's seed alone, so every run of the same log agrees.
Without a budget by quality all validation rows are watched.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from autodim.config.schema import Config
from autodim.data.columns import Columns
from autodim.data.encoded import EncodedLog
from autodim.data.splits import uniform
from autodim.errors import DataError

CONFIRM_SALT = 5  # makes this use of the split's seed independent of the others


@dataclass(frozen=True)
class HeldOutLog(EncodedLog):
    """A log whose part `valid` has the watched rows alone, and which has a part `confirm`.

    Attributes:
        share: of the validation rows that only judge.
        seed: of the choice.
    """

    share: float = 0.5
    seed: int = 0

    def part(self, name: str) -> Columns:
        """The rows of a part; those of `valid` and `confirm` are copied into memory."""
        if name not in ("valid", "confirm"):
            return super().part(name)
        return self._divided[name]

    @cached_property
    def _divided(self) -> dict[str, Columns]:
        everything = super().part("valid")
        judges = uniform(np.arange(len(everything)), self.seed, CONFIRM_SALT) < self.share
        return {
            name: take(everything, torch.from_numpy(np.flatnonzero(judges == (name == "confirm"))))
            for name in ("valid", "confirm")
        }

    @property
    def inputs(self) -> dict[str, float]:
        """What a stage that looks at the validation rows depends on besides the data."""
        return {"confirm": self.share}


def held_out(log: EncodedLog, config: Config) -> EncodedLog:
    """The log as the stages of this config see it.

    Raises:
        DataError: so few validation rows that one side of the division is empty.
    """
    if not config.prune.budget.by_quality:
        return log
    divided = HeldOutLog(log.path, log.manifest, config.prune.quality.confirm, config.data.split.seed)
    rows = {name: len(divided.part(name)) for name in ("valid", "confirm")}
    if not all(rows.values()):
        raise DataError(
            f"prune.quality.confirm: of {sum(rows.values()):,} validation rows {rows['confirm']:,} would judge and "
            f"{rows['valid']:,} be left to stop and score on; give the validation part more rows (data.split.valid)"
        )
    return divided


def inputs_of(log: EncodedLog) -> dict[str, float]:
    """Additions to the hash of a stage that looks at the validation rows; none where they are all watched."""
    return log.inputs if isinstance(log, HeldOutLog) else {}


def take(columns: Columns, rows: Tensor) -> Columns:
    """Some rows, copied into memory: row numbers int64, ascending."""
    batch = columns.batch(rows)
    return replace(
        columns,
        ids=batch.ids,
        numeric=batch.numeric,
        labels=batch.labels,
        bags={name: (bag.values, bag.offsets) for name, bag in batch.bags.items()},
        bag_weights={name: bag.weights for name, bag in batch.bags.items() if bag.weights is not None},
    )
