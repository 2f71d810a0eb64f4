"""prune: score every dimension, allocate the budget, cut the uniform model."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from autodim import artifact
from autodim.config.schema import Config
from autodim.data.encoded import EncodedLog
from autodim.dimension.allocate import check_minimum
from autodim.dimension.allocation import Allocation
from autodim.dimension.blocks import Spans, cut_rows, item, spans_of
from autodim.dimension.budget import Budget, resolve
from autodim.dimension.factor import Factors, factorise
from autodim.dimension.idle import idle_notes
from autodim.dimension.problem import Problem, make_problem
from autodim.dimension.saturation import saturated, saturation_notes
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
from autodim.stages.importance import importance
from autodim.stages.model_folder import load_network, save_network
from autodim.stages.pretrain import run_result
from autodim.stages.refit import refit
from autodim.stages.run import Run
from autodim.stages.scores import cached_score, row_counts
from autodim.stages.session import Session
from autodim.training.chance import chance_words
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
        whole = {s.name: statistics.extra["spectral"][s.name] for s in log.slots}
        allocation = replace(allocation, notes=(*idle_notes(whole), *allocation.notes, *wide))
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
    if doubt := chance(about, log):
        session.progress.line(f"prune: {doubt}")
    return allocation


def chance(about: dict[str, Any], log: EncodedLog) -> str:
    """That even the best evaluation of a pretraining is no better than chance, in words; empty where it is better, or
    has several tasks' mean."""
    best = about.get("best") or {}
    if len(log.tasks) != 1 or best.get("valid_auc") is None:
        return ""
    return chance_words([best["valid_auc"]], log.tasks, log.part("valid").labels, "validation")


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
            **({"quality": "served"} if settings.budget.by_quality and rounds(config) else {}),
            **inputs_of(log),
        }
    )


def rounds(config: Config) -> bool:
    """Whether tables may be served in fewer bits than they are trained in."""
    return config.prune.precision != "fp32" or config.prune.strategy == "uniform_int8"


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
        weights = dict(allocation.task_weights) or importance(config, log)
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
