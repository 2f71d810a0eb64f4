"""refresh: a new log for a run that is live: new widths where they pay, and the live model carried over.

OUT/data, OUT/pretrain   the new log, and the old uniform model in its ids
OUT/prune                the widths, and the live model at them: where a retrain goes on
OUT/refresh.json         what changed, per table
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autodim import artifact
from autodim.config.schema import Config
from autodim.data.columns import EncodedLog
from autodim.data.several import check_single
from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import resolve
from autodim.dimension.entry import Entry
from autodim.dimension.factor import Factors, factorise
from autodim.dimension.moments import Moments
from autodim.dimension.problem import Problem
from autodim.dimension.refresh import Change, change_rows, decide, losses
from autodim.dimension.strategies import STRATEGIES
from autodim.dimension.strategies.assemble import allocation as assembled
from autodim.dimension.strategies.assemble import entry as entry_of
from autodim.dimension.strategies.spectral import factors_of, with_bias
from autodim.embedding.layout import Block, Layout, uniform_layout
from autodim.embedding.migrate import NEW, carry, carry_tables, row_map, uniform_tables
from autodim.embedding.tables import Tables
from autodim.errors import ConfigError
from autodim.stages.evidence import with_evidence
from autodim.stages.evidence.question import Question
from autodim.stages.export import read_allocation
from autodim.stages.live_state import migrated_state, rules_of
from autodim.stages.model_folder import load_network, save_network
from autodim.stages.prepare import open_log, prepare
from autodim.stages.pretrain import run_result
from autodim.stages.pretrain_inputs import pretrain_inputs
from autodim.stages.prune import cached_score, problem_of, prune_inputs, weighed_statistics
from autodim.stages.run import Run
from autodim.stages.score import score
from autodim.stages.search import write_config
from autodim.stages.session import Session
from autodim.training.checkpoints import save_state
from autodim.training.network import Network
from autodim.training.seeds import generator

MIN_GAIN = 1e-4  # nats of log loss an example


@dataclass(frozen=True)
class Refreshed:
    """What a refresh came to.

    Attributes:
        changes: one a table. allocation: the new widths. matched: per table the share of its ids that the old log had.
        kept_state: whether optimizer state was there to migrate.
    """

    changes: list[Change]
    allocation: Allocation
    matched: dict[str, float]
    kept_state: bool = False

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "unit": self.allocation.unit,
            "asked": self.allocation.asked,
            "spent": self.allocation.spent,
            "kept_state": self.kept_state,
            "tables": [{**row, "matched": self.matched[str(row["table"])]} for row in change_rows(self.changes)],
        }


def refresh(old: Run, out: Path, data: Path, session: Session, min_gain: float = MIN_GAIN) -> Refreshed:
    """Propose widths for a new log, change those that pay, and carry the live model over.

    The new log is encoded with its own vocabulary; rows are matched by id value, new ids start as the unknown id's row.
    The uniform model of the old run is scored on the new log's held-out rows, and the run's strategy proposes widths. A
    slot grows only where that is predicted to save `min_gain`, and shrinks only where the budget needs it. In the live
    model (retrained, else cut) a table that keeps its width keeps its rows, projection and bias to the bit; one that
    grows gets zero columns (the same vectors as before) and fresh rows of its projection; one that shrinks is factored
    by the live model's own statistics on the new log. Where the live training kept its optimizers' state
    (`retrain.keep_state`) it is migrated too, and a retrain goes on from it (`embedding.migrate_state` says how).
    Numeric columns are scaled as the new log says.

    Args:
        old: a finished run. out: folder of the new one. data: the new log.

    Raises:
        ConfigError: a run whose widths cannot be refreshed (blocks of rows, a natively uniform model, a widths file, a
            budget by quality, precision auto).
        DataError: the log is not as the config says. BudgetError: the budget is too small for the new log.
    """
    config = old.config
    before = read_allocation(old.folder)
    stage = old.stage("retrain") if old.done("retrain") else old.need("prune")
    check_refresh(config, before)
    log_before = open_log(old)
    changed = config.data.model_copy(update={"path": str(data)})
    new = Run(out, config.model_copy(update={"run": str(out), "data": changed}), say=session.progress.line)
    if out.resolve() == old.folder.resolve():
        raise ConfigError(f"--out: {out} is the run itself; expected a new folder, the old run is kept")
    with artifact.Lock(out):
        write_config(new)
        log = prepare(new, session)
        maps = {t.name: row_map(log_before.vocabulary(t.name), log.vocabulary(t.name)) for t in log.tables}
        live, about = load_network(stage / "model", session.device)
        uniform = write_uniform(old, new, log, maps, about, session)
        full = carried(Network(uniform_tables(live.tables).to(session.device), live.model), log, maps)
        moments = live_moments(full, new.config, log, session)
        statistics, means = cached_score(new, uniform, log, session)
        problem = problem_of(new.config, log, run_result(new, "pretrain"))
        if any(e.projected and e.bias for e in before.entries):
            problem = with_bias(problem)
        budget = resolve(config.prune.budget, problem.cost, uniform_layout(log.slots, log.tables, config.model.width))
        question = Question(new, uniform, log, session, problem, budget, statistics, means)
        evidence = with_evidence(config.prune.strategy, question)
        proposed = STRATEGIES[config.prune.strategy](problem, budget, evidence)
        worth = {t: losses(f) for t, f in factors_of(problem, statistics, "refresh").items()}
        widths = [{e.table: e.width for e in a.entries} for a in (before, proposed)]
        chosen, changes = decide(problem.limits, widths[0], widths[1], worth, budget.amount, min_gain)
        entries = new_entries(problem, before, chosen)
        note = f"refreshed from {old.folder.name}: {sum(c.after != c.before for c in changes)} tables changed"
        allocation = assembled(problem, budget, config.prune.strategy, entries, [note])
        small, encoders = migrated(live, full, allocation, before, log, maps, moments, config)
        state = migrated_state(stage, live, small, maps, encoders)
        if state is None:
            session.progress.line(
                f"refresh: {old.folder} kept no optimizer state (retrain.keep_state), so a retrain starts it fresh"
            )
        with new.working("prune", prune_inputs(new, log)) as folder:
            rules = about.get("rules", rules_of(config.retrain.optimizer))
            extra = {"live": True, "migrated_from": str(old.folder), "rules": rules}
            save_network(folder / "model", small, config.model, about["numeric"], about["labels"], extra)
            if state is not None:
                save_state(folder / "optimizer", *state)
            artifact.write_text(folder / "widths.yaml", allocation.to_yaml())
        artifact.write_text(out / "widths.yaml", allocation.to_yaml())
        matched = {t: float((m[1:] != NEW).double().mean()) if len(m) > 1 else 1.0 for t, m in maps.items()}
        found = Refreshed(changes, allocation, matched, state is not None)
        artifact.write_json(out / "refresh.json", found.to_json())
    return found


def check_refresh(config: Config, before: Allocation) -> None:
    """Raises ConfigError for widths that this stage does not know how to carry, and for several logs."""
    check_single(config.data, "refresh")
    if before.common != config.model.width or config.prune.strategy in ("uniform", "uniform_int8", "manual"):
        raise ConfigError(
            f"refresh: strategy {config.prune.strategy} at common width {before.common}: a natively uniform model or a "
            "widths file has no widths to propose; search the new log anew"
        )
    if config.prune.blocks.slots or len({e.table for e in before.entries}) < len(before.entries):
        raise ConfigError("refresh: the tables are cut into blocks of rows, whose ids differ in a new log; search anew")
    if config.prune.budget.by_quality:
        raise ConfigError(
            "refresh: the budget is a quality, which has to be measured on the new log's own cuts; search it anew"
        )
    if config.prune.tasks.combine == "worst":
        raise ConfigError(
            "refresh: prune.tasks.combine is worst, and here a width changes by what it gains for the sum of the "
            "tasks; search the new log anew"
        )
    if config.prune.precision == "auto":
        raise ConfigError(
            "refresh: prune.precision is auto, and widths are weighed here without what rounding takes; expected one "
            "precision for all; search the new log anew"
        )


def carried(network: Network, log: EncodedLog, maps: dict[str, Tensor]) -> Network:
    """A network of whole tables in the ids of another log."""
    old = network.tables
    blocks = {b.table: b for b in old.layout.blocks}
    layout = Layout(
        old.layout.common,
        log.slots,
        log.tables,
        tuple(replace(blocks[t.name], stop=t.rows) for t in log.tables),
    )
    tables = Tables(layout, bool(old.linear_parameters())).to(old.restore.device)
    carry_tables(old, tables, maps, set(blocks))
    if tables.bias is not None and old.bias is not None:
        with torch.no_grad():
            tables.bias.copy_(old.bias)
    return Network(tables, network.model)


def write_uniform(
    old: Run, new: Run, log: EncodedLog, maps: dict[str, Tensor], about: dict[str, Any], session: Session
) -> Network:
    """The old uniform model in the new log's ids, as the new run's `pretrain`."""
    inputs = pretrain_inputs(new, log)
    if not new.up_to_date("pretrain", inputs):
        network, _ = load_network(old.need("pretrain") / "model", session.device)
        network = carried(network, log, maps)
        with new.working("pretrain", inputs) as folder:
            extra = {"migrated_from": str(old.folder), "steps": 0}
            save_network(folder / "model", network, new.config.model, about["numeric"], about["labels"], extra)
    return load_network(new.need("pretrain") / "model", session.device)[0]


def live_moments(full: Network, config: Config, log: EncodedLog, session: Session) -> dict[str, Moments]:
    """Spectral statistics of the live model's slot vectors (their biases left out) on the new log."""
    settings = config.prune
    tensors = score(full, log.part(settings.on), session, settings.rows, settings.curvature, tasks=log.tasks)
    return weighed_statistics(tensors, 0, log, settings)[0].extra["spectral"]


