"""What several families of tests share: a tiny log, and a run on it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from autodim import artifact
from autodim.config.reader import load_config
from autodim.config.schema import Config

REPOSITORY = Path(__file__).parent.parent


def shared_data() -> Path | None:
    """The folder of the public data sets, if it is here."""
    folder = Path(os.environ.get("AUTODIM_DATA", REPOSITORY.parent / "shared" / "data"))
    return folder.resolve() if (folder / "ml1m.parquet").is_file() else None


@pytest.fixture
def public_data() -> Path:
    folder = shared_data()
    if folder is None:
        pytest.skip("the public data sets are not here; set AUTODIM_DATA to their folder")
    return folder


def tiny_frame(rows: int = 3000, seed: int = 0) -> pd.DataFrame:
    """Clicks that depend on the pair (user, item) and a little on the place; `tags` is multi-valued."""
    rng = np.random.default_rng(seed)
    user, item, place = rng.integers(0, 40, rows), rng.integers(0, 30, rows), rng.integers(0, 3, rows)
    taste, kind = rng.normal(size=(40, 2)), rng.normal(size=(30, 2))
    logit = 1.5 * (taste[user] * kind[item]).sum(1) + 0.3 * (place - 1)
    tags = ["|".join(f"t{v}" for v in rng.integers(0, 5, count)) for count in rng.integers(0, 4, rows)]
    return pd.DataFrame(
        {
            "user": [f"u{v}" for v in user],
            "item": [f"i{v}" for v in item],
            "place": [f"p{v}" for v in place],
            "tags": tags,
            "age": rng.normal(40, 10, rows).round(1),
            "click": (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(int),
        }
    )


@pytest.fixture(scope="session")
def tiny_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of 3,000 clicks."""
    path = tmp_path_factory.mktemp("log") / "clicks.csv"
    tiny_frame().to_csv(path, index=False)
    return path


OUTCOME = ("metrics.jsonl", "widths.yaml", "evaluate/results.json", "pretrain/history.json", "retrain/history.json")
OUTCOME += tuple(f"{stage}/model/network.safetensors" for stage in ("pretrain", "prune", "retrain"))


def outcome(run: Path, names: Iterable[str] = OUTCOME) -> dict[str, str]:
    """sha256 of everything that a run must end with, whatever happened before."""
    return {name: artifact.sha256(run / name) for name in names}


def tiny_config(log: Path, run: Path, *overrides: str) -> Config:
    """A config that walks the whole road in a second or two."""
    text = f"""
run: {run}
threads: 1
data:
  path: {log}
  labels: [click]
  slots: [user, item, place, {{name: tags, kind: multi}}, {{name: age, kind: value}}]
  split: {{by: random, valid: 0.2, test: 0.2}}
model: {{name: deepfm, width: 8, hidden: [16, 8], dropout: 0.05, init_std: 0.3}}
pretrain: {{batch: 64, epochs: 6, evals_per_epoch: 2, optimizer: {{tables: {{lr: 3e-2}}, dense: {{lr: 1e-2}}}}}}
prune: {{budget: {{share: 0.4}}}}
retrain: {{batch: 128, epochs: 2, evals_per_epoch: 2, optimizer: {{tables: {{lr: 1e-2}}, dense: {{lr: 1e-2}}}}}}
"""
    return load_config(text, overrides, "tiny").config
