"""compare: strategies x budgets x seeds on one log, as one job that can be killed and run again.

FOLDER/data/                      encoded once
FOLDER/seed-K/pretrain/           trained once a seed
FOLDER/seed-K/STRATEGY-SHARE/     one cell: prune, retrain, evaluate (STRATEGY-SHARE-MODE with `modes`)
FOLDER/comparison.{json,csv,md}   the table, and the differences to a reference with their intervals
FOLDER/differences.json           those differences, within each seed
FOLDER/report-SHARE.html          the first strategy's report, beside all others at that budget
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autodim import artifact
from autodim.config.schema import Config
from autodim.dimension.allocation import Allocation
from autodim.errors import BudgetError
from autodim.stages.cells import cell as cell_of
from autodim.stages.evaluate import evaluate
from autodim.stages.job import job
from autodim.stages.pretrain import pretrain
from autodim.stages.prune import prune
from autodim.stages.retrain import retrain
from autodim.stages.run import Run
from autodim.stages.truth import truth_spearman
from autodim.training.progress import Progress


@dataclass(frozen=True)
class Grid:
    """What is compared: every strategy at every budget share, over seeds.

    Attributes:
        modes: ways of retraining (`autodim.stages.cells.MODES`), each a row of its own; None: the config's own.
    """

    strategies: tuple[str, ...]
    shares: tuple[float, ...]
    seeds: tuple[int, ...]
    modes: tuple[str | None, ...] = (None,)

    @property
    def cells(self) -> list[tuple[str, str | None]]:
        """Strategies and modes; the native uniform width has no cut to measure without a training."""
        return [(s, m) for s in self.strategies for m in self.modes if (s, m) != ("uniform", "none")]


@dataclass(frozen=True)
class Place:
    """Where a comparison lives, and the finished run whose log and pretraining it may use."""

    folder: Path
    run: Path | None = None

    def home(self, config: Config) -> Run:
        """The folder as a run, of which only the log is used."""
        return Run(self.folder, config, {} if self.run is None else {"prepare": self.run / "data"})


def compare(config: Config, place: Place, grid: Grid, progress: Progress) -> list[dict[str, Any]]:
    """Run every cell that is not finished and gather the table.

    Every strategy gets the same data, the same pretrained model, the same retraining settings and early stopping; the
    native uniform width, which cannot be cut from the pretrained model, trains from fresh weights.

    Returns:
        One row per strategy, share and seed, and one per seed for the uncut model: `strategy`, `share`, `seed`,
        `asked`, `spent`, `params`, `train_bytes`, `auc`, `logloss`, `calibration`, `cut_auc`, `cut_logloss`, `seconds`,
        `mode` where the grid has modes, and `truth_spearman` (found against true widths) on a planted log; an
        infeasible cell has `infeasible` with the reason instead of figures. With several labels `tasks` has each one's
        metrics by name; the other figures are the first one's.
    """
    rows: list[dict[str, Any]] = []
    base = place.home(config)
    with job(base, progress) as (log, session):
        for seed in grid.seeds:
            parent = seed_run(base, place, seed)
            progress.line(f"seed {seed}")
            pretrain(parent, log, session)
            for share in grid.shares:
                for strategy, mode in grid.cells:
                    cell = cell_run(parent, strategy, share, mode)
                    progress.line(f"seed {seed}: {strategy} at {share:.4g}" + (f", {mode}" if mode else ""))
                    try:
                        allocation = prune(cell, log, session)
                    except BudgetError as error:
                        key = {"strategy": strategy, **({"mode": mode} if mode else {}), "share": share, "seed": seed}
                        rows.append({**key, "infeasible": str(error)})
                        continue
                    session.stop.check()
                    retrain(cell, log, session)
                    session.stop.check()
                    results = evaluate(cell, log, session)
                    if not any(r["strategy"] == "uncut" and r["seed"] == seed for r in rows):
                        rows.append(uncut_row(cell, results))
                    rows.append(cell_row(cell, share, allocation, results, mode))
                    session.stop.check()
        artifact.write_json(place.folder / "comparison.json", rows)
    return rows


def row_name(row: dict[str, Any]) -> str:
    """What a cell is called in tables: its strategy, and how it was retrained where that is compared too."""
    return f"{row['strategy']}, {row['mode']}" if row.get("mode") else str(row["strategy"])


def seed_run(base: Run, place: Place, seed: int) -> Run:
    """The run that pretrains for a seed; a given run's own pretraining serves its own seed."""
    config = base.config.model_copy(update={"seed": seed})
    shared = {"prepare": base.stage("prepare")}
    if place.run is not None and seed == base.config.seed:
        shared["pretrain"] = place.run / "pretrain"
    return Run(base.folder / f"seed-{seed}", config, shared)


def cell_run(parent: Run, strategy: str, share: float, mode: str | None = None) -> Run:
    """The run of one cell; log and pretraining are shared."""
    name = f"{strategy}-{share:g}" + (f"-{mode}" if mode else "")
    return cell_of(parent, parent.folder / name, strategy, share, mode)


def cell_row(
    run: Run, share: float, allocation: Allocation, results: dict[str, Any], mode: str | None = None
) -> dict[str, Any]:
    """One finished cell; its figures are of the model as it is served."""
    models = {m["name"]: m for m in results["models"]}
    cut = models["cut"]["test"][0] if "cut" in models else {"auc": None, "logloss": None}
    return {
        "strategy": run.config.prune.strategy,
        **({"mode": mode} if mode else {}),
        "share": share,
        "asked": allocation.asked,
        "spent": allocation.spent,
        **_measured(run, "retrain", models.get("served", models["retrained"]), results["labels"]),
        "cut_auc": cut["auc"],
        "cut_logloss": cut["logloss"],
        "truth_spearman": truth_spearman(run, allocation),
    }


def uncut_row(run: Run, results: dict[str, Any]) -> dict[str, Any]:
    """The pretrained model, as the reference of all differences."""
    model = next(m for m in results["models"] if m["name"] == "uniform")
    unknown = dict.fromkeys(("asked", "spent", "cut_auc", "cut_logloss", "truth_spearman"))
    return {"strategy": "uncut", "share": 1.0, **unknown, **_measured(run, "pretrain", model, results["labels"])}


def _measured(run: Run, stage: str, model: dict[str, Any], labels: list[str]) -> dict[str, Any]:
    done = run.done(stage)
    return {
        "seed": run.config.seed,
        **{k: model[k] for k in ("params", "train_bytes")},
        **{k: model["test"][0][k] for k in ("auc", "logloss", "calibration")},
        **({"tasks": dict(zip(labels, model["test"], strict=True))} if len(labels) > 1 else {}),
        "seconds": done.seconds if done else None,
    }
