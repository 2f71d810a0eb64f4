"""The results of a run with several labels: a line per model and label.

Torch-free. Letters: T labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autodim.report import numbers
from autodim.report.data import ResultRow

FIGURES = {"auc": ("AUC", 1), "logloss": ("logloss", -1), "rmse": ("RMSE", -1)}  # name, and whether more is better


@dataclass(frozen=True)
class LabelRow:
    """One model on one label of the test rows.

    Attributes:
        model: as the results name it, with its sizes. label: its name, `(auxiliary)` behind it where it is no main one.
        auc, logloss, rmse, calibration, r2: None where the kind of label has none.
    """

    model: ResultRow
    label: str
    auc: float | None = None
    logloss: float | None = None
    rmse: float | None = None
    calibration: float | None = None
    r2: float | None = None


def label_table(rows: Sequence[LabelRow]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells, the models in their order and each model's labels in theirs.

    Sizes stand in a model's first line. After each figure its difference to the uncut model on the same label; a star
    marks the best of the others. Figures that no label has are left out.
    """
    shown = [f for f in FIGURES if any(getattr(row, f) is not None for row in rows)]
    calibrated, explained = (any(getattr(row, f) is not None for row in rows) for f in ("calibration", "r2"))
    heads = ["model", "label"]
    for figure in shown:
        heads += [FIGURES[figure][0], "to uncut"]
    heads += ["calibration"] * calibrated + ["R2"] * explained + ["parameters", "memory", "training"]
    body = []
    for k, row in enumerate(rows):
        first = k == 0 or rows[k - 1].model is not row.model
        cells = [row.model.name if first else "", row.label]
        same = [other for other in rows if other.label == row.label]
        for figure in shown:
            value = getattr(row, figure)
            uncut = next((getattr(o, figure) for o in same if o.model.role == "uncut"), None)
            mark = " ★" if value is not None and value == _best(same, figure) and row.model.role != "uncut" else ""
            known = value is not None and uncut is not None and row.model.role != "uncut"
            cells += [numbers.ratio(value) + mark, numbers.difference(value - uncut) if known else numbers.DASH]
        cells += [numbers.ratio(row.calibration, 3)] * calibrated + [numbers.ratio(row.r2)] * explained
        sizes = (numbers.count(row.model.params), numbers.size(row.model.bytes), numbers.seconds(row.model.seconds))
        body.append([*cells, *(sizes if first else ("", "", ""))])
    return heads, body


def _best(rows: Sequence[LabelRow], figure: str) -> float | None:
    found = [getattr(row, figure) for row in rows if row.model.role != "uncut"]
    known = [value for value in found if numbers.known(value)]
    return (max if FIGURES[figure][1] > 0 else min)(known) if known else None
