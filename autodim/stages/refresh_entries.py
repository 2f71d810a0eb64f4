"""What each table (or block of rows) was before a refresh, and what it is after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from autodim.dimension.allocation import Allocation
from autodim.dimension.blocks import Spans, spans_of
from autodim.dimension.entry import Entry
from autodim.dimension.problem import Problem
from autodim.dimension.strategies.assemble import entry as entry_of
from autodim.embedding.migrate import NEW
from autodim.errors import ConfigError
from autodim.stages.migrate_blocks import main_block


def cut_tables(problem: Problem, before: Allocation) -> Spans:
    """Tables that are cut into blocks, before or now, with their blocks now.

    Raises:
        ConfigError: one that several slots read.
    """
    found = {**spans_of(before.entries), **problem.spans}
    found = {t: problem.spans.get(t, ()) for t in found}
    for entry in before.entries:
        if entry.table in found and len(entry.slots) > 1:
            raise ConfigError(
                f"refresh: table {entry.table} is cut into blocks of rows and read by {', '.join(entry.slots)}, whose "
                "constants in a block differ, so that ids cannot move between blocks; search the new log anew"
            )
    return found


def old_entries(problem: Problem, before: Allocation, maps: Mapping[str, Tensor]) -> dict[str, Entry]:
    """What each table of the problem was: its old entry; of a block the one that most of its occurrences were in."""
    found = {}
    for table, c in problem.limits.items():
        name, start, stop = problem.span(table)
        old = [e for e in before.entries if e.table == name]
        counts = torch.from_numpy(np.asarray((problem.counts or {})[table]))
        main = main_block(old, maps[name][start:stop], counts)
        found[table] = replace(main, table=table, slots=c.slots, start=0, stop=c.rows)
    return found


def known_share(problem: Problem, table: str, maps: Mapping[str, Tensor]) -> float:
    """The share of a table's (or a block's) ids that the old log had; row 0 is no id."""
    name, start, stop = problem.span(table)
    ids = maps[name][max(start, 1) : stop]
    return float((ids != NEW).double().mean()) if len(ids) else 1.0


def new_entries(problem: Problem, before: dict[str, Entry], chosen: list[int]) -> list[Entry]:
    """The chosen widths; a table that keeps its width keeps how it is stored."""
    entries = []
    for (table, c), position in zip(problem.limits.items(), chosen, strict=True):
        found, old = entry_of(problem, c, position), before[table]
        if found.width == old.width:
            found = replace(old, cost=problem.cost.of(old.block, len(c.slots)), precision=found.precision)
        entries.append(found)
    return entries
