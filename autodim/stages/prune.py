"""prune: score every dimension, allocate the budget, cut the uniform model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from autodim import artifact
from autodim.config.schema import Config, PruneConfig
from autodim.data.columns import EncodedLog
from autodim.dimension.allocate import check_minimum
from autodim.dimension.allocation import Allocation
from autodim.dimension.block_moments import block_moments
from autodim.dimension.blocks import Spans, cut_rows, item, part, spans_key, spans_of
from autodim.dimension.budget import Budget, resolve
from autodim.dimension.factor import Factors, factorise
from autodim.dimension.problem import Problem, make_problem
from autodim.dimension.saturation import saturated, saturation_notes
from autodim.dimension.spectral import from_tensors
from autodim.dimension.statistics import SPECTRAL, Statistics, stability
from autodim.dimension.strategies import STRATEGIES, strategy_for
from autodim.dimension.strategies.spectral import with_bias
from autodim.dimension.tasks import task_shares, weighed
from autodim.embedding.layout import CostModel, uniform_layout
from autodim.errors import BudgetError, ConfigError
from autodim.optim.costs import state_numbers
from autodim.stages import no_cut
from autodim.stages.cut import cut_network
from autodim.stages.evidence import EVIDENCE, with_evidence
from autodim.stages.evidence.question import Question
from autodim.stages.holdout import inputs_of
from autodim.stages.model_folder import load_network, save_network
from autodim.stages.pretrain import run_result
from autodim.stages.refit import refit
from autodim.stages.run import Run
from autodim.stages.score import score
from autodim.stages.session import Session
from autodim.stages.task_scores import split_tasks
from autodim.training.checkpoints import load_tensors, save_tensors
from autodim.training.finite import check_tensors, check_weights
from autodim.training.network import Network
from autodim.training.seeds import derive

# need no trained model
UNTRAINED = ("uniform", "uniform_int8", "random", "frequency_tiers", "power_rule", "fourth_root", "manual")


def prune(run: Run, log: EncodedLog, session: Session) -> Allocation:
    """Write RUN/prune: widths.yaml, the scores, and the cut model (where the strategy cuts one).

    A budget by quality is found first (`autodim.stages.quality`), then cut like any other.

    Raises:
        BudgetError: no allocation meets the budget and the limits.
        NoSafeCut: a budget by quality that no cut keeps.
    """
    from autodim.stages.quality import find  # which prunes at budgets of its own

    config = run.config
    settings = config.prune
    source = run_result(run, "pretrain")
    inputs = prune_inputs(run, log)
    if run.up_to_date("prune", inputs):
        no_cut.clear(run)
        session.progress.line("prune: up to date")
        return Allocation.from_yaml((run.stage("prune") / "widths.yaml").read_text())
    found = find(run, log, session) if settings.budget.by_quality else None
    with run.working("prune", inputs) as folder:
        network, about = load_network(run.need("pretrain") / "model", session.device)
        statistics, means = cached_score(run, network, log, session)
        problem = problem_of(config, log, source)
        asked = settings.budget if found is None else found.budget
        budget = resolve(asked, problem.cost, uniform_layout(log.slots, log.tables, config.model.width))
        strategy = strategy_for(settings.strategy, settings)
        question = Question(run, network, log, session, problem, budget, statistics, means)
        statistics = with_evidence(settings.strategy, question)
        allocation = strategy(problem, budget, statistics)
        wide = saturation_notes(saturated(allocation), spans_of(allocation.entries))
        allocation = replace(allocation, notes=(*allocation.notes, *wide))
        # measurements of a strategy's own are of all rows: their halves would tell nothing
        stable = None if settings.strategy in EVIDENCE else stability(strategy, problem, budget, statistics)
        if stable is not None:
            artifact.write_json(folder / "stability.json", asdict(stable))
        if allocation.common == network.tables.layout.common:
            cut = cut_for(run, network, allocation, log, session)
            extra = {"cut_from": source}
            save_network(folder / "model", cut, config.model, about["numeric"], about["labels"], extra)
        artifact.write_text(folder / "widths.yaml", allocation.to_yaml())
        if len(statistics.tasks) > 1:
            artifact.write_json(folder / "scores.json", task_shares(problem, statistics, allocation))
        if found is not None:
            artifact.write_json(folder / "quality.json", found.record)
    no_cut.clear(run)
    if found is not None:
        found.adopt(run)
    artifact.write_text(run.folder / "widths.yaml", allocation.to_yaml())
    session.progress.line(
        f"prune: {allocation.strategy} spent {allocation.spent:,} of {allocation.asked:,} {allocation.unit} "
        f"({allocation.spent / max(allocation.uniform, 1):.2%} of the uniform model)"
    )
    for note in allocation.notes:
        session.progress.line(f"prune: {note}")
    return allocation


def prune_inputs(run: Run, log: EncodedLog) -> str:
    """The hash of what the stage is made from."""
    config, settings = run.config, run.config.prune
    return artifact.digest(
        {
            "pretrain": run_result(run, "pretrain"),
            "prune": settings.model_dump(mode="json"),
            "seed": config.seed,
            "widths": widths_text(settings.widths),
            **({"retrain": config.retrain.model_dump(mode="json")} if settings.budget.by_quality else {}),
            **inputs_of(log),
        }
    )


def widths_text(path: str | None) -> str | None:
    """The widths file of the strategy `manual`; its content is an input of the stage.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return None if path is None else Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"prune.widths: {path} cannot be read ({error}); expected a widths file") from error


