"""refresh: a new log for a run that is live: new widths where they pay, and the live model carried over.

OUT/data, OUT/pretrain   the new log, and the old uniform model in its ids
OUT/prune                the widths, and the live model at them: where a retrain goes on
OUT/refresh.json         what changed, per table
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autodim import artifact
from autodim.config.schema import Config
from autodim.data.encoded import EncodedLog
from autodim.data.several import check_single
from autodim.dimension.allocation import Allocation
from autodim.dimension.blocks import Spans
from autodim.dimension.budget import resolve
from autodim.dimension.moments import Moments
from autodim.dimension.refresh import Change, change_rows, decide, losses
from autodim.dimension.statistics import SPECTRAL, item_widths
from autodim.dimension.strategies import STRATEGIES
from autodim.dimension.strategies.assemble import allocation as assembled
from autodim.dimension.strategies.spectral import factors_of, with_bias
from autodim.embedding.layout import Layout, uniform_layout
from autodim.embedding.migrate import carry_tables, row_map, uniform_tables
from autodim.embedding.tables import Tables
from autodim.errors import ConfigError
from autodim.stages.evidence import with_evidence
from autodim.stages.evidence.question import Question
from autodim.stages.export import read_allocation
from autodim.stages.live_state import migrated_state, rules_of
from autodim.stages.migrate_live import migrated
from autodim.stages.model_folder import load_network, save_network
from autodim.stages.prepare import open_log, prepare
from autodim.stages.pretrain import run_result
from autodim.stages.pretrain_inputs import pretrain_inputs
from autodim.stages.prune import problem_of, prune_inputs
from autodim.stages.refresh_entries import cut_tables, known_share, new_entries, old_entries
from autodim.stages.run import Run
from autodim.stages.score import score
from autodim.stages.scores import cached_score, weighed_statistics
from autodim.stages.search import write_config
from autodim.stages.session import Session
from autodim.training.checkpoints import save_state
from autodim.training.network import Network

MIN_GAIN = 1e-4  # nats of log loss an example


@dataclass(frozen=True)
class Refreshed:
    """What a refresh came to.

    Attributes:
        changes: one a table. allocation: the new widths. matched: per table the share of its ids that the old log had.
        lost: per table that loses ids the number of those that the new log does not have, and their share of the old
            training rows' occurrences: they read as unknown from now on.
        kept_state: whether optimizer state was there to migrate.
    """

    changes: list[Change]
    allocation: Allocation
    matched: dict[str, float]
    lost: dict[str, tuple[int, float]]
    kept_state: bool = False

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "unit": self.allocation.unit,
            "asked": self.allocation.asked,
            "spent": self.allocation.spent,
            "kept_state": self.kept_state,
            "lost": {table: {"ids": ids, "share": share} for table, (ids, share) in self.lost.items()},
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
        ConfigError: a run whose widths cannot be refreshed (a natively uniform model, a widths file, a budget by
            quality, precision auto, a table in blocks that several slots read).
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
        problem = problem_of(new.config, log, run_result(new, "prepare"))
        live, about = load_network(stage / "model", session.device)
        cut = cut_tables(problem, before)
        uniform = write_uniform(old, new, log, maps, about, session)
        problem = replace(problem, source=run_result(new, "pretrain"))
        whole = Network(uniform_tables(live.tables, cut).to(session.device), live.model)
        full = carried(whole, log, maps)
        moments = live_moments(full, new.config, log, session, problem.spans)
        statistics, means = cached_score(new, uniform, log, session)
        if config.prune.strategy in SPECTRAL or any(e.projected and e.bias for e in before.entries):
            problem = with_bias(problem)
        budget = resolve(config.prune.budget, problem.cost, uniform_layout(log.slots, log.tables, config.model.width))
        question = Question(new, uniform, log, session, problem, budget, statistics, means)
        evidence = with_evidence(config.prune.strategy, question)
        proposed = STRATEGIES[config.prune.strategy](problem, budget, evidence)
        worth = {t: losses(f) for t, f in factors_of(problem, statistics, "refresh").items()}
        were = old_entries(problem, before, maps)
        widths = {t: e.width for t, e in were.items()}
        asked = item_widths(problem, proposed)
        chosen, changes = decide(problem.limits, widths, asked, worth, budget.amount, min_gain)
        entries = new_entries(problem, were, chosen)
        note = f"refreshed from {old.folder.name}: {sum(c.after != c.before for c in changes)} tables changed"
        allocation = assembled(problem, budget, config.prune.strategy, entries, [note])
        small, turned = migrated(live, full, allocation, before, log, maps, moments, config, cut)
        state = migrated_state(stage, live, small, maps, turned)
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
        matched = {c.table: known_share(problem, c.table, maps) for c in changes}
        lost = lost_ids(log_before, maps)
        found = Refreshed(changes, allocation, matched, lost, state is not None)
        artifact.write_json(out / "refresh.json", found.to_json())
    return found


def lost_ids(old: EncodedLog, maps: dict[str, Tensor]) -> dict[str, tuple[int, float]]:
    """Per table that loses ids: how many of the old log's it does not have any more, and the share of the old training
    occurrences that were theirs."""
    found = {}
    for table, rows in maps.items():
        counts = old.counts(table).double()
        gone = torch.ones(len(counts), dtype=torch.bool)
        gone[rows[rows >= 0]] = False  # row 0, the unknown id, always stays
        if number := int(gone.sum()):
            found[table] = number, float(counts[gone].sum() / counts.sum().clamp(min=1))
    return found


def check_refresh(config: Config, before: Allocation) -> None:
    """Raises ConfigError for widths that this stage does not know how to carry, and for several logs."""
    check_single(config.data, "refresh")
    if before.common != config.model.width or config.prune.strategy in ("uniform", "uniform_int8", "manual"):
        raise ConfigError(
            f"refresh: strategy {config.prune.strategy} at common width {before.common}: a natively uniform model or a "
            "widths file has no widths to propose; search the new log anew"
        )
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


def live_moments(full: Network, config: Config, log: EncodedLog, session: Session, spans: Spans) -> dict[str, Moments]:
    """Spectral statistics of the live model's slot vectors (their biases left out) on the new log; of blocks too."""
    settings = config.prune
    tensors = score(full, log.part(settings.on), session, settings.rows, settings.curvature, spans, log.tasks)
    return weighed_statistics(tensors, 0, log, config)[0].extra["spectral"]
