"""compare: strategies x budgets x seeds on one log, as one job that can be killed and run again.

FOLDER/data/                      encoded once
FOLDER/seed-K/pretrain/           trained once a seed
FOLDER/seed-K/STRATEGY-SHARE/     one cell: prune, retrain, evaluate
FOLDER/comparison.{json,csv,md}   the table
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autodim import artifact
from autodim.config.schema import BudgetConfig, Config
from autodim.errors import BudgetError
from autodim.stages.environment import environment
from autodim.stages.evaluate import evaluate
from autodim.stages.prepare import prepare
from autodim.stages.pretrain import pretrain
from autodim.stages.prune import prune
from autodim.stages.retrain import retrain
from autodim.stages.run import Run
from autodim.stages.session import Session
from autodim.training.device import set_up
from autodim.training.interrupt import StopFlag
from autodim.training.progress import Progress

BASELINES = ("sseds", "uniform", "random", "magnitude", "frequency_tiers", "power_rule", "fourth_root")


def compare(
    config: Config,
    folder: Path,
    strategies: Sequence[str],
    shares: Sequence[float],
    seeds: Sequence[int],
    progress: Progress,
) -> list[dict[str, Any]]:
    """Run every cell that is not finished and gather the table.

    Every strategy gets the same data, the same pretrained model, the same retraining settings and early stopping; the
    native uniform width, which cannot be cut from the pretrained model, trains from fresh weights.

    Returns:
        One row per strategy, share and seed, and one per seed for the uncut model: `strategy`, `share`, `seed`,
        `asked`, `spent`, `params`, `train_bytes`, `auc`, `logloss`, `calibration`, `cut_auc`, `cut_logloss`, `seconds`; an
        infeasible cell has `infeasible` with the reason instead of figures.
    """
    rows: list[dict[str, Any]] = []
    with artifact.Lock(folder), StopFlag() as stop:
        session = Session(set_up(config.device, config.threads), progress, stop)
        artifact.write_json(folder / "environment.json", environment())
        base = Run(folder, config)
        log = prepare(base, session)
        shared = {"prepare": base.stage("prepare")}
        for seed in seeds:
            seeded = config.model_copy(update={"seed": seed})
            parent = Run(folder / f"seed-{seed}", seeded, shared)
            progress.line(f"seed {seed}")
            pretrain(parent, log, session)
            for number, (share, strategy) in enumerate([(b, s) for b in shares for s in strategies]):
                cell = seeded.model_copy(update={"prune": cell_prune(seeded, strategy, share)})
                run = Run(
                    parent.folder / f"{strategy}-{share:g}", cell, {**shared, "pretrain": parent.stage("pretrain")}
                )
                progress.line(f"seed {seed}: {strategy} at {share:.4g}")
                try:
                    allocation = prune(run, log, session)
                except BudgetError as error:
                    rows.append({"strategy": strategy, "share": share, "seed": seed, "infeasible": str(error)})
                    continue
                stop.check()
                retrain(run, log, session)
                stop.check()
                results = evaluate(run, log, session)
                rows.append(cell_row(run, strategy, share, seed, allocation.asked, allocation.spent, results))
                if number == 0:
                    rows.append(uncut_row(run, seed, results))
                stop.check()
        artifact.write_json(folder / "comparison.json", rows)
    return rows


def cell_prune(config: Config, strategy: str, share: float) -> Any:
    """The prune section of one cell."""
    budget = BudgetConfig(unit=config.prune.budget.unit, share=share)
    return config.prune.model_copy(update={"strategy": strategy, "budget": budget, "preset": None})


def cell_row(
    run: Run, strategy: str, share: float, seed: int, asked: int, spent: int, results: dict[str, Any]
) -> dict[str, Any]:
    """One finished cell."""
    models = {m["name"]: m for m in results["models"]}
    small = models["retrained"]
    cut = models["cut"]["test"][0] if "cut" in models else {"auc": None, "logloss": None}
    done = run.done("retrain")
    return {
        "strategy": strategy,
        "share": share,
        "seed": seed,
        "asked": asked,
        "spent": spent,
        **{k: small[k] for k in ("params", "train_bytes")},
        **{k: small["test"][0][k] for k in ("auc", "logloss", "calibration")},
        "cut_auc": cut["auc"],
        "cut_logloss": cut["logloss"],
        "seconds": done.seconds if done else None,
    }


def uncut_row(run: Run, seed: int, results: dict[str, Any]) -> dict[str, Any]:
    """The pretrained model, as the reference of all differences."""
    model = next(m for m in results["models"] if m["name"] == "uniform")
    done = run.done("pretrain")
    return {
        "strategy": "uncut",
        "share": 1.0,
        "seed": seed,
        "asked": None,
        "spent": None,
        **{k: model[k] for k in ("params", "train_bytes")},
        **{k: model["test"][0][k] for k in ("auc", "logloss", "calibration")},
        "cut_auc": None,
        "cut_logloss": None,
        "seconds": done.seconds if done else None,
    }
