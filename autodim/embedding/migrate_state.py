"""Optimizer state for tables of another vocabulary and of other widths.

A stored row E_i (w numbers) is read as `v = E_i P`, P the block's projection w x D (whole tables: the identity), so its
gradient is `g = G P^T` with G the gradient by v. At another projection P' it is `g' = G P'^T`. Of G the old rows know
the part within the rows of P, `G Q = g P^+^T`, Q the projector onto them; so with `R = P^+^T P'^T` (w x w')

- what is linear in the gradients (a momentum, Adam's m) becomes `m R`: exactly what it would have been at P' all along,
  wherever the rows of P' lie within those of P (a table that was stored whole; a cut of the live vectors);
- sums of squares (Adam's v, Adagrad's) become `v (R o R)`: exact where the columns' gradients were uncorrelated. What
  lies outside the rows of P is taken to be as large a direction as the known part is on average, so that steps
  along new directions are as long as the others';
- one number a row (row-wise Adagrad's mean square) goes with the row, times the mean that all columns being alike makes
  of the last rule; 1 where whole columns are kept.

Where a projection stays, or gets more rows, R is the identity on its columns and their state is the same to the bit.
A table that becomes `E K` has a projection with the gradient `K^T dL/dP`: the same two rules there. Biases keep theirs.

Letters: n rows of an old table, n' of the new one, w and w' widths, D common width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from autodim.embedding.layout import Block
from autodim.embedding.tables import Tables

LINEAR = ("exp_avg", "momentum_buffer")  # states that are linear in the gradients; all others are sums of squares
TINY = 1e-4  # directions of a projection below this share of its largest count as unknown

State = dict[int, dict[str, Any]]  # by a parameter's place: tensors and numbers by name


def carry_state(old: Tables, new: Tables, maps: Mapping[str, Tensor], state: Mapping[int, Mapping[str, Any]]) -> State:
    """The state of the table parameters, row by id value and turned into the new projections (see the module).

    Rows without an old one start afresh: at zero where the state is linear, else at the mean of the block's other rows
    that were ever met, so that their first steps are as long. A parameter of which nothing is known is left out.

    Args:
        old, new: with their weights and projections.
        maps: per table its row map (`embedding.migrate.row_map`).
        state: by places in `old.table_parameters()`.

    Returns:
        By places in `new.table_parameters()`; numbers (counts of steps) are those of the old parameter.

    Cost: the state is read and written once; two products of n w w' numbers for a table that is turned.
    """
    before, after = dict(_table_places(old)), dict(_table_places(new))
    parameters = old.table_parameters(), new.table_parameters()
    out: State = {}
    known: dict[tuple[int, str], Tensor] = {}
    for (block, kind), (place, target) in after.items():
        rows = maps[block.table][block.start : block.stop]
        for source in old.layout.blocks_of(block.table):
            if (source, kind) not in before:
                continue
            number, origin = before[source, kind]
            here = torch.nonzero((rows >= source.start) & (rows < source.stop)).squeeze(1)
            turn = None if kind == "linear" else turned(_projection(old, source), _projection(new, block))
            for name, value in state.get(number, {}).items():
                full = _room(out, place, name, value, parameters[0][number], parameters[1][place])
                if full is None:
                    continue
                own = value[origin].index_select(0, (rows[here] - source.start).to(value.device))
                if turn is not None:
                    matrix = turn[0 if name in LINEAR else 1].to(own.device)
                    own = (own.double() @ matrix if own.dim() > 1 else own * matrix.sum(0).mean()).to(own.dtype)
                places = here.to(value.device) + target.start
                full[places] = own
                known.setdefault((place, name), full.new_zeros(len(full), dtype=torch.bool))[places] = True
    for (place, name), there in known.items():
        targets = [target for own_place, target in after.values() if own_place == place and name not in LINEAR]
        for target in (*targets, slice(None)):  # what a block of new rows alone knows nothing of, the parameter does
            _fill(out[place][name][target], there[target])
    return out


def turned(old: Tensor | None, new: Tensor | None) -> tuple[Tensor, Tensor] | None:
    """How state turns from one projection to another: w x w' float64 for linear states and for squares; None: as it is.

    Args:
        old: P, w x D, or None (stored whole). new: P', w' x D, or None.
    """
    if old is None and new is None:
        return None
    if old is not None and new is not None and torch.equal(old, new):
        return None
    common = (old if old is not None else new).shape[1]  # type: ignore[union-attr]
    eye = torch.eye(common, dtype=torch.float64)
    p, q = (eye if m is None else m.detach().cpu().double() for m in (old, new))
    if old is None:
        return q.T.contiguous(), q.T.square()
    inverse = torch.linalg.pinv(p, rtol=TINY)  # D x w
    linear = inverse.T @ q.T
    unknown = q - q @ inverse @ p  # w' x D: the rows of P' outside those of P
    usual = inverse.square().sum(0) / max(int(torch.linalg.matrix_rank(p, rtol=TINY)), 1)  # w
    squares = linear.square() + usual[:, None] * unknown.square().sum(1)
    kept = len(p)
    if new is not None and len(q) > kept and torch.equal(q[:kept], p):
        linear[:, :kept] = squares[:, :kept] = torch.eye(kept, dtype=torch.float64)
    return linear, squares


def carry_dense_state(
    old: Tables,
    new: Tables,
    state: Mapping[int, Mapping[str, Any]],
    encoders: Mapping[Block, Tensor],
    sources: Mapping[Block, Block] | None = None,
) -> State:
    """The state of projections and biases.

    A projection that stays keeps its state, to the bit; one that grew keeps that of its rows; one whose table was cut
    anew has it turned by the cut. New rows and new biases start at zero (linear states) or at the mean of the others of
    the same parameter. A parameter of which nothing is known is left out.

    Args:
        state: by places in `old.dense_parameters()`.
        encoders: D x w' of each new block that was cut from an old block's vectors, all rows of one table.
        sources: the old block of each new one that kept its projection and biases, of tables that are cut into blocks.

    Returns:
        By places in `new.dense_parameters()`.
    """
    before, after = dict(_dense_places(old)), dict(_dense_places(new))
    parameters = old.dense_parameters(), new.dense_parameters()
    out: State = {}
    known: dict[tuple[int, str], Tensor] = {}
    for (block, slot), (place, index) in after.items():
        source = (sources or {}).get(block, _whole(old, new, block))
        if source is None or (source, slot) not in before:
            continue
        number, origin = before[source, slot]
        for name, value in state.get(number, {}).items():
            full = _room(out, place, name, value, parameters[0][number], parameters[1][place])
            if full is None:
                continue
            own = value[origin]
            there = known.setdefault((place, name), torch.zeros_like(full, dtype=torch.bool))
            if not slot and block in encoders:
                turn = _projection(old, source).detach().cpu().double() @ encoders[block].cpu().double()  # type: ignore[union-attr]
                own = ((turn if name in LINEAR else turn.square()).T @ own.cpu().double()).to(own)
            part = (index, slice(0, len(own))) if own.dim() > 1 else (index,)
            full[part] = own
            there[part] = True
    for (place, name), there in known.items():
        full = out[place][name]
        if name not in LINEAR and bool(there.any()):
            full[~there] = full[there].mean()
    return out


def _projection(tables: Tables, block: Block) -> Tensor | None:
    group = tables.group_of(block)
    if group is None or group.projection is None:
        return None
    return group.projection.detach()[group.index_of(block)]


def _room(out: State, place: int, name: str, value: Any, old: Tensor, new: Tensor) -> Tensor | None:
    """The new parameter's state of one name, zero at first; None where it is no tensor over the parameter (kept)."""
    own = out.setdefault(place, {})
    by_row = isinstance(value, Tensor) and value.dim() > 0 and value.shape == old.shape[: value.dim()]
    if not by_row:
        own.setdefault(name, value)
        return None
    if name not in own:
        own[name] = value.new_zeros(new.shape[: value.dim()])
    return own[name]


