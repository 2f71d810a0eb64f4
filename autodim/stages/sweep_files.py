"""What a sweep leaves: rows as JSON, CSV and Markdown, the knees, and the figure."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from autodim import artifact
from autodim.report.sweep import SweepData, SweepPoint, knees, sweep_page


@dataclass(frozen=True)
class SweepRow:
    """One cut.

    Attributes:
        strategy: its name; `uncut` for the pretrained model.
        share: of the uniform model's spend that was allowed.
        asked: that in the budget's unit.
        spent: in the budget's unit.
        auc: on the measured part, of the first task.
        logloss: on the measured part, mean of the tasks, nats.
        auc_change: against the uncut model.
        auc_half: half width of its 95 % interval (DeLong, paired).
        predicted: change of the loss that the statistics predict, cross-slot terms ignored; of cuts without a retrain.
            Of several tasks the sum: of each the mean loss over the rows that have its label, times its importance
            (`stages.importance`: prune.tasks.weights; of logs that take turns the share of their batches too). It
            counts the gradient's term, too, which the allocation leaves out because it helps on some logs and hurts on
            others; below 0 at a smaller budget it hints that the slot vectors overfit.
        measured: the same change as it is on the measured part.
        widths: per slot; of a table in blocks the list of theirs.
        infeasible: why there are no figures; empty where there are.
        mode: how it was retrained; `none`: not.
        loss_half: half width of the 95 % interval of `measured` (paired; several tasks: their sum, at most).
        uniform: what the uniform model spends, in the budget's unit.
    """

    strategy: str
    share: float
    asked: int = 0
    spent: int = 0
    auc: float | None = None
    logloss: float | None = None
    auc_change: float | None = None
    auc_half: float | None = None
    predicted: float | None = None
    measured: float | None = None
    widths: dict[str, int | list[int]] | None = None
    infeasible: str = ""
    mode: str = "none"
    loss_half: float | None = None
    uniform: int = 0

    @property
    def name(self) -> str:
        """The curve that it belongs to."""
        return self.strategy if self.mode == "none" else f"{self.strategy}, {self.mode}"


def write_sweep(folder: Path, rows: Sequence[SweepRow], part: str, model: str = "") -> None:
    """Save FOLDER/sweep.json, .csv, .md and .html; `model`: hash of the pretrained model that was cut."""
    folder.mkdir(parents=True, exist_ok=True)
    data = sweep_data(rows, part)
    record = {
        "part": part,
        "model": model,
        "rows": [asdict(r) for r in rows],
        "knees": {name: asdict(point) for name, point in data.knees.items()},
    }
    artifact.write_json(folder / "sweep.json", record)
    text = io.StringIO()
    names = [n for n in asdict(rows[0]) if n not in ("widths", "infeasible")]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([["" if v is None else v for v in (getattr(r, n) for n in names)] for r in rows])
    artifact.write_text(folder / "sweep.csv", text.getvalue())
    artifact.write_text(folder / "sweep.md", sweep_markdown(rows) + "".join(f"\n{line}\n" for line in data.sentences))
    artifact.write_text(folder / "sweep.html", sweep_page(folder.parent.name, data))


def read_sweep(folder: Path, model: str) -> SweepData | None:
    """The sweep of a model, if there is one."""
    path = folder / "sweep.json"
    found = artifact.read_json(path) if path.is_file() else {}
    if found.get("model") != model:
        return None
    return sweep_data([SweepRow(**row) for row in found["rows"]], found["part"])


def sweep_data(rows: Sequence[SweepRow], part: str) -> SweepData:
    """The points of the figure, and its knees in words."""
    uncut = next(r for r in rows if r.strategy == "uncut")
    points = {"auc": [], "loss": []}  # type: dict[str, list[SweepPoint]]
    for r in rows:
        if r.infeasible or r.strategy == "uncut" or r.auc is None or r.logloss is None or not r.spent:
            continue
        share = r.spent / max(r.uniform, 1)
        points["auc"].append(SweepPoint(r.name, share, r.auc, r.auc_half or 0.0))
        points["loss"].append(SweepPoint(r.name, share, r.logloss, r.loss_half or 0.0))
    return SweepData(
        part=part,
        uncut_auc=uncut.auc or 0.0,
        uncut_loss=uncut.logloss or 0.0,
        auc=tuple(points["auc"]),
        loss=tuple(points["loss"]),
        knees=knees(points["auc"], uncut.auc or 0.0),
        predicted=any(r.predicted is not None for r in rows),
    )


HEADS = ("strategy", "share", "spent", "AUC", "change", "95 % +-", "logloss", "95 % +-", "predicted", "measured", "")


def sweep_cells(rows: Sequence[SweepRow]) -> list[list[str]]:
    """The rows as text, in the order of HEADS; the last cell marks the knees."""

    def show(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    marked = sweep_data(rows, "").knees
    return [
        [
            r.name,
            f"{r.share:.4g}",
            "infeasible" if r.infeasible else f"{r.spent:,}",
            show(r.auc, ".4f"),
            show(r.auc_change, "+.4f"),
            show(r.auc_half, ".4f"),
            show(r.logloss, ".4f"),
            show(r.loss_half, ".4f"),
            show(r.predicted, "+.4f"),
            show(r.measured, "+.4f"),
            "knee" if r.name in marked and r.spent and r.spent / max(r.uniform, 1) == marked[r.name].share else "",
        ]
        for r in rows
    ]


def sweep_markdown(rows: Sequence[SweepRow]) -> str:
    """A Markdown table of the sweep."""
    lines = [f"| {' | '.join(HEADS)} |", "|---|" + "---:|" * (len(HEADS) - 1)]
    lines += [f"| {' | '.join(cells)} |" for cells in sweep_cells(rows)]
    return "\n".join(lines) + "\n"
