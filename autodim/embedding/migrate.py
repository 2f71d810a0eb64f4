"""Rows by id value: from the tables of one vocabulary to those of another.

A new log has its own vocabulary: the same value has another id, new values appear, old ones are gone. `row_map` says
where each new row was; tables, first-order weights and optimizer state are then carried by it.

Letters: n rows of an old table, n' of the new one, w width, D common width.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
        old, new: the same tables, at other rows and perhaps other widths; `new` is changed in place.
        maps: per table its row map.
        same: tables of one block that keep their width: rows and projection are carried. Of the others only the
            first-order weights are; the rest is the caller's.
    """
    with torch.no_grad():
        for block in new.layout.blocks:
            group = new.group_of(block)
            if group is None:
                continue
            rows = group.rows_of(block)
            if group.linear is not None:
                group.linear[rows, 0] = carry(
                    whole_linear(old, block.table), maps[block.table][block.start : block.stop]
                )
            if block.table not in same or group.weight is None:
                continue
            found = old.read(block.table)
            group.weight[rows] = carry(found["weight"], maps[block.table])
            if group.projection is not None:
                group.projection[group.index_of(block)] = found["projection"]


def whole_linear(tables: Tables, table: str) -> Tensor:
    """The first-order weights of a table, n, whatever it is cut into; zeros where there are none."""
    blocks = [(b, tables.read_block(b)) for b in tables.layout.blocks_of(table)]
    return torch.cat([f["linear"] if "linear" in f else tables.restore.new_zeros(b.rows).float() for b, f in blocks])


def whole_vectors(tables: Tables, table: str, constants: bool = False) -> Tensor:
    """What the rows of a table mean, n x D, whatever it is cut into: row times projection, and the offsets of blocks
    (of several slots the mean).

    Args:
        constants: add the bias of a whole table too.
    """
    layout, parts = tables.layout, []
    slots = [s.name for s in layout.slots_of(table)]
    for block in layout.blocks_of(table):
        found = tables.read_block(block)
        rows = tables.restore.new_zeros(block.rows, layout.common).float()
        if "weight" in found:
            rows = found["weight"] @ found["projection"] if "projection" in found else found["weight"]
        own = [found[f"offset/{s}"] for s in slots if f"offset/{s}" in found]
        if constants and tables.bias is not None:
            names = [layout.slots[p].name for p in tables.biased]
            own += [tables.bias.detach()[k] for k, name in enumerate(names) if name in slots]
        parts.append(rows + torch.stack(own).mean(0) if own else rows)
    return torch.cat(parts)


def uniform_tables(old: Tables, cut: Collection[str] = ()) -> Tables:
    """The same slot vectors from tables stored whole: n x D each, with the old tables' biases.

    Args:
        cut: tables whose constants, too, become a part of their rows (they are cut into blocks, or will be). The same
            vectors where one slot reads one id; an empty bag loses its constant.
    """
    layout = old.layout
    biased = {layout.slots[p].table for p in old.biased} - set(cut)
    whole = tuple(Block(t.name, 0, t.rows, layout.common, bias=t.name in biased) for t in layout.tables)
    new = Tables(Layout(layout.common, layout.slots, layout.tables, whole), bool(old.linear_parameters()))
    with torch.no_grad():
        for block in whole:
            group = new.group_of(block)
            assert group is not None and group.weight is not None
            rows = group.rows_of(block)
            group.weight[rows] = whole_vectors(old, block.table, constants=block.table in cut)
            if group.linear is not None:
                group.linear[rows, 0] = whole_linear(old, block.table)
        if new.bias is not None and old.bias is not None:
            new.bias.copy_(old.bias[[k for k, p in enumerate(old.biased) if layout.slots[p].table in biased]])
    return new