def _fill(values: Tensor, known: Tensor) -> None:
    """Rows that are not known get the mean of those that are and were ever met, and are known then."""
    sizes = values.abs() if values.dim() == 1 else values.abs().sum(1)
    met = known & (sizes > 0)
    if bool(met.any()):
        values[~known] = values[met].mean()
        known.fill_(True)


def _whole(old: Tables, new: Tables, block: Block) -> Block | None:
    """The old block of a whole table; None where one of the two is a part of its table."""
    before, after = (t.layout.blocks_of(block.table) for t in (old, new))
    return before[0] if len(before) == len(after) == 1 else None


def _table_places(tables: Tables) -> Iterator[tuple[tuple[Block, str], tuple[int, slice]]]:
    """(block, kind) -> place of its parameter in `table_parameters()`, and its rows there."""
    place = 0
    for group in tables.groups:
        for kind in ("weight", "linear"):
            if getattr(group, kind) is None:
                continue
            for block in group.blocks:  # type: ignore[union-attr]
                yield (block, kind), (place, group.rows_of(block))  # type: ignore[operator]
            place += 1


def _dense_places(tables: Tables) -> Iterator[tuple[tuple[Block, str], tuple[int, int]]]:
    """(block, slot) -> place of its projection (slot "") or of the slot's bias in `dense_parameters()`, and where."""
    numbers = {id(p): k for k, p in enumerate(tables.dense_parameters())}
    slots = tables.layout.slots
    for group in tables.groups:
        if group.projection is not None:
            for k, block in enumerate(group.blocks):  # type: ignore[arg-type]
                yield (block, ""), (numbers[id(group.projection)], k)
        if group.offset is not None:
            for reader, k in enumerate(group.block_of):  # type: ignore[arg-type]
                name = slots[group.positions[reader]].name  # type: ignore[index]
                yield (group.blocks[k], name), (numbers[id(group.offset)], reader)  # type: ignore[index, misc]
    if tables.bias is not None:
        for row, position in enumerate(tables.biased):
            block = tables.layout.blocks_of(slots[position].table)[0]
            yield (block, slots[position].name), (numbers[id(tables.bias)], row)
