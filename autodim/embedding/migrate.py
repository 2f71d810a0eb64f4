"""Rows by id value: from the tables of one vocabulary to those of another.

A new log has its own vocabulary: the same value has another id, new values appear, old ones are gone. `row_map` says
where each new row was; tables, first-order weights and optimizer state are then carried by it.

Letters: n rows of an old table, n' of the new one, w width, D common width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from autodim.embedding.layout import Block, Layout
from autodim.embedding.tables import Tables

if TYPE_CHECKING:
    from autodim.data.vocabulary import Vocabulary

NEW = -1  # a row whose value the old vocabulary did not have


def row_map(old: Vocabulary, new: Vocabulary) -> Tensor:
    """The old row of each new row: n' int64, `NEW` for values that are new; row 0 (unknown ids) stays row 0."""
    ids = torch.from_numpy(old.ids_of(new.values)).long()
    return torch.cat([torch.zeros(1, dtype=torch.int64), torch.where(ids == 0, NEW, ids)])


def carry(old: Tensor, rows: Tensor, fresh: Tensor | float | None = None) -> Tensor:
    """Rows of a tensor by a row map: n x ... -> n' x ...; row i is old row `rows[i]`.

    Args:
        fresh: what new rows hold (a number, or one row); default: row 0, which is what these ids read until now.
    """
    rows = rows.to(old.device)
    out = old.index_select(0, rows.clamp(min=0))
    if fresh is not None:
        out[rows == NEW] = torch.as_tensor(fresh, dtype=old.dtype, device=old.device)
    return out


def carry_tables(old: Tables, new: Tables, maps: Mapping[str, Tensor], same: set[str]) -> None:
    """Fill tables that were made for another vocabulary.

    Args:
        old: each table one block. new: the same tables, at other rows and perhaps other widths; changed in place.
        maps: per table its row map.
        same: tables that keep their width: rows and projection are carried. Of the others only the first-order weights
            are; the rest is the caller's.
    """
    with torch.no_grad():
        for block in new.layout.blocks:
            found, group = old.read(block.table), new.group_of(block)
            if group is None:
                continue
            rows = group.rows_of(block)
            if group.linear is not None and "linear" in found:
                group.linear[rows, 0] = carry(found["linear"], maps[block.table])
            if block.table not in same or group.weight is None:
                continue
            group.weight[rows] = carry(found["weight"], maps[block.table])
            if group.projection is not None:
                group.projection[group.index_of(block)] = found["projection"]


def uniform_tables(old: Tables) -> Tables:
    """The same slot vectors from tables stored whole: n x D each, with the old tables' biases.

    Raises:
        ValueError: a table is cut into blocks.
    """
    layout = old.layout
    if any(len(layout.blocks_of(t.name)) > 1 for t in layout.tables):
        raise ValueError("tables that are cut into blocks have no single table")
    biased = {layout.slots[p].table for p in old.biased}
    whole = tuple(Block(t.name, 0, t.rows, layout.common, bias=t.name in biased) for t in layout.tables)
    new = Tables(Layout(layout.common, layout.slots, layout.tables, whole), bool(old.linear_parameters()))
    with torch.no_grad():
        for block in whole:
            found, group = old.read(block.table), new.group_of(block)
            assert group is not None and group.weight is not None
            rows = group.rows_of(block)
            if "weight" in found:
                weight = found["weight"]
                group.weight[rows] = weight @ found["projection"] if "projection" in found else weight
            if group.linear is not None and "linear" in found:
                group.linear[rows, 0] = found["linear"]
        if new.bias is not None and old.bias is not None:
            new.bias.copy_(old.bias)
    return new
