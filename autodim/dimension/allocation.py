"""The allocation: widths of all slots, what they cost and where they come from. Torch-free."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autodim.dimension import widths_yaml
from autodim.dimension.budget import UNITS, Unit
from autodim.dimension.entry import Entry, check_cover, drop_notes, exact_block, from_mapping, make_entry, to_mapping
from autodim.embedding.layout import CostModel, Layout, Slot, Table, uniform_layout
from autodim.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class Allocation:
    """Widths of all slots: the product's artefact, `widths.yaml`.

    Attributes:
        strategy: what found it (`manual`: a person).
        unit: of all costs: params, bytes, serving_bytes or dims.
        asked: the budget, in the unit.
        spent: sum of the entries' costs; at most `asked`.
        uniform: what the uniform model that was cut costs, in float32.
        common: the common width that the model sees. That of the uniform model, except with the strategy `uniform`:
            a native uniform model of width w has common width w and no projections.
        entries: the blocks, in slot order.
        budget: the budget as it was asked for, e.g. `25% params`.
        source: hash of what it came from.
        notes: remarks for a person, e.g. `slot zip dropped`.
        rule: how the widths were chosen: `exact` (the most predicted gain there is), `greedy` (gain per cost), `nested`
            (a prefix of one list of steps), `order` (by raw score); empty where the strategy has a rule of its own.
        task_weights: by which factors of the tasks' losses the worst task was served (task, factor); spectral cuts are
            in the basis of that weighted sum. Empty: as the config weighs the tasks.
    """

    strategy: str
    unit: Unit
    asked: int
    spent: int
    uniform: int
    common: int
    entries: tuple[Entry, ...]
    budget: str = ""
    source: str = ""
    notes: tuple[str, ...] = ()
    version: int = 1
    rule: str = ""
    task_weights: tuple[tuple[str, float], ...] = ()

    @property
    def widths(self) -> dict[str, int]:
        """Width of each slot, in slot order; of a table cut into several blocks, its widest."""
        return {slot: max(parts) for slot, parts in self._parts().items()}

    @property
    def block_widths(self) -> dict[str, int | list[int]]:
        """Width of each slot, in slot order; of a table cut into several blocks, the list of theirs."""
        return {slot: parts[0] if len(parts) == 1 else parts for slot, parts in self._parts().items()}

    @property
    def served_rounded(self) -> bool:
        """Whether any table is served in fewer bits than it was trained in."""
        return any(e.precision != "fp32" for e in self.entries)

    def layout(self, slots: Sequence[Slot], tables: Sequence[Table]) -> Layout:
        """The embedding side of the small model.

        Raises:
            ConfigError: the allocation was made for other slots, or for tables with other rows.
        """
        ours = {(s, e.table) for e in self.entries for s in e.slots}
        theirs = {(s.name, s.table) for s in slots}
        if ours != theirs:
            odd = sorted(name for name, _ in ours ^ theirs)
            raise ConfigError(f"the widths are for other slots than the model's; they differ in: {', '.join(odd)}")
        spans: dict[str, list[tuple[int, int]]] = {}
        for e in self.entries:
            spans.setdefault(e.table, []).append((e.start, e.stop))
        for table in tables:
            check_cover(table, spans.get(table.name, []), "the widths")
        return Layout(self.common, tuple(slots), tuple(tables), tuple(e.block for e in self.entries))

    def to_yaml(self) -> str:
        """The text of `widths.yaml`: for people, stable, one line a slot."""
        top: dict[str, Any] = {
            "version": self.version,
            "strategy": self.strategy,
            **({"rule": self.rule} if self.rule else {}),
            "budget": self.budget,
            "unit": self.unit,
            "asked": self.asked,
            "spent": self.spent,
            "uniform": self.uniform,
            "common": self.common,
            "source": self.source,
            "notes": list(self.notes),
            **({"task_weights": [list(pair) for pair in self.task_weights]} if self.task_weights else {}),
        }
        return widths_yaml.write(top, self.block_widths, [to_mapping(e) for e in self.entries])

    @staticmethod
    def from_yaml(text: str, where: str = "widths") -> Allocation:
        """Reads what `to_yaml` wrote. For a file that may be edited by hand, use `read_widths`.

        Raises:
            ConfigError: not such a text.
        """
        data = widths_yaml.read(text, where)
        missing = [k for k in widths_yaml.KEYS if k not in data]
        if missing:
            raise ConfigError(f"{where}: no {', '.join(missing)}; a file with widths alone is read by `read_widths`")
        if data["unit"] not in UNITS:
            raise ConfigError(f"{where}: unit: expected one of {', '.join(UNITS)}, found {data['unit']!r}")
        common = widths_yaml.number(data, "common", where)
        entries = tuple(from_mapping(b, data["widths"], common, where) for b in _with_widths(data, where))
        return Allocation(
            strategy=str(data["strategy"]),
            unit=data["unit"],
            asked=widths_yaml.number(data, "asked", where),
            spent=widths_yaml.number(data, "spent", where),
            uniform=widths_yaml.number(data, "uniform", where),
            common=common,
            entries=entries,
            budget=str(data["budget"]),
            source=str(data["source"]),
            notes=tuple(str(n) for n in data["notes"]),
            rule=str(data.get("rule", "")),
            task_weights=widths_yaml.task_weights(data, where),
        )

    def _parts(self) -> dict[str, list[int]]:
        """The widths of each slot's blocks, in slot order."""
        found: dict[str, list[int]] = {}
        for e in self.entries:
            for slot in e.slots:
                found.setdefault(slot, []).append(e.width)
        return found


