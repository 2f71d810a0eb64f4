"""Figures made ready to be shown: the tiles at the head of a report and the rows of its results table."""

from __future__ import annotations

import math
from dataclasses import dataclass

from autodim.report import numbers
from autodim.report.data import ReportData, ResultRow, product
from autodim.report.verdict import Tone


@dataclass(frozen=True)
class Tile:
    """One key figure: its value after the cut, the change, and the value before."""

    name: str
    value: str
    change: str
    before: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class TableRow:
    """One line of the results table, formatted; empty spreads and unmeasured values are already words."""

    name: str
    ours: bool
    auc: str
    auc_sd: str
    auc_change: str
    logloss: str
    logloss_sd: str
    logloss_change: str
    calibration: str
    params: str
    bytes: str
    seconds: str
    seeds: int
    best_auc: bool
    best_logloss: bool


def tiles(data: ReportData) -> list[Tile]:
    """The key figures, each against the uncut model where there is one; those that nobody measured are left out."""
    a, b = data.product or ResultRow(""), data.result("uncut") or ResultRow("")
    trained = data.result("retrained") or a  # what is served is small, too, but needs no optimizer
    auc, logloss = _change(a.auc, b.auc), _change(a.logloss, b.logloss)

    def was(shown: str) -> str:
        return "" if shown == numbers.DASH else f"before: {shown}"

    found = [
        Tile("Embedding params", numbers.short(a.params), _of(a.params, b.params), was(numbers.count(b.params))),
        Tile(
            "Memory with optimizer",
            numbers.size(trained.bytes),
            _of(trained.bytes, b.bytes),
            was(numbers.size(b.bytes)),
        ),
        Tile("Test AUC", numbers.ratio(a.auc), _shown(auc), was(numbers.ratio(b.auc)), _tone(auc)),
        Tile(
            "Test logloss",
            numbers.ratio(a.logloss),
            _shown(logloss),
            was(numbers.ratio(b.logloss)),
            _tone(None if logloss is None else -logloss),
        ),
        Tile(
            "Time to cut" if a.role == "cut" else "Retraining time",
            numbers.seconds(a.seconds),
            "",
            f"on top of {numbers.seconds(b.seconds)} of pretraining" if numbers.known(b.seconds) else "",
        ),
    ]
    return [t for t in found if t.value != numbers.DASH or t.before]


def results_rows(results: tuple[ResultRow, ...]) -> list[TableRow]:
    """The results formatted, the best of all but the uncut model marked."""
    uncut = next((r for r in results if r.role == "uncut"), None)
    rivals, ours = [r for r in results if r.role != "uncut"], product(results)
    best_auc = max((r.auc for r in rivals if r.auc is not None and numbers.known(r.auc)), default=None)
    best_loss = min((r.logloss for r in rivals if r.logloss is not None and numbers.known(r.logloss)), default=None)
    rows = []
    for r in results:
        reference = uncut if r is not uncut else None
        rows.append(
            TableRow(
                name=r.name,
                ours=r is ours and r.role != "cut",
                auc=numbers.ratio(r.auc),
                auc_sd=numbers.ratio(r.auc_sd) if r.auc_sd is not None else "",
                auc_change=numbers.difference(_change(r.auc, reference.auc if reference else None)),
                logloss=numbers.ratio(r.logloss),
                logloss_sd=numbers.ratio(r.logloss_sd) if r.logloss_sd is not None else "",
                logloss_change=numbers.difference(_change(r.logloss, reference.logloss if reference else None)),
                calibration=numbers.DASH if not numbers.known(r.calibration) else f"{r.calibration:.3f}",
                params=numbers.count(r.params),
                bytes=numbers.size(r.bytes),
                seconds=numbers.seconds(r.seconds),
                seeds=r.seeds,
                best_auc=r.role != "uncut" and best_auc is not None and r.auc == best_auc,
                best_logloss=r.role != "uncut" and best_loss is not None and r.logloss == best_loss,
            )
        )
    return rows


def _change(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def _shown(change: float | None) -> str:
    return numbers.difference(change) if numbers.known(change) else ""


def _of(after: float | None, before: float | None) -> str:
    part = numbers.share(after, before)
    return "" if part == numbers.DASH else f"{part} of before"


def _tone(gain: float | None) -> Tone:
    if gain is None or math.isnan(gain):
        return "plain"
    return "good" if gain > -0.001 else "even" if gain > -0.01 else "poor"
