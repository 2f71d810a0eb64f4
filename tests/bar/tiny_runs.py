"""Runs so small that a whole road takes about half a second, for tests that walk it many times."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path

from conftest import tiny_config, tiny_frame

from autodim.config.schema import Config
from autodim.stages.search import search
from autodim.training.progress import Progress

ROWS = 240
SMALL = (
    "pretrain.epochs=2",
    "pretrain.evals_per_epoch=1",
    "retrain.epochs=1",
    "retrain.evals_per_epoch=1",
    "model.width=4",
    "model.hidden=[4]",
)
# sha256 of these must not depend on interruptions


@functools.cache
def small_log() -> Path:
    """A CSV of a few hundred clicks, the same file for the whole session: stages remember its time of change."""
    path = Path(tempfile.mkdtemp(prefix="autodim-bar-")) / "clicks.csv"
    tiny_frame(ROWS).to_csv(path, index=False)
    return path


def small_config(run: Path, *overrides: str) -> Config:
    return tiny_config(small_log(), run, *SMALL, *overrides)


def walk(run: Path, *overrides: str) -> Path:
    """Walk the whole road in this process."""
    search(small_config(run, *overrides), Progress("quiet"), report=False)
    return run


@functools.cache
def finished() -> Path:
    """A finished run; copy it before changing it."""
    run = small_log().parent / "finished"
    search(small_config(run), Progress("quiet"))
    return run


def copy_of_finished(folder: Path) -> Path:
    return Path(shutil.copytree(finished(), folder))
