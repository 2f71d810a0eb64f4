"""Tables that gain rows: a trained network goes on with ids that it has never met.

Letters: n rows of a table before, n' >= n after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from autodim.embedding.group import Group
from autodim.embedding.layout import Block, Layout, Table
from autodim.embedding.tables import Tables
from autodim.optim.rows import RowOptimizer


def grown_layout(layout: Layout, tables: Sequence[Table]) -> Layout:
    """The layout with longer tables; widths, projections and biases stay. Of a table that is cut into blocks the last
    one, the rarest ids', grows.

    Raises:
        ValueError: a table is missing or would shrink.
    """
    rows = {t.name: t.rows for t in tables}
    for table in layout.tables:
        if rows.get(table.name, 0) < table.rows:
            raise ValueError(
                f"table {table.name!r}: found {rows.get(table.name, 0)} rows, expected at least {table.rows}"
            )
    ends = {t.name: t.rows for t in layout.tables}
    return replace(
        layout,
        tables=tuple(Table(t.name, rows[t.name]) for t in layout.tables),
        blocks=tuple(replace(b, stop=rows[b.table]) if b.stop == ends[b.table] else b for b in layout.blocks),
    )


def grow_rows(old: Group, new: Group, tensor: Tensor, fresh: Tensor) -> Tensor:
    """A tensor over a group's rows (n x anything) laid out for the grown group.

    Args:
        fresh: what rows without an old one hold; of the grown shape, used up.
    """
    for before, after in zip(old.blocks, new.blocks, strict=True):
        start = new.rows_of(after).start
        fresh[start : start + before.rows] = tensor[old.rows_of(before)]
    return fresh


def grow_weights(old: Tables, new: Tables) -> dict[str, Tensor]:
    """All of the grown tables' tensors by name.

    A new row starts as a copy of its table's row 0, the out-of-vocabulary id that its value read until now, so that
    growing changes no prediction. Where the rows that grow are another block than row 0's, a new row starts as the
    vector of that block that is nearest to row 0's (`nearest_row`), and only what new ids predict changes.
    """
    found = {name: tensor.detach() for name, tensor in old.state_dict().items()}
    places: dict[tuple[str, int], Tensor] = {}
    for block in old.layout.blocks:
        if block.start:
            places[block.table, block.start] = nearest_row(old, block)
    for number, (a, b) in enumerate(_groups(old, new)):
        for kind, tensor in (("weight", a.weight), ("linear", a.linear)):
            if tensor is None:
                continue
            data = tensor.detach()
            fresh = data.new_empty(sum(block.rows for block in b.blocks), data.shape[1])
            for before, after in zip(a.blocks, b.blocks, strict=True):
                first = data[a.rows_of(before)][:1]
                if before.start:
                    first = places[before.table, before.start] if kind == "weight" else _first(old, before.table, kind)
                fresh[b.rows_of(after)] = first
            found[f"groups.{number}.{kind}"] = grow_rows(a, b, data, fresh)
    return found


def nearest_row(tables: Tables, block: Block) -> Tensor:
    """What a row of a block holds (w numbers) so that its slots read what row 0 of the table gives them, as nearly as
    the block can: least squares through its projection, of the mean over the slots that read the table."""
    group = tables.group_of(block)
    if group is None or group.weight is None:
        return tables.restore.new_zeros(0, dtype=torch.float32)
    head = tables.read_block(tables.layout.blocks_of(block.table)[0])
    here = tables.read_block(block)
    wanted = torch.zeros(tables.layout.common, dtype=torch.float64, device=group.weight.device)
    if "weight" in head:
        row = head["weight"][0].double()
        wanted += row @ head["projection"].double() if "projection" in head else row
    slots = [s.name for s in tables.layout.slots_of(block.table)]
    for own, sign in ((head, 1.0), (here, -1.0)):
        offsets = [own[f"offset/{s}"].double() for s in slots if f"offset/{s}" in own]
        if offsets:
            wanted += sign * torch.stack(offsets).mean(0)
    if "projection" in here:
        wanted = wanted @ torch.linalg.pinv(here["projection"].double())
    return wanted.to(group.weight)


def _first(tables: Tables, table: str, kind: str) -> Tensor:
    """Row 0 of a table: its numbers of one kind."""
    return tables.read_block(tables.layout.blocks_of(table)[0])[kind][:1]


def grow_state(
    old: Tables, new: Tables, optimizer: RowOptimizer, states: Mapping[int, Mapping[str, Any]]
) -> dict[int, dict[str, Any]]:
    """A table optimizer's state for the grown tables: old rows keep theirs, new rows start as the rule starts them.

    Args:
        optimizer: of the grown tables, in the order of `new.table_parameters()`.
        states: by the parameter's number, tensors and numbers by name, for the old tables.
    """
    places = [(a, b) for a, b in _groups(old, new) for kind in (a.weight, a.linear) if kind is not None]
    parameters = [(p, group) for group in optimizer.param_groups for p in group["params"]]
    found = {}
    for number, state in states.items():
        (a, b), (parameter, group) = places[number], parameters[number]
        fresh = optimizer.fresh(parameter.detach(), group)
        grown: dict[str, Any] = {}
        for name, value in state.items():
            begun = fresh.get(name)
            grown[name] = value
            if isinstance(value, Tensor) and isinstance(begun, Tensor) and begun.dim() > 0:
                grown[name] = grow_rows(a, b, value.to(begun.device), begun)
        found[number] = grown
    return found


def _groups(old: Tables, new: Tables) -> list[tuple[Group, Group]]:
    pairs = list(zip(old.groups, new.groups, strict=True))
    assert all([x.table for x in a.blocks] == [x.table for x in b.blocks] for a, b in pairs)  # type: ignore[union-attr]
    return pairs  # type: ignore[return-value]
