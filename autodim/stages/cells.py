"""One cell of a comparison or a sweep: a strategy, a budget and a way of retraining, as a run of its own that shares
the log and the pretrained model."""

from __future__ import annotations

from pathlib import Path

from autodim.config.schema import BudgetConfig, Config
from autodim.stages.cutter import with_budget
from autodim.stages.run import Run

TEACHER = 0.5  # share of the uncut model's probabilities in the labels, where the config names none
MODES = ("none", "warm", "warm_cold_first", "cold", "distill")


def with_mode(config: Config, mode: str | None) -> Config:
    """The config with another way of retraining.

    Args:
        mode: one of MODES; `distill` is a warm retrain that learns from the uncut model too (the config's share, or
            one half), the others learn from the labels alone. None: the config's own.
    """
    if mode is None:
        return config
    if mode == "distill":
        change = {"mode": "warm", "distill": config.retrain.distill or TEACHER}
    else:
        change = {"mode": mode, "distill": 0.0}
    return config.model_copy(update={"retrain": config.retrain.model_copy(update=change)})


def cell(parent: Run, folder: Path, strategy: str, share: float, mode: str | None = None) -> Run:
    """The run of one cell in a folder; log and pretraining are the parent's."""
    budget = BudgetConfig(unit=parent.config.prune.budget.unit, share=share)
    config = with_mode(with_budget(parent.config, strategy, budget), mode)
    return Run(folder, config, {name: parent.stage(name) for name in ("prepare", "pretrain")})
