"""What the new columns of widened rows hold, where they are not to be zero."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from autodim.data.encoded import EncodedLog
from autodim.embedding.tables import Tables
from autodim.training.network import Network
from autodim.training.seeds import generator


def anchor(
    network: Network,
    spans: Sequence[tuple[str, int, int]],
    std: float,
    fill: str,
    log: EncodedLog,
    before: int,
    seed: int,
) -> None:
    """Fill the new columns of the widened rows, where they are not to be zero.

    A model that only multiplies slots with each other (FM) has no gradient at all where every slot is zero: there, one
    slot's new columns are drawn at random. All products of pairs remain zero, and so the loss is the same.

    Args:
        spans: table, first row and one past the last of what was widened.
        std: deviation of fresh numbers. fill: `zero` or `linear` (see `stages.widen.Wish`).
        before: the old width.
    """
    layout = network.tables.layout
    first = next((t for t, _, _ in spans if len(layout.slots_of(t)) == 1), None)
    for table, start, stop in spans:
        rows = _rows(network.tables, table, start, stop)
        source = generator(seed, "widen", table, *([str(start)] if start else []))
        if fill == "linear":
            counts = log.counts(table)[start:stop]
            rows[:, before:] = linear_columns(rows[:, :before], rows.shape[1] - before, counts, source)
        elif not list(network.model.first_layers()) and table == first:  # type: ignore[operator]
            fresh = torch.randn(rows[:, before:].shape, generator=source) * std
            if not start:
                fresh[:1] = 0
            rows[:, before:] = fresh.to(rows.device)


def linear_columns(weight: Tensor, columns: int, counts: Tensor, source: torch.Generator) -> Tensor:
    """A random linear map of the rows, each column with mean 0 and the old columns' usual deviation.

    Args:
        weight: n x D. columns: how many to make. counts: n, the weight of each row in mean and deviation.
    """
    share = counts.to(weight.device, torch.float64)
    share = share / share.sum().clamp(min=1)
    old = weight.double()
    old = old - share @ old
    usual = (share @ old.square()).mean().sqrt()
    mapped = old @ torch.randn(weight.shape[1], columns, generator=source).to(old)
    spread = (share @ mapped.square()).sqrt()
    return (mapped * (usual / spread.clamp(min=1e-12))).to(weight.dtype)


def _rows(tables: Tables, table: str, start: int, stop: int) -> Tensor:
    """Rows of a table that lie in one block, to write into."""
    block = next(b for b in tables.layout.blocks_of(table) if b.start <= start and stop <= b.stop)
    group = tables.group_of(block)
    assert group is not None and group.weight is not None
    return group.weight.data[group.rows_of(block)][start - block.start : stop - block.start]
