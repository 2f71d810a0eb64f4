"""sweep: the whole curve of quality over budgets from one pretrained model and one scoring pass, without a retrain.

RUN/sweep/sweep.json, sweep.csv, sweep.md   one row per strategy and budget
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from autodim import artifact
from autodim.config.schema import BudgetConfig, Config
from autodim.data.columns import Columns, EncodedLog
from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import resolve
from autodim.dimension.factor import Factors
from autodim.dimension.moments import Moments
from autodim.dimension.statistics import Statistics
from autodim.dimension.strategies import STRATEGIES
from autodim.embedding.layout import uniform_layout
from autodim.errors import BudgetError, ConfigError
from autodim.stages.cut import cut_network, entry_cut
from autodim.stages.evidence import EVIDENCE, with_evidence
from autodim.stages.evidence.question import Question
from autodim.stages.model_folder import load_network
from autodim.stages.prepare import prepare
from autodim.stages.pretrain import pretrain, run_result
from autodim.stages.prune import cached_score, finish_cut, problem_of, table_factors
from autodim.stages.run import Run
from autodim.stages.search import write_config
from autodim.stages.serve import round_tables
from autodim.stages.session import Session
from autodim.training.device import set_up
from autodim.training.interrupt import StopFlag
from autodim.training.loop import predict
from autodim.training.metrics import Metrics, auc_difference, evaluate_logits
from autodim.training.network import Network
from autodim.training.progress import Progress


@dataclass(frozen=True)
class SweepRow:
    """One cut, measured without a retrain.

    Attributes:
        strategy: its name; `uncut` for the pretrained model.
        share: of the uniform model's spend that was allowed.
        asked: that in the budget's unit.
        spent: in the budget's unit.
        auc: on the measured part, of the first task.
        logloss: on the measured part, mean of the tasks, nats.
        auc_change: against the uncut model.
        auc_half: half width of its 95 % interval (DeLong, paired).
        predicted: change of the loss that the statistics predict: summed over tasks, cross-slot terms ignored.
        measured: change of the loss on the measured part, summed over tasks.
        widths: per slot.
        infeasible: why there are no figures; empty where there are.
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
    widths: dict[str, int] | None = None
    infeasible: str = ""


def sweep(
    config: Config, strategies: Sequence[str], shares: Sequence[float], progress: Progress, part: str = "test"
) -> list[SweepRow]:
    """Cut the pretrained model at every budget and measure each cut.

    Args:
        config: the resolved config; stages that are not finished are run (prepare, pretrain, the scoring pass).
        strategies: names; `uniform` is not among them, since it needs a training of its own.
        shares: budgets as shares of what the uniform model spends, in the config's unit.
        part: rows to measure on: `test` or `valid`.

    Returns:
        The uncut model, then strategies in their order with budgets descending; also in RUN/sweep.

    Raises:
        ConfigError: a strategy that cannot cut a pretrained model, or a share out of range.

    Cost: one evaluation a point.
    """
    for name in strategies:
        if name in ("uniform", "uniform_int8", "manual"):
            raise ConfigError(
                f"--strategies: {name} cannot be swept without training; use spectral_uniform, or `autodim compare`"
            )
    for share in shares:
        if not 0 < share <= 1:
            raise ConfigError(f"--shares: found {share:g}, expected above 0 and at most 1")
    run = Run(Path(config.run), config)
    with artifact.Lock(run.folder), StopFlag() as stop:
        session = Session(set_up(config.device, config.threads), progress, stop)
        write_config(run)
        log = prepare(run, session)
        pretrain(run, log, session)
        stop.check()
        network, _ = load_network(run.stage("pretrain") / "model", session.device)
        statistics, means = cached_score(run, network, log, session)
        measure = Measure(run, log, session, network, statistics, means, log.part(part))
        rows = [measure.uncut()]
        points = [(name, share) for name in strategies for share in sorted(set(shares), reverse=True)]
        progress.start("sweep", len(points), unit="cuts")
        for done, (name, share) in enumerate(points, start=1):
            rows.append(measure.cut(name, share))
            if name in EVIDENCE:  # its measurements have had a progress of their own
                progress.start("sweep", len(points), unit="cuts", done=done)
            progress.update(done)
            stop.check()
    write_sweep(run.folder / "sweep", rows, part)
    return rows


