"""One line of an allocation: a block of a table, its width, its cost. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from autodim.dimension import widths_yaml
from autodim.embedding.layout import Block, CostModel, Table
from autodim.embedding.precision import Precision
from autodim.errors import ConfigError


@dataclass(frozen=True)
class Entry:
    """One block of a table, at its width.

    Attributes:
        table: the table's name.
        slots: names of the slots that read it.
        start: first row of the block.
        stop: one past its last row.
        width: numbers stored a row; 0: no table.
        kept: which dimensions of the uniform table are kept, ascending; None: unknown, or not along the axes.
        projected: a matrix width x common maps the stored vector to the common width.
        bias: each slot adds a constant vector.
        cost: in the allocation's unit, projection and biases included.
        score: sum of the kept dimensions' scores; None: the strategy scores nothing.
        scores: the score of each of the D dimensions, or None.
        precision: how the rows are served.
    """

    table: str
    slots: tuple[str, ...]
    start: int
    stop: int
    width: int
    kept: tuple[int, ...] | None = None
    projected: bool = False
    bias: bool = False
    cost: int = 0
    score: float | None = None
    scores: tuple[float, ...] | None = None
    precision: Precision = "fp32"

    @property
    def rows(self) -> int:
        return self.stop - self.start

    @property
    def block(self) -> Block:
        return Block(self.table, self.start, self.stop, self.width, self.projected, self.bias)


def exact_block(cost: CostModel, table: str, start: int, stop: int, width: int, *, constant: bool = False) -> Block:
    """A block of exactly this width, though it may be cheaper stored whole.

    Args:
        constant: at width 0, each slot reads a constant vector (its mean) and not zero.
    """
    if width >= cost.common:
        return Block(table, start, stop, cost.common)
    if width == 0:
        return Block(table, start, stop, 0, bias=cost.bias or constant)
    return Block(table, start, stop, width, projected=True, bias=cost.bias)


def drop_notes(entries: Sequence[Entry]) -> list[str]:
    """A remark for each slot that gets no dimension at all."""
    widest: dict[str, Entry] = {}
    for e in entries:
        if e.table not in widest or e.width > widest[e.table].width:
            widest[e.table] = e
    return [
        f"slot {slot} " + ("kept only as a constant (its mean)" if e.bias else "dropped")
        for e in widest.values()
        if e.width == 0
        for slot in e.slots
    ]


def short(value: float) -> float:
    """6 significant digits: enough to rank by, and the same text on every machine."""
    return float(f"{value:.6g}")


def shorts(values: Iterable[float]) -> tuple[float, ...]:
    """`short` of many: one text for all, which is three times as fast."""
    plain = tuple(values)
    return tuple(map(float, ("%.6g " * len(plain) % plain).split()))


def to_mapping(entry: Entry) -> dict[str, Any]:
    line: dict[str, Any] = {
        "table": entry.table,
        "slots": list(entry.slots),
        "rows": entry.rows,
        "start": entry.start,
        "stop": entry.stop,
        "projected": entry.projected,
        "bias": entry.bias,
        "cost": entry.cost,
    }
    if entry.precision != "fp32":
        line["precision"] = entry.precision
    if entry.score is not None:
        line["score"] = short(entry.score)
    if entry.kept is not None:
        line["kept"] = list(entry.kept)
    if entry.scores is not None:
        line["scores"] = [short(s) for s in entry.scores]
    return line


def from_mapping(block: dict[str, Any], widths: dict[str, Any], common: int, where: str) -> Entry:
    width = block["width"]
    if width > common:
        raise ConfigError(f"{where}: widths: {block['slots'][0]}: {width} is above the common width {common}")
    start, stop = (widths_yaml.number(block, key, where) for key in ("start", "stop"))
    made = Block(block["table"], start, stop, width, 0 < width < common, bool(block.get("bias")))
    return make_entry(block, tuple(block["slots"]), made, widths_yaml.number(block, "cost", where), common)


def make_entry(block: dict[str, Any], slots: tuple[str, ...], made: Block, cost: int, common: int) -> Entry:
    kept, score, scores = block.get("kept"), block.get("score"), block.get("scores")
    if kept is not None and (len(kept) != made.width or kept != sorted({k for k in kept if k >= 0})):
        kept = score = None
    return Entry(
        table=made.table,
        slots=slots,
        start=made.start,
        stop=made.stop,
        width=made.width,
        kept=None if kept is None else tuple(kept),
        projected=made.projected,
        bias=made.bias,
        cost=cost,
        score=None if score is None else float(score),
        scores=None if scores is None else tuple(float(s) for s in scores),
        precision=block.get("precision", "fp32") if made.width else "fp32",
    )


def check_cover(table: Table, spans: Sequence[tuple[int, int]], where: str) -> None:
    """Blocks follow each other from row 0 to the last."""
    edges = [0, *(stop for _, stop in spans)]
    if [start for start, _ in spans] != edges[:-1] or edges != sorted(edges) or edges[-1] != table.rows:
        raise ConfigError(
            f"{where}: table {table.name}: blocks {', '.join(f'[{a}, {b})' for a, b in spans) or '(none)'} do not "
            f"cover its {table.rows} rows; were the widths made for another log?"
        )
