"""Limits on widths: what each table may get, and what that costs. Torch-free."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import lcm

import numpy as np

from autodim.config.schema import PruneConfig, SlotLimits
from autodim.dimension.curves import Curve, Floats, Ints
from autodim.dimension.entry import exact_block
from autodim.embedding.layout import Block, CostModel, Slot, Table
from autodim.embedding.precision import PRECISIONS, Precision
from autodim.errors import ConfigError, did_you_mean


@dataclass(frozen=True, eq=False)
class Choices:
    """The widths that one table may get. Each costs strictly more than the one before.

    With `prune.precision: auto` they are the widths in float32, then in float16, then in int8; costs rise strictly
    within each precision only.

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
        precisions: how each is served; one for all where there is no choice.
    """

    table: str
    slots: tuple[str, ...]
    rows: int
    widths: Ints
    nominal: Ints
    costs: Ints
    constant: bool
    forced: str
    precisions: tuple[Precision, ...] = ("fp32",)

    def precision(self, position: int) -> Precision:
        """How the width at `position` is served; what stores nothing is float32."""
        if not self.widths[position]:
            return "fp32"
        return self.precisions[position] if len(self.precisions) > 1 else self.precisions[0]

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

    - With a `ladder` only its rungs are allowed; it goes with all other limits, and D itself is always a rung.
    - With `precision: auto` each width is offered in each precision.
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
    offered = PRECISIONS if settings.precision == "auto" and cost.unit == "serving_bytes" else (cost.precision,)
    models = [replace(cost, precision=p) for p in offered]
    return {
        table: _union(
            [
                _table(table=table, slots=tuple(names), rows=rows[table], cost=model, settings=settings)
                for model in models
            ]
        )
        for table, names in readers.items()
    }


def _union(parts: list[Choices]) -> Choices:
    """One table's choices in several precisions; width 0 stands once."""
    first = parts[0]
    if len(parts) == 1:
        return first
    use = [np.arange(len(c.widths)) if c is first else np.flatnonzero(c.widths > 0) for c in parts]

    def joined(name: str) -> Ints:
        return np.concatenate([getattr(c, name)[u] for c, u in zip(parts, use, strict=True)])

    precisions = tuple(p for c, u in zip(parts, use, strict=True) for p in c.precisions * len(u))
    return replace(
        first, widths=joined("widths"), nominal=joined("nominal"), costs=joined("costs"), precisions=precisions
    )


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
    if settings.ladder is None:
        rungs = list(range(step, most + 1, step))
    else:  # rungs above D are D, which comes below
        rungs = sorted({r for r in settings.ladder if r % step == 0 and r < common and r <= most})
    # More dimensions than rows are useless, whatever min_dim says; a multiple of 4 still needs 4 for 3 rows.
    useful = rungs[: bisect_left(rungs, rows) + 1] if rows else []
    asked = [r for r in useful if r >= least]
    if not asked and useful and useful[-1] >= rows:
        asked = useful[-1:]
    # D is what the uniform table has, so it needs no padding and no projection.
    if most == common and (rows >= common or cost.unit != "dims" or not asked):
        asked.append(common)
    if not asked and not zero:
        what = f"multiple of {step}" if settings.ladder is None else f"rung of the ladder {list(settings.ladder)}"
        if settings.ladder is not None and step > 1:
            what += f" that is a multiple of {step}"
        raise ConfigError(f"{where}: no {what} lies between min_dim {max(least, 1)} and max_dim {most}")
    stored, costs = cost.many(table, rows, asked, len(slots))
    nominal = np.asarray(asked, dtype=np.int64)
    constant = settings.zero == "mean"
    if zero:
        empty = exact_block(cost, table, 0, rows, 0, constant=constant)
        stored, nominal = np.append(0, stored), np.append(0, nominal)
        costs = np.append(cost.of(empty, len(slots)), costs)
    forced = f"min_dim {least}" if least else f"zero: {settings.zero}" if settings.zero != "drop" else ""
    if not forced and cost.bias and zero:
        forced = "the constant that a spectral cut keeps"
    if forced and (least or settings.zero == "keep_min"):
        forced += f", multiple_of {step}" if step > 1 else ""
        forced += "" if settings.ladder is None else ", ladder"
    return _choices(table, slots, rows, cost.precision, stored, nominal, costs, constant, forced)


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
    widths, costs = np.array([width]), np.array([cost.of(block, len(slots))])
    constant = settings.zero == "mean"
    return _choices(table, slots, rows, cost.precision, widths, widths, costs, constant, f"fixed {width}")


def _choices(
    table: str,
    slots: tuple[str, ...],
    rows: int,
    precision: Precision,
    widths: Ints,
    nominal: Ints,
    costs: Ints,
    constant: bool,
    forced: str,
) -> Choices:
    """Of widths that rise (the first of equals counts), those that are cheaper than all wider ones."""
    first = np.append(True, widths[1:] > widths[:-1])
    widths, nominal, costs = widths[first], nominal[first], costs[first]
    wider = np.append(np.minimum.accumulate(costs[::-1])[::-1][1:], np.iinfo(np.int64).max)
    useful = costs < wider
    return Choices(table, slots, rows, widths[useful], nominal[useful], costs[useful], constant, forced, (precision,))
