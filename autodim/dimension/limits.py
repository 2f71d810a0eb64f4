"""Limits on widths: what each table may get, and what that costs. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import lcm

import numpy as np

from autodim.config.schema import PruneConfig, SlotLimits
from autodim.dimension.curves import Curve, Floats, Ints
from autodim.dimension.entry import exact_block
from autodim.embedding.layout import Block, CostModel, Slot, Table
from autodim.errors import ConfigError, did_you_mean


@dataclass(frozen=True, eq=False)
class Choices:
    """The widths that one table may get. Each costs strictly more than the one before.

    Attributes:
        table: its name.
        slots: the slots that read it, in slot order.
        rows: n.
        widths: numbers stored a row, ascending; D: stored whole.
        nominal: the dimensions that were asked for. A small table can be cheaper whole than factored: then the last
            width is D while its nominal one is the smallest that is stored so.
        costs: of each width, in the cost model's unit.
        constant: at width 0 the slots read a constant (the policy `mean`).
        forced: what forces the first width, for messages; empty where it is free.
    """

    table: str
    slots: tuple[str, ...]
    rows: int
    widths: Ints
    nominal: Ints
    costs: Ints
    constant: bool
    forced: str

    def block(self, position: int, cost: CostModel) -> Block:
        """The block of the width at `position`."""
        return exact_block(cost, self.table, 0, self.rows, int(self.widths[position]), constant=self.constant)

    def position(self, width: int) -> int:
        """Position of the most dimensions that are at most `width` (of the first where all are more)."""
        return max(0, int(np.searchsorted(self.nominal, width, side="right")) - 1)

    def curve(self, gains: Floats) -> Curve:
        """These choices with a gain for each."""
        return Curve(self.table, self.widths, self.costs, gains, self.forced)


def choices(
    slots: Sequence[Slot], tables: Sequence[Table], cost: CostModel, settings: PruneConfig
) -> dict[str, Choices]:
    """What each table may get, in slot order.

    - Widths are multiples of `multiple_of` from `min_dim` to min(`max_dim`, D, n): more than n dimensions for n rows
      are useless (a limit above n becomes n, rounded up to the multiple). D itself is always a multiple.
    - In params and bytes a width that is cheaper stored whole is stored whole, at width D and without a projection;
      `max_dim` limits the dimensions that were asked for, not how they are stored. In dims it is never.
    - `zero`: `drop` allows 0; `keep_min` starts at one multiple; `mean` allows 0 with a constant of D numbers a slot.
      Any `min_dim` above 0 rules 0 out.
    - `fixed` goes before all other limits and is exact: never stored whole.
    - Slots that share a table share its limits: the largest minimum, the smallest maximum, the common multiple.
    - Widths that cost no less than a larger one are left out.

    Raises:
        ConfigError: limits for an unknown slot, or limits that contradict each other.
    """
    names = [s.name for s in slots]
    for name in settings.slots:
        if name not in names:
            raise ConfigError(f"prune.slots: unknown slot {name!r}{did_you_mean(name, names)}")
    rows = {t.name: t.rows for t in tables}
    readers: dict[str, list[str]] = {}
    for slot in slots:
        readers.setdefault(slot.table, []).append(slot.name)
    return {
        table: _table(
            table=table,
            slots=tuple(names),
            rows=rows[table],
            cost=cost,
            settings=settings,
        )
        for table, names in readers.items()
    }


def _table(
    *,
    table: str,
    slots: tuple[str, ...],
    rows: int,
    cost: CostModel,
    settings: PruneConfig,
) -> Choices:
    own = [settings.slots.get(s, SlotLimits()) for s in slots]
    common = cost.common
    where = f"slot {slots[0]}" if len(slots) == 1 else f"table {table} (slots {', '.join(slots)})"
    step = lcm(*(s.multiple_of or settings.multiple_of for s in own))
    least = max(settings.min_dim if s.min_dim is None else s.min_dim for s in own)
    most = min(s.max_dim or settings.max_dim or common for s in own)
    most = min(most, common)
    fixed = {s.fixed for s in own if s.fixed is not None}
    if fixed:
        return _fixed(
            table=table, slots=slots, rows=rows, cost=cost, settings=settings, fixed=fixed, step=step, where=where
        )
    if least > common:
        raise ConfigError(f"{where}: min_dim {least} is above the common width {common} (model.width)")
    if least > most:
        raise ConfigError(f"{where}: min_dim {least} is above max_dim {most}")
    zero = least == 0 and settings.zero != "keep_min"
    # More dimensions than rows are useless, whatever min_dim says; a multiple of 4 still needs 4 for 3 rows.
    enough = _up(rows, step)
    first = max(step, min(_up(least, step), enough))
    asked = list(range(first, min(most, enough) + 1, step))
    # D is what the uniform table has, so it needs no padding and no projection.
    if most == common and (rows >= common or cost.unit != "dims" or not asked):
        asked.append(common)
    if not asked and not zero:
        raise ConfigError(f"{where}: no multiple of {step} lies between min_dim {max(least, 1)} and max_dim {most}")
    points: dict[int, tuple[int, int]] = {}  # width -> nominal, cost
    if zero:
        empty = exact_block(cost, table, 0, rows, 0, constant=settings.zero == "mean")
        points[0] = (0, cost.of(empty, len(slots)))
    for width in asked:
        block = cost.block(table, 0, rows, width, len(slots))
        points.setdefault(block.width, (width, cost.of(block, len(slots))))
    forced = f"min_dim {least}" if least else f"zero: {settings.zero}" if settings.zero != "drop" else ""
    if step > 1 and forced:
        forced += f", multiple_of {step}"
    constant = settings.zero == "mean"
    return _choices(table=table, slots=slots, rows=rows, points=points, constant=constant, forced=forced)


def _fixed(
    *,
    table: str,
    slots: tuple[str, ...],
    rows: int,
    cost: CostModel,
    settings: PruneConfig,
    fixed: set[int],
    step: int,
    where: str,
) -> Choices:
    width = min(fixed)
    if len(fixed) > 1:
        raise ConfigError(
            f"{where}: fixed widths {sorted(fixed)} contradict each other; slots of a table have one width"
        )
    if width > cost.common:
        raise ConfigError(f"{where}: fixed {width} is above the common width {cost.common} (model.width)")
    if width % step and width != cost.common:
        raise ConfigError(
            f"{where}: fixed {width} is not a multiple of {step}; set its multiple_of to 1, or another width"
        )
    block = exact_block(cost, table, 0, rows, width, constant=settings.zero == "mean")
    points = {width: (width, cost.of(block, len(slots)))}
    constant, forced = settings.zero == "mean", f"fixed {width}"
    return _choices(table=table, slots=slots, rows=rows, points=points, constant=constant, forced=forced)


def _choices(
    *, table: str, slots: tuple[str, ...], rows: int, points: dict[int, tuple[int, int]], constant: bool, forced: str
) -> Choices:
    useful: list[tuple[int, int, int]] = []  # from the widest down, only what is cheaper than all wider ones
    for width in sorted(points, reverse=True):
        nominal, spent = points[width]
        if not useful or spent < useful[-1][2]:
            useful.append((width, nominal, spent))
    widths, nominals, costs = (np.array(column, dtype=np.int64) for column in zip(*reversed(useful), strict=True))
    return Choices(table, slots, rows, widths, nominals, costs, constant, forced)


def _up(width: int, step: int) -> int:
    """The smallest multiple of `step` that is at least `width`."""
    return -(-width // step) * step