def new_entries(problem: Problem, before: Allocation, chosen: list[int]) -> list[Entry]:
    """The chosen widths; a table that keeps its width keeps how it is stored."""
    old = {e.table: e for e in before.entries}
    entries = []
    for (table, c), position in zip(problem.limits.items(), chosen, strict=True):
        found = entry_of(problem, c, position)
        if found.width == old[table].width:
            cost = problem.cost.of(replace(old[table].block, stop=c.rows), len(c.slots))
            found = replace(old[table], stop=c.rows, cost=cost, precision=found.precision)
        entries.append(found)
    return entries


def migrated(
    live: Network,
    full: Network,
    allocation: Allocation,
    before: Allocation,
    log: EncodedLog,
    maps: dict[str, Tensor],
    moments: dict[str, Moments],
    config: Config,
) -> tuple[Network, dict[Block, Tensor]]:
    """The live network at the new widths and in the new ids, see `refresh`; and the encoders of the blocks cut anew."""
    layout = allocation.layout(log.slots, log.tables)
    tables = Tables(layout, bool(live.tables.linear_parameters())).to(live.tables.restore.device)
    old = {e.table: e for e in before.entries}
    same = {e.table for e in allocation.entries if e.width == old[e.table].width}
    carry_tables(live.tables, tables, maps, same)
    constants = biases(full.tables)
    encoders: dict[Block, Tensor] = {}
    with torch.no_grad():
        for e in (e for e in allocation.entries if e.table not in same):
            found = live.tables.read(e.table)
            stored = carry(found["weight"], maps[e.table]) if "weight" in found else None
            change = changed(
                e,
                Stored(full.tables.read(e.table)["weight"], stored, found.get("projection")),
                {s: constants.get(s, torch.zeros(allocation.common)) for s in e.slots},
                {s: moments[s] for s in e.slots},
                config.prune.ridge,
                generator(config.seed, "refresh", e.table),
            )
            constants |= change.constants
            if change.encoder is not None:
                encoders[e.block] = change.encoder
            group = tables.group_of(e.block)
            if group is None or group.weight is None or change.weight is None:
                continue
            group.weight[group.rows_of(e.block)] = change.weight
            if group.projection is not None and change.projection is not None:
                group.projection[group.index_of(e.block)] = change.projection
        if tables.bias is not None:
            for row, position in enumerate(tables.biased):
                name = layout.slots[position].name
                if name in constants:
                    tables.bias[row] = constants[name]
    return Network(tables, live.model), encoders


