"""predict: score new rows with a run's small model; the training data is not needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

from autodim.config.catalogue import config_file
from autodim.config.reader import load_config
from autodim.data.accounting import Rejects
from autodim.data.frame import encode_rows
from autodim.dimension.allocation import Allocation
from autodim.errors import ConfigError, RunError
from autodim.stages import no_cut
from autodim.stages.model_folder import load_network
from autodim.stages.prepare import open_log
from autodim.stages.run import Run
from autodim.stages.serve import read_weights, round_tables
from autodim.training.evaluation import predict as predict_logits
from autodim.training.losses import predictions

UNSEEN = 0.5  # share of unseen ids in a slot that is worth a word
MODELS = {"small": "retrain", "served": "retrain", "cut": "prune", "uniform": "pretrain", "wide": "widen"}


def predict(
    folder: Path,
    rows: Path | pd.DataFrame,
    device: torch.device,
    which: str = "small",
    say: Callable[[str], None] = lambda text: None,
    weights: Path | None = None,
    max_bad_rows: int = 0,
    auxiliary: bool = False,
) -> pd.DataFrame:
    """Predictions for new rows.

    Args:
        folder: the run.
        rows: a file or a DataFrame with the slots' columns; labels are not needed. Ids that training never saw read
            the out-of-vocabulary row.
        which: `small` (the retrained model), `served` (with its tables rounded as the widths file says), `cut`,
            `uniform`, or `wide` (what `autodim widen` trained).
        say: told about slots most of whose ids were never seen (another notation, a wrong column).
        weights: an exported safetensors file of the small model, in any precision, to predict with instead.
        max_bad_rows: rows that cannot be read, and are left out, before it is an error.
        auxiliary: auxiliary tasks too; exported weights do not hold what is theirs alone.

    Returns:
        One column per main label (probabilities; of a regression its number), one row per input row, in the same order;
        the index of a DataFrame is kept. With `max_bad_rows` above 0 and a file, the index `line` says which line
        (Parquet: row, from 1) each score is of.

    Raises:
        RunError: no such run or model. DataError: a column is missing.
    """
    run = open_run(folder)
    stage = run.need(MODELS[which])
    if which == "cut" and not (stage / "model").is_dir():
        raise RunError(f"{stage}: these widths are trained natively, so no model is cut; use --model small")
    network, about = load_network(stage / "model", device)
    log = open_log(run)
    if weights is not None and which != "small":
        raise ConfigError(f"--weights holds the small model; found --model {which}; leave that out")
    if weights is not None and auxiliary:
        raise ConfigError("--auxiliary: exported weights leave out what auxiliary tasks own; take out one of the two")
    if weights is not None or which == "served":
        allocation = Allocation.from_yaml((run.stage("retrain") / "widths.yaml").read_text())
        if weights is None:
            round_tables(network, allocation)
        else:
            read_weights(network, allocation, weights, log.tasks)
    if which != "uniform" and (served := no_cut.words(run)):
        say(served)
    rejects, places = Rejects(max_bad_rows, "--max-bad-rows"), list[int]()
    columns = encode_rows(rows, log, rejects=rejects, places=places)
    if rejects.rejected:
        say(f"{rejects.rejected:,} row(s) cannot be read and have no score, the first: {rejects.examples[0]}")
    for name, share in zip(columns.one_hot_slots, (columns.ids == 0).double().mean(0).tolist(), strict=True):
        if share > UNSEEN:
            say(f"{name}: {share:.0%} of the ids were never seen in training; they read the out-of-vocabulary row")
    values = predictions(predict_logits(network, columns, device), log.tasks).cpu().numpy()
    shown = [t for t, task in enumerate(log.tasks) if auxiliary or task.role == "main"]
    index = rows.index[places] if isinstance(rows, pd.DataFrame) else None
    if index is None and max_bad_rows:
        index = pd.Index(places, name="line")
    return pd.DataFrame(values[:, shown], columns=[about["labels"][t] for t in shown], index=index)


def open_run(folder: Path) -> Run:
    """A run that exists.

    Raises:
        NoSuchRun: there is none at this path.
    """
    return Run(folder, load_config(config_file(folder)).config)
