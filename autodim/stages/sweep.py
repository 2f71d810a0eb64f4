"""sweep: the whole curve of quality over budgets from one pretrained model and one scoring pass, without a retrain or
with several kinds of it.

RUN/sweep/sweep.json, sweep.csv, sweep.md    one row per strategy, way of retraining and budget; the knees
RUN/sweep/sweep.html                         the figure; RUN/report.html shows it too
RUN/sweep/cost.json                          the seconds that it took
RUN/sweep/STRATEGY-SHARE-MODE/               one retrained point; run again, it is not trained again
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from autodim import artifact
from autodim.config.schema import BudgetConfig, Config
from autodim.data.columns import Columns
from autodim.dimension.allocation import Allocation
from autodim.dimension.blocks import item, spans_of
from autodim.dimension.factor import Factors
from autodim.dimension.moments import Moments
from autodim.errors import BudgetError, ConfigError
from autodim.stages.cells import cell
from autodim.stages.cut import entry_cut
from autodim.stages.cutter import Cutter
from autodim.stages.evidence import EVIDENCE
from autodim.stages.importance import importance
from autodim.stages.pretrain import pretrain, run_result
from autodim.stages.prune import prune
from autodim.stages.report import write_report
from autodim.stages.retrain import retrain
from autodim.stages.run import Run
from autodim.stages.search import prepared
from autodim.stages.serve import load_served
from autodim.stages.session import Session
from autodim.stages.sweep_cost import Cost, time_pass_and_epoch
from autodim.stages.sweep_files import SweepRow, write_sweep
from autodim.training.bounds import half_width, lost
from autodim.training.device import set_up
from autodim.training.interrupt import StopFlag
from autodim.training.metrics import Metrics, evaluate_logits
from autodim.training.network import Network
from autodim.training.progress import Progress


def sweep(
    config: Config,
    strategies: Sequence[str],
    shares: Sequence[float],
    progress: Progress,
    part: str = "test",
    *,
    modes: Sequence[str] = ("none",),
    cost: bool = False,
) -> list[SweepRow]:
    """Cut the pretrained model at every budget and measure each cut, as it is served.

    Args:
        config: the resolved config; stages that are not finished are run (prepare, pretrain, the scoring pass).
        strategies: names; `uniform` needs a training of its own, so only with modes that train.
        shares: budgets as shares of what the uniform model spends, in the config's unit.
        part: rows to measure on: `test` or `valid`.
        modes: ways of retraining, each a curve of its own.
        cost: also time a scoring pass over a tenth of the log and one training epoch, beside the cuts.

    Returns:
        The uncut model, then strategies in their order, their modes, and budgets descending; also in RUN/sweep.

    Raises:
        ConfigError: a strategy that cannot cut a pretrained model, or a share out of range.

    Cost: one evaluation a point; a retrain a point where a mode trains.
    """
    check(strategies, shares, modes)
    run = Run(Path(config.run), config, say=progress.line)
    with artifact.Lock(run.folder), StopFlag() as stop:
        session = Session(set_up(config.device, config.threads), progress, stop)
        log = prepared(run, session)
        pretrain(run, log, session)
        stop.check()
        measure = Measure(Cutter(run, log, session), log.part(part))
        rows = [measure.uncut()]
        points = [(n, m, s) for n in strategies for m in modes for s in sorted(set(shares), reverse=True)]
        progress.start("sweep", len(points), unit="cuts")
        for done, (name, mode, share) in enumerate(points, start=1):
            rows.append(measure.cut(name, share) if mode == "none" else measure.retrained(name, share, mode))
            if name in EVIDENCE:  # its measurements have had a progress of their own
                progress.start("sweep", len(points), unit="cuts", done=done)
            progress.update(done)
            stop.check()
        if cost:
            time_pass_and_epoch(measure.cost, measure.network, log, config, session)
        artifact.write_json(run.folder / "sweep" / "cost.json", measure.cost.to_json())
        write_sweep(run.folder / "sweep", rows, part, run_result(run, "pretrain"))
        if run.is_current("evaluate") and (run.folder / "report.html").is_file():
            write_report(run)
    return rows


def check(strategies: Sequence[str], shares: Sequence[float], modes: Sequence[str]) -> None:
    """Raises ConfigError for what cannot be swept."""
    for name in strategies:
        if name == "manual" or (name in ("uniform", "uniform_int8") and "none" in modes):
            raise ConfigError(
                f"--strategies: {name} cannot be swept without training; use spectral_uniform, or `autodim compare`"
            )
    for share in shares:
        if not 0 < share <= 1:
            raise ConfigError(f"--shares: found {share:g}, expected above 0 and at most 1")


class Measure:
    """One pretrained model, against which cuts are measured on some rows."""

    def __init__(self, cutter: Cutter, columns: Columns):
        self.cutter, self.columns, self.network = cutter, columns, cutter.network
        self.run, self.log, self.session = cutter.run, cutter.log, cutter.session
        self.labels = columns.labels.to(self.session.device)
        self.scores = cutter.logits(self.network, columns)
        self.tasks = self.log.tasks
        self.importance = importance(self.run.config, self.log)
        self.base = evaluate_logits(self.scores, self.labels, self.tasks)
        self.cost = Cost(rows=len(columns))

    def uncut(self) -> SweepRow:
        """The pretrained model's own row."""
        spent = self.cutter.uniform_spend()
        return SweepRow("uncut", 1.0, spent, spent, _known(self.base[0].auc), _mean_loss(self.base), uniform=spent)

    def cut(self, strategy: str, share: float) -> SweepRow:
        """Allocate, cut in memory, evaluate."""
        began = time.perf_counter()
        try:
            made = self.cutter.cut(strategy, BudgetConfig(unit=self.run.config.prune.budget.unit, share=share))
        except BudgetError as refused:
            return self._infeasible(strategy, share, "none", refused)
        cut = time.perf_counter()
        row = self._row(made.network, made.allocation, strategy, share, "none", made.factors)
        self.cost.cuts += 1
        self.cost.cut_seconds += cut - began
        self.cost.evaluate_seconds += time.perf_counter() - cut
        return row

    def retrained(self, strategy: str, share: float, mode: str) -> SweepRow:
        """Prune and retrain in a folder of the sweep, unless that is done; evaluate."""
        point = cell(self.run, self.run.folder / "sweep" / f"{strategy}-{share:g}-{mode}", strategy, share, mode)
        try:
            allocation = prune(point, self.log, self.session)
        except BudgetError as refused:
            return self._infeasible(strategy, share, mode, refused)
        retrain(point, self.log, self.session)
        network = load_served(point.stage("retrain"), self.session.device)
        return self._row(network, allocation, strategy, share, mode, None)

    def _infeasible(self, strategy: str, share: float, mode: str, why: BudgetError) -> SweepRow:
        uniform = self.cutter.uniform_spend()
        return SweepRow(strategy, share, int(share * uniform), infeasible=str(why), mode=mode, uniform=uniform)

    def _row(
        self,
        network: Network,
        allocation: Allocation,
        strategy: str,
        share: float,
        mode: str,
        factors: Mapping[str, Factors] | None,
    ) -> SweepRow:
        scores = self.cutter.logits(network, self.columns)
        found = evaluate_logits(scores, self.labels, self.tasks)
        against = lost(scores, self.scores, self.labels, self.tasks)
        predicted = None
        if factors is not None:
            moments = self.cutter.statistics.extra["spectral"]
            cutter = self.cutter
            predicted = predicted_change(self.network, allocation, moments, cutter.means, cutter.counts, factors)
        return SweepRow(
            strategy,
            share,
            allocation.asked,
            allocation.spent,
            auc=_known(found[0].auc),
            logloss=_mean_loss(found),
            auc_change=_known(0.0 - against[0].auc),
            auc_half=_known(half_width(against[0].auc_error)),
            predicted=predicted,
            measured=sum(
                self.importance[task.name] * (m.loss - b.loss)
                for m, b, task in zip(found, self.base, self.tasks, strict=True)
                if task.role == "main"
            ),
            widths=allocation.block_widths,
            mode=mode,
            loss_half=half_width(
                sum(factor * one.loss_error for factor, one in zip(self.importance.values(), against, strict=True))
            ),
            uniform=allocation.uniform,
        )


