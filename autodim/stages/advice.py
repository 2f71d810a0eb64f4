"""What to run where a stage of a folder is not there: that depends on how the folder came about."""

from __future__ import annotations

import shlex
from pathlib import Path

from autodim import artifact

CONTINUED, REFRESHED, QUALITY = "continued_from.json", "refresh.json", "quality.json"
MODELS = {"retrain": "small", "pretrain": "uniform"}


def advice(folder: Path, stage: str) -> str:
    """The command that makes a stage of a run's folder, in a sentence without an end.

    Args:
        folder: the run's. stage: prepare, pretrain, prune, retrain, evaluate or widen.
    """
    name = shlex.quote(str(folder))
    if not (folder / "config.yaml").is_file():
        return f"run `autodim {stage}` (or `autodim search`) with the same config first"
    if stage == "widen":
        return f"run `autodim widen {name}` first"
    mark = folder / CONTINUED
    if mark.is_file():
        source = shlex.quote(artifact.read_json(mark)["from"])
        if stage not in MODELS:
            return f"a continuation has none; search its rows as a log of their own, or use {source}"
        model = MODELS[stage]
        return (
            f"run `autodim continue {source} --data NEW_ROWS --out {name} --model {model}`, which continues that model"
        )
    if (folder / REFRESHED).is_file() and stage in ("retrain", "evaluate"):
        return f"run `autodim retrain {name}`, or use the live model as it is: --model cut"
    tried = folder / QUALITY
    if stage not in ("prepare", "pretrain") and tried.is_file() and artifact.read_json(tried).get("spent") is None:
        return (
            "the search found no cut that keeps the quality asked for; allow more to be lost, or name a size: "
            f"`autodim search {name} prune.budget.share=0.5`"
        )
    return f"run `autodim {stage} {name}`, or `autodim search {name}` for all that is missing"
