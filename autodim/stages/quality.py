"""A budget by quality: the smallest allocation whose measured loss of quality stays inside, with a bound.

Two sets of held-out rows (`autodim.stages.holdout`) keep the search and the claim apart:

1. On the watched rows, which stop trainings and are scored, budgets are tried from large to small, then the crossing
   is bisected. Nothing is claimed from these rows.
2. The budgets that were tried, from large to small, are then a sequence that was fixed before any confirming row was
   looked at. Each is tested on those rows, one-sided, and the first that fails ends it: the answer is the last that
   held. In a fixed sequence every test may use the full level (Maurer, Hothorn & Lehmacher 1995; Wiens 2003), so
   nothing is corrected for the number of budgets; and an answer whose larger neighbours failed is impossible, though
   greedy allocations need not get better with every budget.

What is measured is the model that is handed over, its tables rounded where they are served in fewer bits: the cut
without a retrain, or (`measure`) the retrained one, each trained for it and kept in RUN/quality/. The one chosen is
taken over by the stage `retrain` and not trained again. The test part has no say in any of this; `evaluate` looks at
it once.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from autodim import artifact
from autodim.config.schema import BudgetConfig, Config
from autodim.data.encoded import EncodedLog
from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import quality_words
from autodim.errors import BudgetError, NoSafeCut
from autodim.stages import no_cut
from autodim.stages.cutter import CutModel, Cutter, with_budget
from autodim.stages.evaluate import allowed
from autodim.stages.prune import prune
from autodim.stages.retrain import retrain
from autodim.stages.run import Run
from autodim.stages.serve import load_served
from autodim.stages.session import Session
from autodim.training.bounds import Lost, lost, weak_reference
from autodim.training.network import Network

STEPS = {"cut": 0.8, "retrained": 0.5}  # of the budgets on the way down
FINE = {"cut": 1.03, "retrained": 1.15}  # the crossing is bisected until neighbours are so close
LEAST = 1e-4  # share of the uniform model below which nothing is tried


@dataclass
class Try:
    """One budget, measured on the watched rows and, if its turn comes, on the confirming ones.

    The logits of the confirming rows are kept instead of the network, so that memory does not grow with the tables;
    they are not compared with a label before their turn.
    """

    amount: int
    allocation: Allocation
    run: Run | None
    watched: list[Lost]
    judged: Tensor
    confirmed: list[Lost] | None = None


@dataclass(frozen=True)
class Found:
    """The answer: the budget to prune at, the record of the search, and the run that holds its retrained model."""

    budget: BudgetConfig
    record: dict[str, Any]
    run: Run | None

    def adopt(self, run: Run) -> None:
        """Take the retrained model over into a run, so that it is not trained twice."""
        if self.run is None:
            return
        done = self.run.done("retrain")
        assert done is not None
        if run.up_to_date("retrain", done.inputs) or run.stage("retrain").exists():
            return
        temporary = run.folder / ".retrain-adopted"
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(self.run.stage("retrain"), temporary)
        temporary.rename(run.stage("retrain"))


def measured(config: Config) -> str:
    """`cut` or `retrained`: which model has to keep the quality."""
    said = config.prune.quality.measure
    return said if said != "auto" else "cut" if config.retrain.mode == "none" else "retrained"


def find(run: Run, log: EncodedLog, session: Session) -> Found:
    """The smallest budget that keeps the quality.

    Raises:
        NoSafeCut: none does; RUN/quality.json has what was tried.

    Cost: one scoring pass; about 20 evaluations of the held-out rows, or (`measure: retrained`) about 6 retrains.
    """
    search = Search(run, log, session)
    tries = search.down()
    chosen: Try | None = None
    for one in tries:
        one.confirmed = search.lost(one.judged, "confirm")
        if not search.allowed.inside(one.confirmed):
            break
        chosen = one
    record, path = search.record(tries, chosen), run.folder / "quality.json"
    before = artifact.read_json(path) if path.is_file() else None
    artifact.write_json(path, record)
    if chosen is None:
        kept = no_cut.note(run, record["asked"], before)
        raise NoSafeCut(search.refusal(tries) + ("" if kept is None else f"\n{kept}."))
    session.progress.line(
        f"quality: {chosen.allocation.spent:,} of {search.total:,} {run.config.prune.budget.unit}; "
        f"{search.allowed.words(chosen.confirmed or [])} on {record['rows']['confirm']:,} rows that only judged"
    )
    if record["gained"]:
        session.progress.line(f"quality: {weak_reference(search.what == 'retrained')}")
    return Found(BudgetConfig(unit=run.config.prune.budget.unit, amount=max(chosen.amount, 1)), record, chosen.run)


class Search:
    """The budgets of one run, each tried at most once."""

    def __init__(self, run: Run, log: EncodedLog, session: Session):
        self.run, self.log, self.session = run, log, session
        self.allowed, self.what = allowed(run.config), measured(run.config)
        self.cutter = Cutter(run, log, session)
        self.total = self.cutter.uniform_spend()
        parts = {name: log.part(name) for name in ("valid", "confirm")}
        self.parts = parts
        self.reference = {n: self.cutter.logits(self.cutter.network, p) for n, p in parts.items()}
        self.labels: dict[str, Tensor] = {n: p.labels.to(session.device) for n, p in parts.items()}
        self.tries: dict[tuple[tuple[str, int, int, str], ...], Try] = {}
        self.doubted = False

    def down(self) -> list[Try]:
        """Budgets from large to small until one fails on the watched rows, then the crossing bisected.

        Returns:
            What was tried, the largest spend first.
        """
        self.session.progress.line(f"quality: looking for {quality_words(self.run.config.prune.budget)}, {self.what}")
        high, low = self.total, 0
        amount = max(1, round(self.total * STEPS[self.what]))
        while amount > self.total * LEAST:
            if not self._holds(amount):
                low = amount
                break
            high, amount = amount, int(amount * STEPS[self.what])
        while low and high > low * FINE[self.what] and high - low > 1:
            middle = round((high * low) ** 0.5)
            if middle in (low, high):
                break
            high, low = (middle, low) if self._holds(middle) else (high, middle)
        if self.what == "cut":  # cheap: more room above the crossing, should the other rows be less kind
            for factor in (1.06, 1.1, 1.15):
                if high * factor < self.total:
                    self._holds(round(high * factor))
        cuts = [one for one in self.tries.values() if one.allocation.spent < self.total]
        return sorted(cuts, key=lambda one: -one.allocation.spent)

    def lost(self, logits: Tensor, part: str) -> list[Lost]:
        """What a cut loses against the uncut model on a part, from its logits there."""
        return lost(logits.to(self.session.device), self.reference[part], self.labels[part], self.log.tasks)

    def _holds(self, amount: int) -> bool:
        """Whether a budget keeps the quality on the watched rows; one that no allocation meets does not."""
        try:
            allocation, made = self._allocated(amount)
        except BudgetError:
            return False
        self.session.stop.check()
        key = tuple((e.table, e.start, e.width, e.precision) for e in allocation.entries)
        if key not in self.tries:  # neighbouring budgets may buy the same widths, which are measured once
            network = made.network if isinstance(made, CutModel) else self._retrained(made)
            watched, judged = (self.cutter.logits(network, self.parts[name]) for name in ("valid", "confirm"))
            run = None if isinstance(made, CutModel) else made
            self.tries[key] = Try(amount, allocation, run, self.lost(watched, "valid"), judged.cpu())
        found = self.tries[key]
        if allocation.spent < self.total:
            self.session.progress.line(
                f"quality: {allocation.spent:>12,} {allocation.unit} ({allocation.spent / self.total:6.2%}): "
                f"{self.allowed.words(found.watched)}"
            )
            if not self.doubted and self.allowed.gained(found.watched):
                self.doubted = True  # once is enough
                self.session.progress.line(f"quality: {weak_reference(self.what == 'retrained')}")
        return self.allowed.inside(found.watched)

    def _allocated(self, amount: int) -> tuple[Allocation, CutModel | Run]:
        """The widths at a budget, and the cut; or the pruned run in which to retrain it.

        Raises:
            BudgetError: no allocation meets it.
        """
        config = self.run.config
        budget = BudgetConfig(unit=config.prune.budget.unit, amount=amount)
        if self.what == "cut":
            made = self.cutter.cut(config.prune.strategy, budget)
            return made.allocation, made
        shared = {name: self.run.stage(name) for name in ("prepare", "pretrain")}
        folder = self.run.folder / "quality" / f"{budget.unit}-{amount}"
        cell = Run(folder, with_budget(config, config.prune.strategy, budget), shared, self.run.say)
        return prune(cell, self.log, self.session), cell

    def _retrained(self, cell: Run) -> Network:
        retrain(cell, self.log, self.session)
        return load_served(cell.stage("retrain"), self.session.device)

    def record(self, tries: list[Try], chosen: Try | None) -> dict[str, Any]:
        """What RUN/quality.json and RUN/prune/quality.json hold."""
        budget = self.run.config.prune.budget
        return {
            "asked": quality_words(budget),
            "max_auc_drop": budget.max_auc_drop,
            "max_loss_increase": budget.max_loss_increase,
            "confidence": self.allowed.confidence,
            "measured": self.what,
            "strategy": self.run.config.prune.strategy,
            "unit": budget.unit,
            "uniform": self.total,
            "rows": {"watch": len(self.parts["valid"]), "confirm": len(self.parts["confirm"])},
            "spent": None if chosen is None else chosen.allocation.spent,
            "gained": any(self.allowed.gained(one.confirmed or []) for one in tries),
            "tries": [
                {
                    "amount": one.amount,
                    "spent": one.allocation.spent,
                    "widths": one.allocation.block_widths,
                    "watched": [task.to_json() for task in one.watched],
                    "confirmed": None if one.confirmed is None else [task.to_json() for task in one.confirmed],
                    "inside": None if one.confirmed is None else self.allowed.inside(one.confirmed),
                }
                for one in tries
            ],
        }

    def refusal(self, tries: list[Try]) -> str:
        """Why no cut is safe, and what may be done."""
        rows = len(self.parts["confirm"])
        asked = quality_words(self.run.config.prune.budget)
        ways = ["allow more to be lost", "give the validation part more rows (data.split.valid): the bound narrows"]
        if self.what == "cut" and self.run.config.prune.strategy != "spectral":
            ways.append("prune.strategy=spectral, which is right without a retrain")
        if self.what == "cut":
            ways.append("retrain: retrain.mode=warm retrain.distill=0.5 prune.quality.measure=retrained")
        elif not self.run.config.retrain.distill:
            ways.append("learn from the uncut model: retrain.distill=0.5")
        steps = "".join(f"\n  {i}. {way}" for i, way in enumerate(ways, start=1))
        told = "no budget below the uniform model's could be met"
        if tries:
            one = tries[0]
            told = (
                f"the mildest cut that was tried spends {one.allocation.spent:,} of {self.total:,} "
                f"{one.allocation.unit}: {self.allowed.words(one.confirmed or one.watched)}, on {rows:,} rows that "
                "only judged"
            )
        return (
            f"no cut is safe. Asked: {asked}, with {self.allowed.confidence:.4g} confidence ({self.what}); {told}. "
            f"Nothing was cut. Ways on:{steps}"
        )
