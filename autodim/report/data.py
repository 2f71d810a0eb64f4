"""What a report is made from: plain frozen data, so that a report can be drawn without a run folder or torch.

Letters: S slots, D the uniform width. Anything that was not measured is None and shows as a dash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from autodim.report.sweep import SweepData
from autodim.report.tasks import TaskReport

State = Literal["projected", "whole", "native", "dropped", "mean"]
Role = Literal["uncut", "cut", "retrained", "served", "baseline"]
Unit = Literal["params", "bytes", "serving_bytes", "dims"]

UNIT_WORDS: dict[str, str] = {
    "params": "embedding parameters",
    "bytes": "embedding memory",
    "serving_bytes": "embedding memory in serving",
    "dims": "embedding dimensions",
}

STATE_WORDS: dict[str, str] = {
    "projected": "stored narrow, projected to the common width",
    "whole": "stored whole (a projection would cost as much)",
    "native": "the whole model is this narrow, no projection",
    "dropped": "no dimension: reads as zero",
    "mean": "no dimension: reads as its mean vector",
}


@dataclass(frozen=True)
class BudgetRow:
    """The budget in its unit: what was asked, what is spent, what the uniform model spends; `quality`: in words what
    was asked where it was a quality and not an amount."""

    unit: Unit
    asked: float
    spent: float
    uniform: float
    quality: str = ""


@dataclass(frozen=True)
class SlotRow:
    """What one slot (or one block of a slot's rows) gets.

    Attributes:
        name: any text; it is escaped wherever it is shown.
        rows: ids of the table.
        uniform_width: D, before the cut; `width`: after it, 0..D.
        cost: what it spends after the cut, in the budget's unit, projection and biases included.
        uniform_cost: what it spent before the cut; None: rows x uniform width.
        share: the slot's part of the total score, 0..1.
        scores: one per dimension of the uniform width (length D), not negative; None where the strategy has none.
        kept: which dimensions are kept (indices 0..D-1); None where they are not columns of the uniform table.
        state: how it is stored.
        table: of a block of rows the table that it is a part of; empty: a whole table.
    """

    name: str
    rows: int
    uniform_width: int
    width: int
    cost: float
    uniform_cost: float | None = None
    share: float | None = None
    scores: tuple[float, ...] | None = None
    kept: tuple[int, ...] | None = None
    state: State = "projected"
    table: str = ""

    @property
    def before(self) -> float:
        return self.rows * self.uniform_width if self.uniform_cost is None else self.uniform_cost


@dataclass(frozen=True)
class ResultRow:
    """One model on the test rows; means, where `seeds` is more than one.

    Attributes:
        name: e.g. `uniform 16 (before the cut)`, `cut, no retraining`, `retrained`, `frequency_tiers`.
        role: `uncut` is the reference of all differences; the product is `served` (the retrained model with its tables
            rounded), else `retrained`, else `cut`.
        auc: 0..1. logloss: nats. calibration: predicted clicks over true clicks, 1 is right.
        params: numbers of the embedding side. bytes: their memory in training, optimizer state included.
        seconds: training time. seeds: runs behind the means; auc_sd, logloss_sd: their standard deviation.
        gap: of a baseline (and of the uncut model) the product's AUC less its own, paired over `gap_seeds` seeds;
            gap_half: half of the 95 % interval of that, over seeds (where there are several) and test rows.
    """

    name: str
    role: Role = "baseline"
    auc: float | None = None
    logloss: float | None = None
    calibration: float | None = None
    params: float | None = None
    bytes: float | None = None
    seconds: float | None = None
    seeds: int = 1
    auc_sd: float | None = None
    logloss_sd: float | None = None
    gap: float | None = None
    gap_half: float | None = None
    gap_seeds: int = 0


@dataclass(frozen=True)
class CurvePoint:
    """One moment of a training; any part may be missing at a step.

    `kept`: its weights are the result, whatever its AUC (the last of windows over time).
    """

    step: int
    train_loss: float | None = None
    valid_auc: float | None = None
    valid_logloss: float | None = None
    kept: bool = False


@dataclass(frozen=True)
class WatchEvent:
    """One divergence that the watch saw in a training.

    Attributes:
        step: when it began. kind: `micro` (recovered), `full` (did not), `open` (undecided at the end).
        words: one line about it.
    """

    step: int
    kind: str
    words: str


@dataclass(frozen=True)
class Stability:
    """Two disjoint halves of the scoring rows compared (METHODS: Spearman of all S x D scores, mean |d_i - d_i'|)."""

    spearman: float | None
    mean_dim_diff: float | None


@dataclass(frozen=True)
class Command:
    """A next command and what it does, both shown as they are."""

    command: str
    purpose: str = ""


@dataclass(frozen=True)
class ReportData:
    """One run, ready to be drawn. `facts` are short pairs for the head (log, model, strategy, rows, ...); `chance`:
    that the uncut model predicts no better than chance, in words, where that is so."""

    title: str
    created: str
    budget: BudgetRow
    slots: tuple[SlotRow, ...] = ()
    results: tuple[ResultRow, ...] = ()
    curves: Mapping[str, tuple[CurvePoint, ...]] = field(default_factory=dict)
    events: Mapping[str, tuple[WatchEvent, ...]] = field(default_factory=dict)
    stability: Stability | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    settings: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    commands: tuple[Command, ...] = ()
    sweep: SweepData | None = None
    tasks: TaskReport | None = None
    chance: str = ""

    def result(self, role: Role) -> ResultRow | None:
        """The first result with this role."""
        return next((r for r in self.results if r.role == role), None)

    @property
    def product(self) -> ResultRow | None:
        """The model that the run hands over: as it is served, retrained, or cut where there was no retraining."""
        return product(self.results)


def product(results: Sequence[ResultRow]) -> ResultRow | None:
    """Of a run's results the model that it hands over."""
    roles: tuple[Role, ...] = ("served", "retrained", "cut")
    return next((r for role in roles for r in results if r.role == role), None)
