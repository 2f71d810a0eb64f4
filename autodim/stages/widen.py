"""widen: retrain with some slots wider than the uniform model was, paid for by the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from torch import Tensor

from autodim import artifact
from autodim.config.schema import SlotLimits
from autodim.data.encoded import EncodedLog
from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import Budget
from autodim.dimension.problem import Problem, make_problem
from autodim.dimension.saturation import saturated
from autodim.dimension.statistics import Statistics
from autodim.dimension.strategies.assemble import by_rank
from autodim.dimension.strategies.spectral import assembled, factors_of, with_bias
from autodim.errors import ConfigError, did_you_mean
from autodim.models import build_model
from autodim.stages.cut import cut_network
from autodim.stages.holdout import inputs_of
from autodim.stages.model_folder import load_network
from autodim.stages.pretrain import finish, run_result, summary, train_network
from autodim.stages.prune import cost_model, problem_of, table_factors
from autodim.stages.run import Run
from autodim.stages.scores import cached_score, row_counts
from autodim.stages.session import Session
from autodim.stages.widen_fill import anchor
from autodim.training.evaluation import evaluate
from autodim.training.network import Network
from autodim.training.seeds import derive
from autodim.training.widen import widened_state

Fill = Literal["zero", "linear"]


@dataclass(frozen=True)
class Wish:
    """What to widen.

    Attributes:
        width: W, the new width; above the uniform one.
        slots: which; empty: the saturated ones.
        fill: what the new columns of a widened table hold. `zero`: nothing, so that the first loss is the loss before.
            `linear`: a random linear map of the old columns, normalised per column over the training occurrences (batch
            norm) to the old columns' usual deviation; the model has to learn first what they mean.
    """

    width: int
    slots: tuple[str, ...] = ()
    fill: Fill = "zero"


def widen(run: Run, log: EncodedLog, session: Session, wish: Wish) -> dict[str, Any]:
    """Write RUN/widen: widths.yaml, the model before (`start`) and after (`model`) its training, results.json.

    The common width becomes W. Widened tables (or blocks of rows, where tables are cut) are stored whole at W. All
    others are cut anew from the uniform model, spectrally, within what the run's budget leaves, to at most the old
    width; their projections and biases end in zeros. The model's weights are kept, those of the new dimensions are
    fresh. With `zero` the start is therefore exactly the cut model. Trained as `retrain` says, from the uniform model's
    weights.

    Returns:
        `widths` per slot, `spent`, `asked`, `unit`, and AUC and log loss on test of `start` and `model`.

    Raises:
        ConfigError: a width that is not larger, an unknown slot, no slot to widen, or what this stage does not know
            (precision auto).
        BudgetError: the widened slots alone cost more than the budget.
    """
    config = run.config
    if wish.width <= config.model.width:
        raise ConfigError(f"--width: found {wish.width}, expected more than the uniform width {config.model.width}")
    if config.prune.precision == "auto":
        raise ConfigError(
            "widen: prune.precision is auto, and what rounding takes from wider tables is not known; expected one "
            "precision for all"
        )
    before = Allocation.from_yaml((run.need("prune") / "widths.yaml").read_text())
    items = problem_of(config, log, before.source)
    tables = items_to_widen(before, items, wish.slots)
    inputs = artifact.digest(
        {
            "pretrain": run_result(run, "pretrain"),
            "prune": run_result(run, "prune"),
            "retrain": config.retrain.model_dump(mode="json"),
            "seed": config.seed,
            "wish": [wish.width, sorted(tables), wish.fill],
            **inputs_of(log),
        }
    )
    if run.up_to_date("widen", inputs):
        session.progress.line("widen: up to date")
        return artifact.read_json(run.stage("widen") / "results.json")
    seed = derive(config.seed, "widen")
    with run.working("widen", inputs) as folder:
        network, _ = load_network(run.need("pretrain") / "model", session.device)
        statistics, means = cached_score(run, network, log, session)
        allocation = wider_allocation(run, log, before, statistics, tables, wish.width)
        model = config.model.model_copy(update={"width": wish.width})
        start = widened_network(run, network, allocation, log, statistics, means, seed)
        spans = [items.span(t) for t in sorted(tables)]
        anchor(start, spans, config.model.init_std, wish.fill, log, config.model.width, seed)
        measured = {"start": [m.to_json() for m in evaluate(start, log.part("test"), session.device, log.tasks)]}
        teacher = (network, config.retrain.distill) if config.retrain.distill else None
        trained = train_network(start, log, config.retrain, seed, folder, session, teacher, counts_start=True)
        finish(folder, start, model, log, trained)
        measured["model"] = [m.to_json() for m in evaluate(start, log.part("test"), session.device, log.tasks)]
        artifact.write_text(folder / "widths.yaml", allocation.to_yaml())
        results = {
            "widths": allocation.block_widths,
            "spent": allocation.spent,
            "asked": allocation.asked,
            "unit": allocation.unit,
            **measured,
        }
        artifact.write_json(folder / "results.json", results)
    session.progress.line(summary("widen", trained))
    return results


def items_to_widen(allocation: Allocation, items: Problem, slots: Sequence[str]) -> set[str]:
    """Tables of the named slots, or the saturated ones; of cut tables the blocks, by the problem's names."""
    edges = {(table, edge) for table, *ends in map(items.span, items.limits) for edge in ends}
    for e in allocation.entries:
        if not {(e.table, e.start), (e.table, e.stop)} <= edges:
            raise ConfigError(
                f"widen: {e.table} has a block of rows {e.start} to {e.stop - 1}, which prune.blocks does not make; "
                "expected blocks as the config cuts them, so that all can be cut anew"
            )
    if not slots:
        entries = saturated(allocation)
        found = {
            name
            for name in items.limits
            for table, start, stop in [items.span(name)]
            if any(e.table == table and e.start <= start and stop <= e.stop for e in entries)
        }
        if not found:
            raise ConfigError(
                "no slot is saturated (keeps every dimension of the uniform model, the last one not small), so wider "
                "tables have nothing to hold; name some with --slots to try it all the same"
            )
        return found
    names = {s.name: s.table for s in items.whole[0]}
    for name in slots:
        if name not in names:
            raise ConfigError(f"--slots: unknown slot {name!r}{did_you_mean(name, list(names))}")
    wanted = {names[name] for name in slots}
    return {name for name in items.limits if items.span(name)[0] in wanted}


