"""What a strategy is asked: slots, tables, costs, limits and settings in one frozen value. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from autodim.config.schema import PruneConfig
from autodim.dimension.blocks import Spans, cut_rows, items
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
        whole: the model's own slots and tables, where `slots` and `tables` are items of cut tables
            (`dimension.blocks`).
        parents: item -> its table, the table's slots, start and stop.
        spans: per cut table its blocks.
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
    whole: tuple[tuple[Slot, ...], tuple[Table, ...]] = ((), ())
    parents: Mapping[str, tuple[str, tuple[str, ...], int, int]] = field(default_factory=dict)
    spans: Spans = field(default_factory=dict)

    @property
    def uniform(self) -> Layout:
        """The uniform model's layout."""
        return uniform_layout(self.slots, self.tables, self.common)

    def span(self, table: str) -> tuple[str, int, int]:
        """The model's table that one of the problem's stands for, its first row there and one past its last."""
        name, _, start, stop = self.parents.get(table, (table, (), 0, self.limits[table].rows))
        return name, start, stop

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
    spans: Spans | None = None,
) -> Problem:
    """Works out costs, limits and blocks.

    Args:
        slots: the model's slots.
        tables: their tables.
        common: D.
        settings: the config section (a preset is applied where configs are read).
        cost: default: the budget's unit, float32 and one optimizer number per stored number.
        counts: see `Problem`.
        source: see `Problem`.
        spans: the blocks of cut tables; default: as the settings say.

    Raises:
        ConfigError: contradicting limits, unknown slots, or costs in another unit than the budget.
    """
    precision = "fp32" if settings.precision == "auto" else settings.precision
    cost = cost or CostModel(settings.budget.unit, common, precision=precision)
    if cost.common != common:
        raise ConfigError(f"the costs are for the common width {cost.common}; the model's is {common}")
    if cost.unit != settings.budget.unit:
        raise ConfigError(f"the budget is in {settings.budget.unit} and the costs are in {cost.unit}")
    whole = (tuple(slots), tuple(tables))
    spans = cut_rows(slots, tables, settings.blocks, counts) if spans is None else spans
    if spans and cost.unit == "dims":
        raise ConfigError("prune.blocks: a budget in dims counts the dimensions of slots, not of blocks; use params")
    found = items(slots, tables, settings, counts, spans)
    limits = choices(found.slots, found.tables, cost, found.settings)
    return Problem(
        found.slots,
        found.tables,
        common,
        cost,
        limits,
        found.settings,
        found.counts,
        settings.seed,
        source,
        whole,
        found.parents,
        spans,
    )
