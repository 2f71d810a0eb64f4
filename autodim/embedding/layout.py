"""Slot, block, table: what the embedding side of a model is made of, and what each costs.

A *slot* reads a *table*; a table is cut into one or more *blocks* of rows (all rows, or head / torso / tail by
frequency: ids are numbered by falling frequency), and each block has a width. Several slots may share a table.
Torch-free, so that configs, budgets and reports can be computed without loading torch.

Letters: S slots, D common width, n rows of a block, r its width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from autodim.embedding.precision import Precision, row_bytes

Unit = Literal["params", "bytes", "serving_bytes", "dims"]


@dataclass(frozen=True)
class Slot:
    """One input field.

    Attributes:
        name: unique name of the slot.
        table: name of the table that it reads (its own name, unless columns share a table).
        multi: several ids per example (a bag); pooled by `pooling`.
        pooling: how a bag becomes one vector.
    """

    name: str
    table: str
    multi: bool = False
    pooling: Literal["sum", "mean"] = "mean"


@dataclass(frozen=True)
class Table:
    """An embedding table: `rows` ids, row 0 the out-of-vocabulary id, rows 1.. by falling frequency."""

    name: str
    rows: int


@dataclass(frozen=True)
class Block:
    """Rows [start, stop) of a table at one width.

    Attributes:
        width: numbers stored per row. 0: the block has no table and every id of it reads as the bias (or zero).
        projected: the stored vector is mapped to the common width by the block's projection (width x D).
        bias: each slot that reads the block adds a constant of D numbers (needs `projected` or width 0).
    """

    table: str
    start: int
    stop: int
    width: int
    projected: bool = False
    bias: bool = False

    @property
    def rows(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Layout:
    """The embedding side of one model: slots, tables, blocks and the common width that the model sees."""

    common: int
    slots: tuple[Slot, ...]
    tables: tuple[Table, ...]
    blocks: tuple[Block, ...]

    def table(self, name: str) -> Table:
        return next(t for t in self.tables if t.name == name)

    def slots_of(self, table: str) -> tuple[Slot, ...]:
        return tuple(s for s in self.slots if s.table == table)

    def blocks_of(self, table: str) -> tuple[Block, ...]:
        return tuple(b for b in self.blocks if b.table == table)

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(t.rows for t in self.tables)

    @property
    def parameters(self) -> int:
        """Numbers stored: tables, projections and biases (not the width-1 linear tables)."""
        readers = self.readers
        return sum(block_parameters(b, self.common, readers[b.table]) for b in self.blocks)

    @property
    def readers(self) -> Counter[str]:
        """How many slots read each table."""
        return Counter(s.table for s in self.slots)

    def with_blocks(self, blocks: Sequence[Block]) -> Layout:
        return replace(self, blocks=tuple(blocks))


def uniform_layout(slots: Sequence[Slot], tables: Sequence[Table], width: int) -> Layout:
    """Every table one block at the common width, no projections: the model that is pretrained."""
    return Layout(width, tuple(slots), tuple(tables), tuple(Block(t.name, 0, t.rows, width) for t in tables))


def block_parameters(block: Block, common: int, slots: int = 1) -> int:
    """Numbers that a block stores: rows x width, its projection, and one bias a slot that reads it."""
    return (
        block.rows * block.width
        + (block.width * common if block.projected else 0)
        + (slots * common if block.bias else 0)
    )


@dataclass(frozen=True)
class CostModel:
    """The one place that knows what a width costs.

    Attributes:
        unit: `params` (numbers stored), `bytes` (in training: numbers and optimizer state), `serving_bytes` (tables in
            `precision`, projections and biases in float32, no optimizer) or `dims` (width alone).
        common: D, the common width.
        bias: factored blocks carry a bias per slot (spectral cuts do, axis-aligned ones do not).
        element: bytes per number that is trained, or served in float32.
        state: optimizer numbers per stored number (Adagrad 1, Adam 2, SGD 0), `row_state`: per row instead.
        precision: how tables are served; only serving bytes depend on it.
    """

    unit: Unit
    common: int
    bias: bool = False
    element: int = 4
    state: int = 1
    row_state: int = 0
    precision: Precision = "fp32"

    def block(self, table: str, start: int, stop: int, width: int, slots: int = 1) -> Block:
        """The cheapest block that carries `width` dimensions: factored, or stored whole where that is cheaper.

        A factored block costs `width (n + D)` (and biases), a whole one `n D`, so a small slot can get *dearer*
        when it is cut: n = 2, D = 16 at width 1 would be 18 + 16 against 32. In `dims` the projection is free.
        """
        rows = stop - start
        if width >= self.common:
            return Block(table, start, stop, self.common)
        if width <= 0:
            return Block(table, start, stop, 0, bias=self.bias)
        factored = Block(table, start, stop, width, projected=True, bias=self.bias)
        if self.unit != "dims" and self._stored(factored, slots) >= self._stored(
            Block(table, start, stop, self.common), slots
        ):
            return Block(table, start, stop, self.common)
        return factored if rows else Block(table, start, stop, 0)

    def cost(self, table: str, start: int, stop: int, width: int, slots: int = 1) -> int:
        """What `width` dimensions for rows [start, stop) cost, in the unit; never falls as the width rises."""
        return self.of(self.block(table, start, stop, width, slots), slots)

    def of(self, block: Block, slots: int = 1) -> int:
        """What an actual block costs, in the unit."""
        return block.width if self.unit == "dims" else self._stored(block, slots)

    def total(self, layout: Layout) -> int:
        """What a whole layout costs, in the unit. Cost: linear in slots and blocks."""
        readers = layout.readers
        return sum(self.of(b, readers[b.table]) for b in layout.blocks)

    def reference(self, layout: Layout) -> int:
        """What a layout costs with tables in float32: that of which a budget is a share."""
        return replace(self, precision="fp32").total(layout)

    def many(
        self, table: str, rows: int, widths: Sequence[int], slots: int = 1
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Stored widths and costs of all `widths` of a table's `rows` at once: those of `block`, without its objects.

        Args:
            widths: ascending, from 1.
        """
        wanted = np.asarray(widths, dtype=np.int64)
        if not rows or not len(wanted):
            blocks = [self.block(table, 0, rows, int(w), slots) for w in wanted]
            return (
                np.array([b.width for b in blocks], dtype=np.int64),
                np.array([self.of(b, slots) for b in blocks], dtype=np.int64),
            )
        whole = self._stored(Block(table, 0, rows, self.common), slots)
        # stored numbers and bytes of a factored block are a straight line in its width, from 1 on
        one, two = (self._stored(Block(table, 0, rows, w, projected=True, bias=self.bias), slots) for w in (1, 2))
        factored = one + (wanted - 1) * (two - one)
        if self.unit == "dims":
            stored = np.minimum(wanted, self.common)
            return stored, stored
        is_whole = (wanted >= self.common) | (factored >= whole)
        return np.where(is_whole, self.common, wanted), np.where(is_whole, whole, factored)

    def _stored(self, block: Block, slots: int) -> int:
        numbers = block_parameters(block, self.common, slots)
        if self.unit == "serving_bytes":
            table = block.rows * block.width
            return block.rows * row_bytes(block.width, self.precision) + self.element * (numbers - table)
        if self.unit != "bytes":
            return numbers
        return self.element * (numbers * (1 + self.state) + (block.rows * self.row_state if block.width else 0))
