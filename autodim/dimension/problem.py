"""What a strategy is asked: slots, tables, costs, limits and settings in one frozen value. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autodim.config.schema import PruneConfig
from autodim.dimension.limits import Choices, choices
from autodim.embedding.layout import CostModel, Layout, Slot, Table, uniform_layout
from autodim.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Problem:
    """Everything about the model and the wishes that an allocation depends on, scores and budget apart.

    Attributes:
        slots: in the model's order.
        tables: that they read.
        common: D.
        cost: what widths cost; its unit is the budget's.
        limits: per table what it may get, in slot order.
        settings: the config section.
        counts: per table, training occurrences of each id (n), or their total; None: unknown.
        seed: of strategies that draw.
        source: hash of what the problem came from; goes into the allocation.
    """

    slots: tuple[Slot, ...]
    tables: tuple[Table, ...]
    common: int
    cost: CostModel
    limits: Mapping[str, Choices]
    settings: PruneConfig
    counts: Mapping[str, NDArray[np.int64] | int] | None = None
    seed: int = 0
    source: str = ""

    @property
    def uniform(self) -> Layout:
        """The uniform model's layout."""
        return uniform_layout(self.slots, self.tables, self.common)

    def frequency(self, table: str) -> float:
        """Mean training occurrences of an id of the table; without counts 1/n, which ranks alike."""
        rows = self.limits[table].rows
        total = 1.0 if self.counts is None else float(np.sum(self.counts[table]))
        return total / max(rows, 1)


def make_problem(
    slots: Sequence[Slot],
    tables: Sequence[Table],
    common: int,
    settings: PruneConfig,
    *,
    cost: CostModel | None = None,
    counts: Mapping[str, NDArray[np.int64] | int] | None = None,
    source: str = "",
) -> Problem:
    """Works out costs and limits.

    Args:
        slots: the model's slots.
        tables: their tables.
        common: D.
        settings: the config section (a preset is applied where configs are read).
        cost: default: the budget's unit, float32 and one optimizer number per stored number.
        counts: see `Problem`.
        source: see `Problem`.

    Raises:
        ConfigError: contradicting limits, unknown slots, or costs in another unit than the budget.
    """
    precision = "fp32" if settings.precision == "auto" else settings.precision
    cost = cost or CostModel(settings.budget.unit, common, precision=precision)
    if cost.common != common:
        raise ConfigError(f"the costs are for the common width {cost.common}; the model's is {common}")
    if cost.unit != settings.budget.unit:
        raise ConfigError(f"the budget is in {settings.budget.unit} and the costs are in {cost.unit}")
    limits = choices(slots, tables, cost, settings)
    return Problem(tuple(slots), tuple(tables), common, cost, limits, settings, counts, settings.seed, source)
