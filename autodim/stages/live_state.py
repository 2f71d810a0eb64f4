"""Optimizer state of a live model that `refresh` migrates: from the old run's training to the new run's retrain.

RUN/prune/optimizer   the migrated state, beside the migrated model
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autodim import artifact
from autodim.config.schema import OptimizerConfig
from autodim.embedding.migrate_state import State, carry_dense_state, carry_state
from autodim.stages.migrate_live import Turned
from autodim.stages.session import Session
from autodim.training.checkpoints import load_state, state_tensors, states_of
from autodim.training.network import Network


def rules_of(config: OptimizerConfig) -> dict[str, str]:
    """Which rules a training's optimizer state belongs to."""
    return {"tables": config.tables.name, "dense": config.dense.name}


def migrated_state(
    stage: Path, live: Network, small: Network, maps: Mapping[str, Tensor], turned: Turned
) -> tuple[dict[str, Tensor], list[dict[str, Any]]] | None:
    """The kept state of a live network for its migrated one, as `training.checkpoints.save_state` takes it.

    State of the dense side stays as it is; that of tables, projections and biases goes as `embedding.migrate_state`
    says. None where the training of `stage` kept none.

    Args:
        stage: the folder of the live model's stage.
        maps: per table the old row of each new one. turned: what the migration did.
    """
    if not (stage / "optimizer").is_dir():
        return None
    kept = states_of(*load_state(stage / "optimizer"))
    states: list[State] = []
    if live.tables.table_parameters():
        states.append(carry_state(live.tables, small.tables, maps, kept.pop(0)))
    elif small.tables.table_parameters():
        states.append({})
    if not small.tables.table_parameters():
        states = []
    if small.dense_parameters():
        states.append(_dense(live, small, kept[0] if kept else {}, turned))
    return state_tensors(states)


def _dense(live: Network, small: Network, state: State, turned: Turned) -> State:
    """The dense optimizer's state: the model's numbers come first (`Network.dense_parameters`)."""
    model = len(list(live.model.parameters()))
    own = {k - model: v for k, v in state.items() if k >= model}
    tables = carry_dense_state(live.tables, small.tables, own, turned.encoders, turned.sources)
    return {k: v for k, v in state.items() if k < model} | {model + k: v for k, v in tables.items()}


def live_start(
    folder: Path, config: OptimizerConfig, session: Session
) -> Callable[[list[torch.optim.Optimizer]], None] | None:
    """What puts a retrain's fresh optimizers where the live training left them; None where nothing was migrated, or for
    other rules than the retrain's (it says so). Rates and penalties are the retrain's.

    Args:
        folder: the stage of the migrated model, RUN/prune.
    """
    if not (folder / "optimizer").is_dir():
        return None
    found, wanted = artifact.read_json(folder / "model" / "model.json")["rules"], rules_of(config)
    if found != wanted:
        had, has = (", ".join(f"{side} {name}" for side, name in rules.items()) for rules in (found, wanted))
        session.progress.line(f"retrain: the live model's optimizer state is of {had}; {has} start fresh")
        return None
    states = states_of(*load_state(folder / "optimizer"))

    def start(optimizers: list[torch.optim.Optimizer]) -> None:
        for optimizer, state in zip(optimizers, states, strict=True):
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

    return start
