"""What a pretraining is made from, and why one that is there may not do: the rows that stopped it."""

from __future__ import annotations

from collections.abc import Mapping

from autodim import artifact
from autodim.data.encoded import EncodedLog
from autodim.stages.holdout import inputs_of
from autodim.stages.import_weights import weights_inputs
from autodim.stages.pretrain import run_result
from autodim.stages.run import Run


def pretrain_inputs(run: Run, log: EncodedLog) -> str:
    """The hash of what the stage is made from."""
    # weights from elsewhere were not stopped by our rows, however those are divided
    return _inputs(run, {} if run.config.pretrain.weights is not None else inputs_of(log))


def _inputs(run: Run, held: Mapping[str, float]) -> str:
    config = run.config
    return artifact.digest(
        {
            "data": run_result(run, "prepare"),
            "model": config.model.model_dump(mode="json"),
            "pretrain": config.pretrain.model_dump(mode="json"),
            "seed": config.seed,
            **held,
            **weights_inputs(config),
        }
    )


def other_stop(run: Run, log: EncodedLog) -> str | None:
    """Why a model that is there is not used, where it differs by nothing but the rows that stopped its training.

    With a budget by quality it would be wrong: rows that chose the uncut model flatter it, and those that judge what a
    cut loses against it must be new to both. Without one, the same command should give the same numbers, whatever
    was searched for in the folder before.
    """
    done = run.done("pretrain")
    if done is None or run.config.pretrain.weights is not None:
        return None
    share = run.config.prune.quality.confirm
    if inputs_of(log) and done.inputs == _inputs(run, {}):
        return (
            "the model here was stopped by all validation rows; by quality, those that judge must not have chosen the "
            "uncut model too, so it is trained again without them (and the one here is kept)"
        )
    if not inputs_of(log) and done.inputs == _inputs(run, {"confirm": share}):
        return (
            "the model here was stopped by some of the validation rows, as a budget by quality wants it; by size all "
            "of them do, so another one is needed (and the one here is kept)"
        )
    return None