def predicted_change(
    network: Network,
    allocation: Allocation,
    moments: Mapping[str, Moments],
    means: Mapping[str, Tensor],
    counts: Mapping[str, Tensor],
    factors: Mapping[str, Factors],
) -> float:
    """Loss change that the moments predict for any cut of the network, in nats: of the sum over tasks of their mean
    losses, each times its importance where the moments are weighed.

    Gradient and curvature (`Moments.change`). The allocation counts the curvature alone, as the gradient's term helps
    on some logs and hurts on others; so this may be lower at a smaller budget, and below 0 it hints at slot vectors
    that overfit.
    """
    total = 0.0
    with torch.no_grad():
        spans = spans_of(allocation.entries)
        for entry in allocation.entries:
            rows = slice(entry.start, entry.stop)
            old = {"weight": network.tables.read(entry.table)["weight"][rows]}
            cut = entry_cut(entry, old, means, counts[entry.table][rows], factors, spans)
            if cut.encoder is None or cut.decoder is None:
                continue
            matrix = (cut.encoder.double() @ cut.decoder.double()).cpu().numpy()
            for slot in entry.slots:
                bias = cut.bias.get(slot)
                constant = matrix[0] * 0 if bias is None else bias.double().cpu().numpy()
                total += moments[item(slot, entry, spans)].change(matrix, constant)
    return total


def _mean_loss(found: Sequence[Metrics]) -> float:
    return sum(m.loss for m in found) / len(found)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
