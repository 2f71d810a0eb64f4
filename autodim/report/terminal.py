"""The same facts in a terminal: rich tables of widths, results and comparisons.

Names go in as plain text (never as rich markup) and without control characters, so no slot can colour or move
anything on the user's screen.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from autodim.report import numbers, svg
from autodim.report.compare import COLUMNS, ComparisonRow, comparison_cells
from autodim.report.data import ReportData, ResultRow, SlotRow
from autodim.report.differences import COLUMNS as DIFFERENCES
from autodim.report.differences import Difference, difference_cells
from autodim.report.labels import LabelRow, label_table
from autodim.report.rows import results_rows

_STYLE = {"projected": "blue", "whole": "green", "native": "cyan", "dropped": "red", "mean": "magenta"}
_BAR = 16


def widths_table(slots: Sequence[SlotRow], unit: str = "params", limit: int | None = None) -> Table:
    """One line a slot, in the given order: ids, width, a bar, cost, what it is of before.

    Args:
        unit: the budget's unit, for the cost column.
        limit: draw only the dearest slots and say how many are left out; default: all.
    """
    shown = list(slots)
    if limit is not None and len(shown) > limit:
        named = {id(s) for s in sorted(shown, key=lambda s: -s.before)[:limit]}
        shown = [s for s in shown if id(s) in named]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("slot", overflow="fold")
    table.add_column("ids", justify="right")
    table.add_column("width", justify="right")
    table.add_column("", no_wrap=True)
    table.add_column(
        {"params": "parameters", "bytes": "memory", "serving_bytes": "memory", "dims": "dimensions"}[unit],
        justify="right",
    )
    table.add_column("of before", justify="right")
    table.add_column("stored")
    for s in shown:
        style = _STYLE[s.state]
        table.add_row(
            _text(s.name),
            numbers.count(s.rows),
            Text(f"{s.width} of {s.uniform_width}"),
            _bar(s.width, s.uniform_width, style),
            numbers.amount(s.cost, unit),
            numbers.share(s.cost, s.before),
            Text(s.state, style=style),
        )
    if len(shown) < len(slots):
        table.add_row(Text(f"and {len(slots) - len(shown)} smaller slots", style="dim"))
    return table


def budget_line(data: ReportData) -> str:
    """`28,613 of 229,536 params (12.5 %), asked at most 28,692`."""
    b = data.budget
    return (
        f"{numbers.amount(b.spent, b.unit)} of {numbers.amount(b.uniform, b.unit)} {b.unit} "
        f"({numbers.share(b.spent, b.uniform)}), asked at most {numbers.amount(b.asked, b.unit)}"
    )


def results_table(results: Sequence[ResultRow]) -> Table:
    """AUC, logloss, calibration, size, time per model; the best after the cut is marked."""
    legend = "★ best after the cut; parameters and memory (with optimizer state) are those of the embeddings"
    table = Table(box=None, pad_edge=False, header_style="bold", caption=legend, caption_justify="left")
    table.add_column("model", overflow="fold")
    for name in ("AUC", "to uncut", "logloss", "to uncut", "calibration", "parameters", "memory", "training"):
        table.add_column(name, justify="right", no_wrap=True)
    for r in results_rows(tuple(results)):
        table.add_row(
            _text(r.name, "bold" if r.ours else ""),
            Text(r.auc + (f" ± {r.auc_sd}" if r.auc_sd else "") + (" ★" if r.best_auc else ""), _best(r.best_auc)),
            r.auc_change,
            Text(r.logloss + (" ★" if r.best_logloss else ""), _best(r.best_logloss)),
            r.logloss_change,
            r.calibration,
            r.params,
            r.bytes,
            r.seconds,
        )
    return table


def labels_table(rows: Sequence[LabelRow]) -> Table:
    """The results of several labels: a line per model and label (see `label_table`)."""
    legend = (
        "★ best of its label after the cut; parameters and memory (with optimizer state) are those of the embeddings"
    )
    table = Table(box=None, pad_edge=False, header_style="bold", caption=legend, caption_justify="left")
    heads, body = label_table(rows)
    for i, head in enumerate(heads):
        table.add_column(head, justify="right" if i > 1 else "left", no_wrap=i > 1, overflow="fold")
    for cells in body:
        table.add_row(*(_text(cell, _best("★" in cell and i > 1)) for i, cell in enumerate(cells)))
    return table


def comparison_table(rows: Sequence[ComparisonRow]) -> Table:
    """Models over seeds, mean ± sd, differences to the reference paired by seed; the best AUC is marked."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, name in enumerate(COLUMNS):
        table.add_column(name, justify="right" if i else "left", no_wrap=bool(i), overflow="fold")
    best = max((r.auc.mean for r in rows if r.auc.mean is not None), default=None)
    for row in rows:
        top = best is not None and row.auc.mean == best
        table.add_row(*(Text(c, _best(top and i <= 1)) for i, c in enumerate(comparison_cells(row))))
    return table


def _text(name: str, style: str = "") -> Text:
    return Text(" ".join(svg.clean(name).split()), style=style)


def _best(yes: bool) -> str:
    return "bold green" if yes else ""


def _bar(width: int, whole: int, style: str) -> Text:
    filled = round(_BAR * width / whole) if whole else 0
    filled = max(filled, 1) if width else 0
    return Text("█" * filled, style=style) + Text("·" * (_BAR - filled), style="dim")


def differences_table(found: Sequence[Difference]) -> Table:
    """Differences to a reference with their intervals, and whether they are larger than noise."""
    table = Table(box=None, title=f"differences to {found[0].reference}" if found else "", title_justify="left")
    for i, name in enumerate(DIFFERENCES):
        table.add_column(name, justify="left" if i in (0, len(DIFFERENCES) - 1) else "right")
    for one in found:
        table.add_row(*(Text(svg.clean(cell)) for cell in difference_cells(one, ascii=True)))
    return table
