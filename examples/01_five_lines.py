"""From a DataFrame of clicks to widths and a small model, in five lines of Python.

Shows `autodim.search`: encode, train the uniform model, score its dimensions, spend the budget, train again, report.

    python examples/01_five_lines.py
"""

from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pandas as pd

import autodim


def clicks(rows: int = 40_000) -> pd.DataFrame:
    """Does this user click this item on this page? `weekday` tells nothing."""
    rng = np.random.default_rng(0)
    user, item, page = rng.integers(0, 300, rows), rng.integers(0, 100, rows), rng.integers(0, 5, rows)
    taste, kind = rng.normal(size=(300, 2)), rng.normal(size=(100, 2))
    logit = 1.5 * (taste[user] * kind[item]).sum(1) + np.linspace(-1, 1, 5)[page]
    return pd.DataFrame(
        {
            "user": user,
            "item": item,
            "page": page,
            "weekday": rng.integers(0, 7, rows),
            "click": (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(int),
        }
    )


# Everything that is not said here has a default; `autodim show template` is the manual of what can be said.
QUICK = {
    "model": {"name": "deepfm", "width": 8, "hidden": [16, 8], "init_std": 0.1},
    "pretrain": {"batch": 256, "epochs": 5, "optimizer": {"tables": {"lr": 1e-2}, "dense": {"lr": 3e-3}}},
    "retrain": {"batch": 256, "epochs": 3},
}

if __name__ == "__main__":
    frame = clicks()
    run = Path(mkdtemp(prefix="autodim-")) / "run"
    result = autodim.search(frame, label="click", budget="50% params", run=run, settings=QUICK, quiet=True)
    print(result.widths.to_string(index=False))
    print(result.metrics[["model", "auc", "logloss", "params"]].round(4).to_string(index=False))
    print("probabilities of three rows:", result.predict(frame.head(3))["click"].map("{:.3f}".format).tolist())
    print("report:", result.report)
