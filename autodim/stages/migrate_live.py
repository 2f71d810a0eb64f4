"""A live model at other widths, in the ids of another log: what of it stays, and what is cut anew.

Letters: n rows of a table, n' of the new one, w width, w' the new one, D common width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from autodim.config.schema import Config
from autodim.data.encoded import EncodedLog
from autodim.dimension.allocation import Allocation
from autodim.dimension.blocks import part
from autodim.dimension.entry import Entry
from autodim.dimension.moments import Moments
from autodim.embedding.layout import Block
from autodim.embedding.migrate import carry, carry_tables
from autodim.embedding.tables import Tables
from autodim.stages.migrate_blocks import block_change, constants_of
from autodim.stages.migrate_tables import Changed, Stored, changed
from autodim.training.network import Network
from autodim.training.seeds import generator


@dataclass(frozen=True)
class Turned:
    """What optimizer state needs to know of a migration (`embedding.migrate_state.carry_dense_state`).

    Attributes:
        encoders: D x w' of each new block whose rows are the old block's vectors times it.
        sources: the old block of each new one that kept its projection, of tables that are cut into blocks.
    """

    encoders: dict[Block, Tensor] = field(default_factory=dict)
    sources: dict[Block, Block] = field(default_factory=dict)


def migrated(
    live: Network,
    full: Network,
    allocation: Allocation,
    before: Allocation,
    log: EncodedLog,
    maps: Mapping[str, Tensor],
    moments: Mapping[str, Moments],
    config: Config,
    cut: Mapping[str, object],
) -> tuple[Network, Turned]:
    """The live network at the new widths and in the new ids, and what its optimizer state needs; see `refresh`.

    Args:
        full: the same vectors from whole tables, in the new ids.
        cut: tables that are cut into blocks, before or now.
    """
    layout = allocation.layout(log.slots, log.tables)
    device = live.tables.restore.device
    tables = Tables(layout, bool(live.tables.linear_parameters())).to(device)
    old = {e.table: e for e in before.entries}
    same = {e.table for e in allocation.entries if e.table not in cut and e.width == old[e.table].width}
    carry_tables(live.tables, tables, maps, same)
    constants = constants_of(full.tables)
    turned = Turned()
    with torch.no_grad():
        for e in (e for e in allocation.entries if e.table not in same):
            vectors = full.tables.read(e.table)["weight"]
            source = generator(config.seed, "refresh", e.table, *([str(e.start)] if e.start else []))
            if e.table in cut:
                own = {s: part(s, e.start, e.stop) for s in e.slots}
                known = {s: moments[n if n in moments else s] for s, n in own.items()}
                counts = log.counts(e.table)
                change, kept = block_change(e, live.tables, vectors, maps[e.table], counts, known, config, source)
                if kept is not None:
                    turned.sources[e.block] = kept
            else:
                found = live.tables.read(e.table)
                stored = carry(found["weight"], maps[e.table]) if "weight" in found else None
                given = {s: constants.get(s, torch.zeros(allocation.common, device=device)) for s in e.slots}
                was = Stored(vectors, stored, found.get("projection"))
                change = changed(e, was, given, {s: moments[s] for s in e.slots}, config.prune.ridge, source)
            write_change(tables, e, change, constants)
            if change.encoder is not None:
                turned.encoders[e.block] = change.encoder
        if tables.bias is not None:
            for row, position in enumerate(tables.biased):
                name = layout.slots[position].name
                if name in constants:
                    tables.bias[row] = constants[name]
    return Network(tables, live.model), turned


def write_change(tables: Tables, entry: Entry, change: Changed, constants: dict[str, Tensor]) -> None:
    """Write one changed block into the new tables; constants of a whole table into `constants`, by slot."""
    group = tables.group_of(entry.block)
    if group is None or group.offset is None:
        constants |= change.constants
    else:
        for reader, number in enumerate(group.block_of):
            if number == group.index_of(entry.block):
                name = tables.layout.slots[group.positions[reader]].name
                group.offset[reader] = change.constants[name].to(group.offset)
    if group is None or group.weight is None or change.weight is None:
        return
    group.weight[group.rows_of(entry.block)] = change.weight
    if group.projection is not None and change.projection is not None:
        group.projection[group.index_of(entry.block)] = change.projection
