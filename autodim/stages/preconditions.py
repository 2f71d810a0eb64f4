"""What must be so before a command that begins in the middle of the road changes anything in a folder.

`autodim prune` and those after it go on from a model that lies there. With settings that ask for another log or another
model they would leave a folder whose parts do not belong together.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from autodim import artifact
from autodim.config.schema import ModelConfig
from autodim.data.encoded import EncodedLog
from autodim.errors import ConfigError
from autodim.stages.prepare import known_inputs
from autodim.stages.retrain import is_warm, read_allocation
from autodim.stages.run import Run
from autodim.stages.session import Session

AFTER = ("prune", "retrain", "evaluate")  # the stages that go on from a model


def check_log(run: Run, stages: Sequence[str], session: Session, frame: pd.DataFrame | None) -> None:
    """The log is the one of the model that is there.

    Raises:
        ConfigError: settings of `data` were changed, or the log was.
    """
    first = next((name for name in AFTER if name in stages), None)
    if "pretrain" in stages or first is None or run.done("pretrain") is None:
        return
    if _is_other_log(run, session, frame):
        raise ConfigError(
            f"{run.folder}: settings of `data`, or the log itself, were changed since it was encoded, and {first} goes "
            f"on from a model of what was there; run `autodim search {run.folder}`, or go back to the earlier settings"
        )


def check_served(run: Run, session: Session) -> None:
    """What measures beside the road does not take the log of a model away that the folder serves.

    Raises:
        ConfigError: settings of `data` were changed, or the log was.
    """
    if run.is_current("retrain") and _is_other_log(run, session):
        raise ConfigError(
            f"{run.folder}: settings of `data`, or the log itself, were changed since it was encoded, and the folder "
            f"serves a model of what was there; take another folder (run=PATH), or `autodim search {run.folder}` first"
        )


def _is_other_log(run: Run, session: Session, frame: pd.DataFrame | None = None) -> bool:
    inputs = known_inputs(run, session, frame)
    done = run.done("prepare")
    return done is not None and done.inputs != inputs


def check_model(run: Run, stages: Sequence[str], log: EncodedLog, widths: Path | None) -> None:
    """The model that is cut is the one that the config describes: what is saved of it is described by the config.

    Raises:
        ConfigError: settings of `model` were changed since it was pretrained. RunError: an earlier stage is missing.
    """
    if "pretrain" in stages or not {"prune", "retrain"} & set(stages):
        return
    if "prune" not in stages and not is_warm(run.config, read_allocation(run, log, widths)):
        return
    folder = run.need("pretrain") / "model"
    had = ModelConfig(**artifact.read_json(folder / "model.json")["model"]).model_dump(mode="json")
    wants = run.config.model.model_dump(mode="json")
    if changed := [key for key in wants if wants[key] != had[key]]:
        found = ", ".join(f"model.{key}: found {wants[key]}, it has {had[key]}" for key in changed)
        raise ConfigError(
            f"{folder} was trained with other settings ({found}), and a cut takes them over; run `autodim search "
            f"{run.folder}`, which pretrains the new model, or go back to the earlier ones"
        )
