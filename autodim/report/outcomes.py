"""Several tasks together against each alone: differences with intervals, and which of the outcomes it is. Torch-free.

A task is up or down where its difference is larger than the noise of seeds and of rows together (see
`autodim.report.differences`): by AUC, of a regression by its loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from autodim.report import numbers
from autodim.report.compare import Spread
from autodim.report.differences import Interval

Change = Literal["up", "down", "within noise"]


@dataclass(frozen=True)
class TaskOutcome:
    """One main task: its quality alone and together over the seeds, and the differences, together less alone.

    Attributes:
        kind: binary: the figures are AUCs, higher is better; regression: losses (squared errors over the variance of
            the training rows), lower is better.
        auc: None where the task is a regression.
        loss: log loss in nats, or the regression's loss.
    """

    task: str
    kind: Literal["binary", "regression"]
    alone: Spread
    together: Spread
    auc: Interval | None
    loss: Interval

    @property
    def main(self) -> Interval:
        """What the task is judged by."""
        return self.loss if self.auc is None else self.auc

    @property
    def change(self) -> Change:
        if not self.main.real:
            return "within noise"
        return "up" if (self.main.mean > 0) == (self.auc is not None) else "down"

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"change": self.change}


def outcome(changes: Sequence[Change]) -> str:
    """The outcome of all main tasks, in words."""
    up, down = changes.count("up"), changes.count("down")
    if up == len(changes):
        return "all up"
    if down == len(changes):
        return "negative transfer: all down"
    if up and down:
        return "see-saw: some up, some down"
    if up:
        return "mixed: some up, none down"
    if down:
        return "some down, none up"
    return "no difference larger than noise"


COLUMNS = ("task", "measure", "alone", "together", "difference", "95 %: seeds", "rows", "logloss difference", "task is")


def outcome_cells(row: TaskOutcome, ascii: bool = False) -> tuple[str, ...]:
    """The row as text, one cell per entry of COLUMNS."""
    sign = "+-" if ascii else "±"

    def of(found: Spread) -> str:
        return numbers.ratio(found.mean) + (f" {sign} {numbers.ratio(found.sd)}" if found.sd is not None else "")

    main = row.main
    return (
        row.task,
        "AUC" if row.auc is not None else "loss",
        of(row.alone),
        of(row.together),
        numbers.difference(main.mean, ascii=ascii),
        numbers.DASH if main.seeds is None else numbers.ratio(main.seeds),
        numbers.ratio(main.rows),
        numbers.difference(row.loss.mean, ascii=ascii) if row.auc is not None else numbers.DASH,
        row.change + (" (one seed: rows only)" if main.n == 1 else ""),
    )


def outcome_markdown(rows: Sequence[TaskOutcome], notes: Sequence[str]) -> str:
    """A markdown table, the outcome, and how it was measured."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---|---|" + "---:|" * (len(COLUMNS) - 3) + "---|"]
    for row in rows:
        cells = [" ".join(c.replace("|", "\\|").replace("<", "&lt;").split()) for c in outcome_cells(row)]
        lines.append(f"| {' | '.join(cells)} |")
    said = f"Outcome: {outcome([r.change for r in rows])}."
    return "\n".join([*lines, "", said, "", *notes]) + "\n"
