"""Tables that gain rows: a trained network goes on with ids that it has never met.

Letters: n rows of a table before, n' >= n after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from autodim.embedding.group import Group
from autodim.embedding.layout import Layout, Table
from autodim.embedding.tables import Tables
from autodim.optim.rows import RowOptimizer


def grown_layout(layout: Layout, tables: Sequence[Table]) -> Layout:
    """The layout with longer tables; widths, projections and biases stay.

    Raises:
        ValueError: a table is missing, would shrink, or is cut into blocks: what new ids read until now, row 0, lies in
            another block than the one that grows.
    """
    for table in layout.tables:
        if len(layout.blocks_of(table.name)) > 1:
            raise ValueError(f"table {table.name!r} is cut into blocks of rows, and only whole tables grow")
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
    growing changes no prediction.
    """
    found = {name: tensor.detach() for name, tensor in old.state_dict().items()}
    for number, (a, b) in enumerate(_groups(old, new)):
        for kind, tensor in (("weight", a.weight), ("linear", a.linear)):
            if tensor is None:
                continue
            data = tensor.detach()
            fresh = data.new_empty(sum(block.rows for block in b.blocks), data.shape[1])
            for before, after in zip(a.blocks, b.blocks, strict=True):
                fresh[b.rows_of(after)] = data[a.rows_of(before)][:1]
            found[f"groups.{number}.{kind}"] = grow_rows(a, b, data, fresh)
    return found


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