def read_widths(
    path: str | os.PathLike[str], slots: Sequence[Slot], tables: Sequence[Table], common: int, cost: CostModel
) -> Allocation:
    """Reads a widths file, as written or edited by hand; `widths: {user: 8, item: 4}` alone is enough.

    The widths are taken exactly as said (a small slot is not silently stored whole) and all costs are recomputed.
    Rows come from `tables`. `kept` survives where its length is still the width. What was not edited comes back as
    it was; otherwise the strategy is `manual` and the asked budget is what is spent.

    Args:
        path: the file.
        slots: the model's slots, each of which the file must name.
        tables: their tables.
        common: D of the uniform model.
        cost: what widths cost.

    Raises:
        ConfigError: no such file, an unknown or missing slot, a width below 0 or above `common`, slots of one table
            with different widths, or blocks that do not cover their table.
    """
    where = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{where}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    data = widths_yaml.read(text, where)
    widths = {slot: tuple(w) if isinstance(w, list) else (w,) for slot, w in data["widths"].items()}
    names = [s.name for s in slots]
    for name in widths:
        if name not in names:
            raise ConfigError(f"{where}: widths: unknown slot {name!r}{did_you_mean(name, names)}")
    missing = [n for n in names if n not in widths]
    if missing:
        raise ConfigError(f"{where}: widths: no width for {', '.join(missing)}; give every slot one (0 drops it)")
    uniform = cost.reference(uniform_layout(slots, tables, common))
    common = _common(data, widths, common, where)
    cost = replace(cost, common=common)
    entries: list[Entry] = []
    edited = "blocks" not in data
    same_unit = data.get("unit") == cost.unit
    for table in sorted(tables, key=lambda t: min((i for i, s in enumerate(slots) if s.table == t.name), default=-1)):
        readers = tuple(s.name for s in slots if s.table == table.name)
        if not readers:
            continue
        if len({widths[r] for r in readers}) > 1:
            raise ConfigError(
                f"{where}: widths: {', '.join(readers)} share the table {table.name}: give them one width"
            )
        parts = widths[readers[0]]
        blocks = [b for b in data.get("blocks", []) if b["table"] == table.name] or [{}]
        if len(parts) != len(blocks):
            raise ConfigError(
                f"{where}: widths: {readers[0]} has {len(parts)} widths and its table {len(blocks)} blocks"
            )
        spans = [(0, table.rows)]
        if len(blocks) > 1:
            spans = [(widths_yaml.number(b, "start", where), widths_yaml.number(b, "stop", where)) for b in blocks]
            check_cover(table, spans, where)
        for width, block, (start, stop) in zip(parts, blocks, spans, strict=True):
            # A bias belongs to the factorisation, or stands for a slot without a table: not for one that got a width.
            bias = cost.bias or (bool(block.get("bias")) and bool(block.get("projected") or width == 0))
            made = exact_block(replace(cost, bias=bias), table.name, start, stop, width)
            precision = block.get("precision", cost.precision)
            spent = replace(cost, precision=precision).of(made, len(readers))
            entry = make_entry({**block, "precision": precision}, readers, made, spent, common)
            edited = (
                edited
                or (same_unit and block.get("cost") != spent)
                or (block.get("kept") is not None) != (entry.kept is not None)
            )
            entries.append(entry)
    spent = sum(e.cost for e in entries)
    strategy = str(data.get("strategy", "manual"))
    notes = [str(n) for n in data.get("notes") or []] if not edited else drop_notes(entries)
    if edited and strategy != "manual":
        notes.append(f"edited by hand; was found by {strategy}")
    as_asked = not edited and same_unit
    return Allocation(
        strategy="manual" if edited else strategy,
        unit=cost.unit,
        asked=widths_yaml.number(data, "asked", where) if as_asked else spent,
        spent=spent,
        uniform=uniform,
        common=common,
        entries=tuple(entries),
        budget=str(data.get("budget", "")) if as_asked else "",
        source=str(data.get("source", "")),
        notes=tuple(notes),
        rule="" if edited else str(data.get("rule", "")),
        task_weights=widths_yaml.task_weights(data, where),
    )


def _with_widths(data: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """The blocks of a file, each with its width."""
    count: dict[str, int] = {}
    found: list[dict[str, Any]] = []
    for block in data["blocks"]:
        i = count.get(block["table"], 0)
        count[block["table"]] = i + 1
        said = {str(data["widths"].get(slot)) for slot in block["slots"]}
        parts = data["widths"].get(block["slots"][0])
        parts = parts if isinstance(parts, list) else [parts]
        if len(said) > 1 or i >= len(parts) or parts[i] is None:
            raise ConfigError(f"{where}: the widths of {', '.join(block['slots'])} do not match the blocks of the file")
        found.append({**block, "width": parts[i]})
    return found


def _common(data: dict[str, Any], widths: dict[str, tuple[int, ...]], common: int, where: str) -> int:
    """The file's common width: the model's, or that of a native uniform model."""
    said = widths_yaml.number(data, "common", where) if "common" in data else common
    all_widths = {w for parts in widths.values() for w in parts}
    if said > common or (said < common and all_widths != {said}):
        raise ConfigError(f"{where}: made for the common width {said}; the uniform model's is {common}")
    for slot, parts in widths.items():
        if max(parts) > said:
            raise ConfigError(f"{where}: widths: {slot}: {max(parts)} is above the common width {said}")
    return said