class Measure:
    """One pretrained model and its statistics, against which cuts are measured."""

    def __init__(
        self,
        run: Run,
        log: EncodedLog,
        session: Session,
        network: Network,
        statistics: Statistics,
        means: Mapping[str, Tensor],
        columns: Columns,
    ):
        self.run, self.log, self.session, self.network = run, log, session, network
        self.statistics, self.means, self.columns = statistics, means, columns
        self.counts = {t.name: log.counts(t.name) for t in log.tables}
        self.labels = columns.labels.to(session.device)
        self.scores = predict(network, columns, session.device)
        self.base = evaluate_logits(self.scores, self.labels)

    def uncut(self) -> SweepRow:
        """The pretrained model's own row."""
        spent = problem_of(self.run.config, self.log, "").cost.reference(self.network.tables.layout)
        return SweepRow("uncut", 1.0, spent, spent, self.base[0].auc, _mean_loss(self.base))

    def cut(self, strategy: str, share: float) -> SweepRow:
        """Allocate, cut in memory, evaluate."""
        settings = self.run.config.prune
        budget_config = BudgetConfig(unit=settings.budget.unit, share=share)
        settings = settings.model_copy(update={"strategy": strategy, "budget": budget_config, "preset": None})
        config = self.run.config.model_copy(update={"prune": settings})
        problem = problem_of(config, self.log, run_result(self.run, "pretrain"))
        uniform = uniform_layout(self.log.slots, self.log.tables, config.model.width)
        budget = resolve(config.prune.budget, problem.cost, uniform)
        try:
            question = Question(
                Run(self.run.folder, config, self.run.shared),
                self.network,
                self.log,
                self.session,
                problem,
                budget,
                self.statistics,
                self.means,
            )
            allocation = STRATEGIES[strategy](problem, budget, with_evidence(strategy, question))
        except BudgetError as refused:
            return SweepRow(strategy, share, budget.amount, infeasible=str(refused))
        factors = table_factors(config, allocation, self.statistics)
        layout = allocation.layout(self.log.slots, self.log.tables)
        small = cut_network(self.network, allocation, layout, self.means, self.counts, factors)
        finish_cut(config, allocation, small, self.network, self.log, self.session)
        round_tables(small, allocation)
        scores = predict(small, self.columns, self.session.device)
        found = evaluate_logits(scores, self.labels)
        known = ~self.labels[:, 0].isnan()
        change, error = auc_difference(scores[known, 0], self.scores[known, 0], self.labels[known, 0])
        return SweepRow(
            strategy,
            share,
            allocation.asked,
            allocation.spent,
            auc=found[0].auc,
            logloss=_mean_loss(found),
            auc_change=change,
            auc_half=1.96 * error,
            predicted=predicted_change(
                self.network, allocation, self.statistics.extra["spectral"], self.means, self.counts, factors
            ),
            measured=sum(m.logloss - b.logloss for m, b in zip(found, self.base, strict=True)),
            widths=allocation.widths,
        )


def predicted_change(
    network: Network,
    allocation: Allocation,
    moments: Mapping[str, Moments],
    means: Mapping[str, Tensor],
    counts: Mapping[str, Tensor],
    factors: Mapping[str, Factors],
) -> float:
    """Loss change that the moments predict for any cut of the network, in nats an example, summed over tasks."""
    total = 0.0
    with torch.no_grad():
        for entry in allocation.entries:
            cut = entry_cut(entry, network.tables.read(entry.table), means, counts[entry.table], factors)
            if cut.encoder is None or cut.decoder is None:
                continue
            matrix = (cut.encoder.double() @ cut.decoder.double()).cpu().numpy()
            for slot in entry.slots:
                bias = cut.bias.get(slot)
                constant = matrix[0] * 0 if bias is None else bias.double().cpu().numpy()
                total += moments[slot].change(matrix, constant)
    return total


def write_sweep(folder: Path, rows: Sequence[SweepRow], part: str) -> None:
    """Save FOLDER/sweep.json, .csv and .md."""
    folder.mkdir(parents=True, exist_ok=True)
    artifact.write_json(folder / "sweep.json", {"part": part, "rows": [asdict(r) for r in rows]})
    text = io.StringIO()
    names = [n for n in asdict(rows[0]) if n not in ("widths", "infeasible")]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([["" if v is None else v for v in (getattr(r, n) for n in names)] for r in rows])
    artifact.write_text(folder / "sweep.csv", text.getvalue())
    artifact.write_text(folder / "sweep.md", sweep_markdown(rows))


HEADS = ("strategy", "share", "spent", "AUC", "change", "95 % +-", "logloss", "predicted", "measured")


def sweep_cells(rows: Sequence[SweepRow]) -> list[list[str]]:
    """The rows as text, in the order of HEADS."""

    def show(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    return [
        [
            r.strategy,
            f"{r.share:.4g}",
            "infeasible" if r.infeasible else f"{r.spent:,}",
            show(r.auc, ".4f"),
            show(r.auc_change, "+.4f"),
            show(r.auc_half, ".4f"),
            show(r.logloss, ".4f"),
            show(r.predicted, "+.4f"),
            show(r.measured, "+.4f"),
        ]
        for r in rows
    ]


def sweep_markdown(rows: Sequence[SweepRow]) -> str:
    """A Markdown table of the sweep."""
    lines = [f"| {' | '.join(HEADS)} |", "|---|" + "---:|" * (len(HEADS) - 1)]
    lines += [f"| {' | '.join(cells)} |" for cells in sweep_cells(rows)]
    return "\n".join(lines) + "\n"


def _mean_loss(found: Sequence[Metrics]) -> float:
    return sum(m.logloss for m in found) / len(found)