def check_feasible(config: Config, log: EncodedLog) -> Budget:
    """What the budget comes to on this log, checked before anything is trained.

    Raises:
        BudgetError: no allocation meets the budget and the limits.
        ConfigError: a limit or a widths file cannot be meant.
    """
    problem = problem_of(config, log, "")
    if config.prune.strategy in SPECTRAL:
        problem = with_bias(problem)
    budget = resolve(config.prune.budget, problem.cost, uniform_layout(log.slots, log.tables, config.model.width))
    if config.prune.strategy in UNTRAINED and config.prune.precision != "auto":
        STRATEGIES[config.prune.strategy](problem, budget, None)
    else:
        left = check_minimum([c.curve(np.zeros(len(c.widths))) for c in problem.limits.values()], budget)
        steps = [(int(c.costs[1] - c.costs[0]), c.table) for c in problem.limits.values() if len(c.costs) > 1]
        if steps and min(steps)[0] > left and not any(c.widths[0] for c in problem.limits.values()):
            raise BudgetError(
                f"budget {budget.asked} is {budget.amount:,} {budget.unit}: it affords no dimension of any slot; the "
                f"cheapest is one of {min(steps)[1]!r} for {min(steps)[0]:,}; ask for more"
            )
    return budget


def cut_for(run: Run, network: Network, allocation: Allocation, log: EncodedLog, session: Session) -> Network:
    """The network cut to an allocation, always the same for the same trained model; it reads the cached statistics."""
    layout = allocation.layout(log.slots, log.tables)
    statistics: Statistics | None = None
    means: dict[str, Tensor] = {}
    if any(b.bias for b in layout.blocks):
        statistics, means = cached_score(run, network, log, session, scored_spans(run.config, allocation, log))
    counts = {t.name: log.counts(t.name) for t in log.tables}
    factors = table_factors(run.config, allocation, statistics)
    small = cut_network(network, allocation, layout, means, counts, factors)
    finish_cut(run.config, allocation, small, network, log, session)
    return small


def finish_cut(
    config: Config, allocation: Allocation, small: Network, network: Network, log: EncodedLog, session: Session
) -> None:
    """What a strategy does to a cut network once all its tables are cut, in place (most do nothing)."""
    if allocation.strategy == "spectral_refit":
        weights = dict(allocation.task_weights) or config.prune.tasks.weights
        refit(small, network, log.part(config.prune.on), session, config.prune.rows, log.tasks, weights)


def scored_spans(config: Config, allocation: Allocation, log: EncodedLog) -> Spans:
    """The blocks to score for a cut: the config's, which are scored already, where they are the allocation's."""
    own = spans_of(allocation.entries)
    usual = cut_rows(log.slots, log.tables, config.prune.blocks, row_counts(log))
    needed = {(e.table, (e.start, e.stop)) for e in allocation.entries if e.bias and e.table in own}
    return usual if needed <= {(t, span) for t, spans in usual.items() for span in spans} else own


def table_factors(config: Config, allocation: Allocation, statistics: Statistics | None) -> dict[str, Factors]:
    """Factors of the tables (and blocks, by `dimension.blocks.item`) that an allocation cuts spectrally."""
    if statistics is None:
        return {}
    if allocation.task_weights:
        statistics = weighed(statistics, dict(allocation.task_weights), signed=True)
    moments = statistics.extra["spectral"]
    spans = spans_of(allocation.entries)
    return {
        item(e.table, e, spans): factorise({s: moments[item(s, e, spans)] for s in e.slots}, config.prune.ridge)
        for e in allocation.entries
        if e.projected and e.bias
    }


def cost_model(config: Config) -> CostModel:
    """What a width costs under this config: the unit, and the optimizer state of the tables."""
    state, row_state = state_numbers(config.pretrain.optimizer.tables.name)
    return CostModel(
        unit=config.prune.budget.unit,
        common=config.model.width,
        state=state,
        row_state=row_state,
        precision="fp32" if config.prune.precision == "auto" else config.prune.precision,
    )


def problem_of(config: Config, log: EncodedLog, source: str) -> Problem:
    """The allocation problem that a config poses on a log; a strategy that draws does so by the run's seed too."""
    seed = derive(config.seed, "prune", config.prune.seed) % 2**31
    return make_problem(
        log.slots,
        log.tables,
        config.model.width,
        config.prune.model_copy(update={"seed": seed}),
        cost=cost_model(config),
        counts=row_counts(log),
        source=source,
    )