def biases(tables: Tables) -> dict[str, Tensor]:
    """The constants that slots add, by slot."""
    if tables.bias is None:
        return {}
    rows = zip(tables.biased, tables.bias.detach(), strict=True)
    return {tables.layout.slots[position].name: row for position, row in rows}


@dataclass(frozen=True)
class Stored:
    """A table as it was, in the new ids.

    Attributes:
        vectors: n' x D, what its rows mean. weight: n' x w, what is stored, or None. projection: w x D, or None.
    """

    vectors: Tensor
    weight: Tensor | None
    projection: Tensor | None


@dataclass(frozen=True)
class Changed:
    """A table at its new width: `weight` n' x w', `projection` w' x D, and the constants of its slots; `encoder` D x w'
    where the weight is the old vectors times it."""

    weight: Tensor | None
    projection: Tensor | None
    constants: dict[str, Tensor]
    encoder: Tensor | None = None


def changed(
    entry: Entry,
    was: Stored,
    constants: dict[str, Tensor],
    moments: dict[str, Moments],
    ridge: float,
    source: torch.Generator,
) -> Changed:
    """One table at another width.

    - Wider, still with a projection: the stored rows with zero columns, the projection with fresh rows: the same
      vectors.
    - Stored whole: its vectors; the mean of the slots' constants goes into the rows (the same vectors where one slot
      reads one id; an empty bag loses its constant).
    - Narrower: the spectral factors of the live vectors, about their mean where the entry has a bias.
    - Without a table: the mean of what each slot read, where the entry has a bias.
    """
    n, common = was.vectors.shape
    held = 0 if was.weight is None else was.weight.shape[1]
    if entry.width == 0:
        means = {s: constants[s] + torch.from_numpy(moments[s].mean).to(was.vectors) for s in entry.slots}
        return Changed(None, None, means if entry.bias else {})
    if not entry.projected:
        together = torch.stack([constants[s].to(was.vectors) for s in entry.slots]).mean(0)
        return Changed(was.vectors + together, None, {})
    if entry.width >= held:
        stored = was.vectors.new_zeros(n, 0) if was.weight is None else was.weight
        weight = torch.cat([stored, was.vectors.new_zeros(n, entry.width - held)], dim=1)
        scale = entry.width**-0.5 if was.projection is None else float(was.projection.std(correction=0))
        fresh = (torch.randn(entry.width - held, common, generator=source) * scale).to(was.vectors)
        projection = fresh if was.projection is None else torch.cat([was.projection, fresh])
        return Changed(weight, projection, constants)
    factors = live_factors(moments, ridge, entry.bias)
    encoder, decoder = (
        torch.from_numpy(m.copy()).to(was.vectors.device)
        for m in (factors.encoder(entry.width), factors.decoder(entry.width))
    )
    weight = (was.vectors.double() @ encoder).to(was.vectors.dtype)
    shifts = {s: torch.from_numpy(factors.bias(s, entry.width)).to(was.vectors) for s in entry.slots}
    return Changed(
        weight,
        decoder.to(was.vectors.dtype),
        {s: constants[s] + shifts[s] for s in entry.slots} if entry.bias else constants,
        encoder,
    )


def live_factors(moments: dict[str, Moments], ridge: float, centred: bool) -> Factors:
    """Factors about the mean, or (for tables without a bias) about zero."""
    if centred:
        return factorise(moments, ridge)
    about_zero = {s: replace(m, covariance=m.covariance + np.outer(m.mean, m.mean)) for s, m in moments.items()}
    return factorise(about_zero, ridge)
