"""One block of rows of a live model's table, in the ids of another log.

Ids are numbered by falling frequency in their own log, so with a new log ids move between blocks. A new block goes on
from the old block that most of its training occurrences were in. Where that one's width stays (or grows), its
projection and constants stay, and with them, to the bit, the rows of ids that stay; ids that came from another block
get the row that means most nearly what theirs did, by the curvature of the loss. Any other block is cut anew from the
live vectors.

Letters: n' rows of the new block, w width, D common width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from autodim.config.schema import Config
from autodim.dimension.entry import Entry
from autodim.dimension.moments import Moments
from autodim.embedding.layout import Block
from autodim.embedding.tables import Tables
from autodim.stages.migrate_tables import Changed, Stored, changed, cut_anew

Spanned = TypeVar("Spanned", Block, Entry)


def main_block(old: Sequence[Spanned], rows: Tensor, counts: Tensor) -> Spanned:
    """The old block that most training occurrences of a new block's rows were in.

    Args:
        old: the blocks of the old table, in their order.
        rows: the old row of each of the new block's rows, n'; -1: a new id.
        counts: training occurrences of each in the new log, n'.

    Returns:
        The last one, the rarest ids', where all ids are new.
    """
    seen = [int((counts + 1)[(rows >= b.start) & (rows < b.stop)].sum()) for b in old]
    return old[int(np.argmax(seen))] if any(seen) else old[-1]


def block_change(
    entry: Entry,
    live: Tables,
    vectors: Tensor,
    maps: Tensor,
    counts: Tensor,
    moments: Mapping[str, Moments],
    config: Config,
    source: torch.Generator,
) -> tuple[Changed, Block | None]:
    """The block at its new width, and the old block whose projection and constants it keeps.

    Args:
        entry: the new block. live: the old tables.
        vectors: what the rows of the new table mean, constants included, n x D.
        maps: the old row of each new one, n. counts: training occurrences, n.
        moments: of the block, per slot, about `vectors`.
        source: of fresh rows of a projection.
    """
    inside = slice(entry.start, entry.stop)
    vectors, rows = vectors[inside], maps[inside].to(vectors.device)
    main = main_block(live.layout.blocks_of(entry.table), rows.cpu(), counts[inside])
    found = live.read_block(main)
    given = {s: c for s, c in constants_of(live, main).items() if s in entry.slots}
    zero = vectors.new_zeros(vectors.shape[1])
    if entry.width == 0:
        means = {s: torch.from_numpy(moments[s].mean).to(vectors) for s in entry.slots}
        if entry.bias and main.width == 0 and given:
            return Changed(None, None, given), main
        return Changed(None, None, means if entry.bias else {}), None
    if not entry.projected:
        return Changed(vectors, None, {}), None
    constants = {s: given.get(s, zero) for s in entry.slots}
    if "projection" not in found or not main.width <= entry.width:
        return cut_anew(entry, vectors, dict.fromkeys(entry.slots, zero), moments, config.prune.ridge), None
    projection = found["projection"]
    curvature = np.sum([m.curvature for m in moments.values()], axis=0)
    offset = torch.stack(list(constants.values())).mean(0)
    weight = nearest_rows(vectors - offset, projection, curvature, config.prune.ridge)
    stays = (rows >= main.start) & (rows < main.stop)
    weight[stays] = found["weight"][rows[stays] - main.start]
    if entry.width == main.width:
        return Changed(weight, projection, constants if entry.bias else {}), main
    grown = changed(entry, Stored(vectors, weight, projection), constants, moments, config.prune.ridge, source)
    return replace(grown, constants=constants if entry.bias else {}), main


def nearest_rows(vectors: Tensor, projection: Tensor, curvature: np.ndarray, ridge: float) -> Tensor:
    """The rows whose projected vectors are nearest to given ones in the metric of the loss's curvature.

    Args:
        vectors: n x D. projection: w x D. curvature: D x D.
        ridge: added to the curvature's diagonal, as a share of its mean eigenvalue (no curvature: plain distance).

    Returns:
        n x w.
    """
    metric = torch.from_numpy(curvature).to(vectors.device)
    level = float(metric.diagonal().mean())
    eye = torch.eye(len(metric), dtype=torch.float64, device=vectors.device)
    metric = metric + ridge * level * eye if level > 0 else eye
    p = projection.double()
    away = p @ metric  # w x D
    return (vectors.double() @ away.T @ torch.linalg.pinv(away @ p.T, hermitian=True)).to(vectors.dtype)


def constants_of(tables: Tables, block: Block | None = None) -> dict[str, Tensor]:
    """The constants that slots add, by slot: those of whole tables, or those of one block, whole or not."""
    found: dict[str, Tensor] = {}
    if tables.bias is not None:
        rows = zip(tables.biased, tables.bias.detach(), strict=True)
        found = {tables.layout.slots[position].name: row for position, row in rows}
    if block is None:
        return found
    own = tables.read_block(block)
    readers = [s.name for s in tables.layout.slots_of(block.table)]
    return {s: own.get(f"offset/{s}", found.get(s)) for s in readers if f"offset/{s}" in own or s in found}  # type: ignore[misc]