def row_counts(log: EncodedLog) -> dict[str, np.ndarray]:
    """Training count of each row of each table."""
    return {t.name: log.counts(t.name).numpy() for t in log.tables}


def cached_score(
    run: Run, network: Network, log: EncodedLog, session: Session, spans: Spans | None = None
) -> tuple[Statistics, dict[str, Tensor]]:
    """The scoring pass, once per trained model and choice of rows: budgets and strategies share it.

    Args:
        spans: the blocks of cut tables; default: as the config says.

    Returns:
        The statistics, and the mean vector of each slot (and of each slot at each block).
    """
    settings = run.config.prune
    if spans is None:
        spans = cut_rows(log.slots, log.tables, settings.blocks, row_counts(log)) if settings.blocks.slots else {}
    key = artifact.digest(
        {
            **spans_key(spans),
            "format": 4,
            "model": run_result(run, "pretrain"),
            "on": settings.on,
            "rows": settings.rows,
            "curvature": settings.curvature,
            **inputs_of(log),
        }
    )[:16]
    folder = run.stage("pretrain") / f"scores-{key}"
    if not artifact.is_valid(folder):
        check_weights(network, str(run.stage("pretrain") / "model"))
        held, several = log.part(settings.on), bool(log.logs("train"))
        found = score(network, held, session, settings.rows, settings.curvature, spans, log.tasks, several)
        check_tensors(found, "prune: scoring")
        with artifact.fresh_directory(folder) as temporary:
            save_tensors(temporary / "scores.safetensors", found)
            artifact.write_json(
                temporary / "about.json", {"rows": min(settings.rows or 2**62, len(log.part(settings.on)))}
            )
    tensors, rows = load_tensors(folder / "scores.safetensors"), artifact.read_json(folder / "about.json")["rows"]
    statistics, means = weighed_statistics(tensors, rows, log, settings)
    if settings.precision == "auto":
        statistics = replace(statistics, extra={**statistics.extra, "rows": sampled_rows(network, log, spans)})
    return statistics, means


def weighed_statistics(
    tensors: dict[str, Tensor], rows: int, log: EncodedLog, settings: PruneConfig
) -> tuple[Statistics, dict[str, Tensor]]:
    """What `score` found on a log, its main tasks weighed as the settings say; and the mean vector of each slot."""
    main = [task.name for task in log.tasks if task.role == "main"]
    statistics, means = statistics_of(tensors, rows, main)
    if any(settings.tasks.weights.get(name, 1.0) != 1 for name in statistics.tasks):
        statistics = weighed(statistics, settings.tasks.weights, signed=True)
    return statistics, means


def sampled_rows(
    network: Network, log: EncodedLog, spans: Spans | None = None, most: int = 4096
) -> dict[str, np.ndarray]:
    """Rows of each table of a uniform network, m x D float64, drawn evenly by how often training reads them: what
    rounding to fewer bits is judged by. Of cut tables also those of each block, under its name."""
    found = {}
    for table in log.tables:
        weight = network.tables.read(table.name)["weight"]
        counts = np.maximum(log.counts(table.name).numpy(), 0).astype(np.float64)
        parts = {part(table.name, a, b): (a, b) for a, b in (spans or {}).get(table.name, ())}
        for name, (start, stop) in {table.name: (0, table.rows), **parts}.items():
            reads = np.cumsum(counts[start:stop])
            count = min(most, max(stop - start, 256))
            if reads[-1] <= 0:
                reads = np.arange(1.0, stop - start + 1)
            index = start + np.searchsorted(reads, (np.arange(count) + 0.5) / count * reads[-1])
            found[name] = weight[torch.from_numpy(index).to(weight.device)].double().cpu().numpy()
    return found


def statistics_of(
    tensors: dict[str, Tensor], rows: int, tasks: Sequence[str] = ()
) -> tuple[Statistics, dict[str, Tensor]]:
    """Statistics from the tensors that `score` returns: `g/`, `half0/`, `half1/`, `magnitude/` TABLE, `mean/` SLOT, and
    those of `dimension.spectral`.

    Args:
        tasks: names of the main tasks.
    """
    tensors, parts = split_tasks(tensors)
    own = {name: statistics_of(part, rows)[0] for name, part in zip(tasks, parts, strict=True)} if parts else {}

    def named(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    def arrays(prefix: str) -> dict[str, np.ndarray]:
        return {k: v.numpy() for k, v in named(prefix).items()}

    halves = (arrays("half0/"), arrays("half1/"))
    if not tensors:
        return Statistics(rows=rows), {}  # a log without slots
    everything, first, second = (
        whole | parts for whole, parts in zip(from_tensors(tensors), block_moments(tensors), strict=True)
    )
    extra: dict[str, object] = {"spectral": everything}
    if first:
        extra["spectral_halves"] = (first, second)
    return Statistics(arrays("g/"), arrays("magnitude/"), halves, rows, extra, own), named("mean/")
