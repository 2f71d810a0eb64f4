"""How close found widths are to the planted log's true ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from autodim import artifact
from autodim.dimension.allocation import Allocation
from autodim.dimension.scores import spearman
from autodim.stages.run import Run


def true_widths(run: Run) -> dict[str, int] | None:
    """The true width of each slot, where the run's log was planted by autodim; None otherwise."""
    path: Path = run.stage("prepare") / "log" / "log" / "truth.json"
    if not path.is_file():
        return None
    return {name: about["width"] for name, about in artifact.read_json(path)["slots"].items()}


def truth_spearman(run: Run, allocation: Allocation) -> float | None:
    """Spearman's correlation over slots between found and true widths; None where the truth is not known, or where
    either side is constant (a uniform width)."""
    truth = true_widths(run)
    if truth is None:
        return None
    found = allocation.widths
    pairs = np.array([(found[name], width) for name, width in truth.items() if name in found], dtype=float)
    return spearman(pairs[:, 0], pairs[:, 1])