def wider_allocation(
    run: Run, log: EncodedLog, before: Allocation, statistics: Statistics, tables: set[str], width: int
) -> Allocation:
    """Widths where the given tables have `width` and the others what the budget leaves, by spectral worth."""
    config, common, counts = run.config, run.config.model.width, row_counts(log)
    free = config.prune.model_copy(update={"slots": {}})
    narrow = make_problem(log.slots, log.tables, common, free, counts=counts)
    own: dict[str, SlotLimits] = {}
    for name, choices in narrow.limits.items():
        readers = [s.name for s in log.slots if s.table == narrow.span(name)[0]]
        for item, slot in zip(choices.slots, readers, strict=True):
            limits = config.prune.slots.get(slot, SlotLimits())
            if name in tables:
                limits = SlotLimits(fixed=width, multiple_of=1)
            elif limits.fixed is None:
                most = min(limits.max_dim or config.prune.max_dim or common, common)
                limits = limits.model_copy(update={"max_dim": most})
            own[item] = limits
    settings = config.prune.model_copy(update={"slots": own})
    cost = replace(cost_model(config), common=width)
    problem = with_bias(
        make_problem(
            log.slots, log.tables, width, settings, cost=cost, counts=counts, source=before.source, spans=narrow.spans
        )
    )
    factors = factors_of(narrow, statistics, "widen")
    total = sum(float(f.lambdas.sum()) for f in factors.values()) or 1.0
    gains = {}
    for table, found in factors.items():
        gain = np.concatenate(([0.0], np.cumsum(found.lambdas / total)))
        gains[table] = np.concatenate((gain, np.full(width - common, gain[-1])))  # nobody knows what more is worth
    budget = Budget(before.asked, before.unit, before.budget, before.uniform)
    chosen, rule = by_rank(problem, gains, budget)
    allocation = assembled(problem, budget, "widened", chosen, factors, rule)
    note = f"widened to {width}: {', '.join(sorted(tables))}"
    return replace(allocation, uniform=before.uniform, notes=(note, *allocation.notes))


def widened_network(
    run: Run,
    network: Network,
    allocation: Allocation,
    log: EncodedLog,
    statistics: Statistics,
    means: dict[str, Tensor],
    seed: int,
) -> Network:
    """The uniform network cut to a wider allocation: it computes what the same cut at the old width does."""
    model, layout = run.config.model, network.tables.layout
    numeric, tasks = log.part("train").numeric.shape[1], len(log.labels)
    wider = model.model_copy(update={"width": allocation.common})
    dense = build_model(wider, len(layout.slots), numeric, tasks, derive(seed, "model"))
    widened_state(network.model, dense, len(layout.slots), layout.common, allocation.common)
    counts = {t.name: log.counts(t.name) for t in log.tables}
    factors = table_factors(run.config, allocation, statistics)
    device = next(iter(network.buffers())).device
    small = allocation.layout(log.slots, log.tables)
    return cut_network(network, allocation, small, means, counts, factors, dense.to(device))
