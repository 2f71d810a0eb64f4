"""Score rows that came after the training: a DataFrame, or a file, with the run's folder and nothing else.

Shows `autodim.open_run(...).predict`, and what happens to ids that training never saw and to columns that are missing.
Real flights of 2013, from the package of the demo extra (`pip install "autodim[demo]"`): trained on part of January,
asked about the days after it.

    python examples/06_score_new_rows.py

The same on a command line: `autodim predict RUN new_rows.csv --out scores.csv`
"""

from pathlib import Path
from tempfile import mkdtemp

import torch

import autodim
from autodim.data.logs.flights import joined, package_data
from autodim.errors import DataError
from autodim.training.metrics import auc

FOLDER = Path(mkdtemp(prefix="autodim-"))
RUN = FOLDER / "run"
SETTINGS = {
    "data": {"drop": {"arr_delay": ""}, "min_count": 2},  # a flight that never arrived is neither late nor in time
    "model": {"name": "deepfm", "width": 8, "hidden": [16]},
    "pretrain": {"batch": 256, "epochs": 3, "optimizer": {"tables": {"lr": 3e-3}}},
    "retrain": {"batch": 256, "epochs": 2, "optimizer": {"tables": {"lr": 3e-3}}},
}
SLOTS = ["carrier", "flight", "tailnum", "origin", "dest", "weekday", "hour", "model"]
SLOTS += [{"name": name, "kind": "value"} for name in ("wind_speed", "precip", "visib", "humid")]

if __name__ == "__main__":
    flights = joined(package_data()).head(18_000)
    january, after = flights[:15_000], flights[15_000:]
    late = {"name": "late", "column": "arr_delay", "above": 15}
    autodim.search(january, late, SLOTS, "25% params", RUN, SETTINGS, quiet=True)

    # Another day, another process: the folder is all that is needed. Labels are not, and the index is kept.
    small = autodim.open_run(RUN)
    arrived = after[after["arr_delay"].notna()]
    scores = small.predict(arrived.drop(columns="arr_delay"))
    truth = torch.tensor((arrived["arr_delay"] > 15).to_numpy(), dtype=torch.float32)
    print(small)
    print(f"AUC on {len(arrived):,} later flights: {float(auc(torch.tensor(scores['late'].to_numpy()), truth)):.3f}")
    print(scores.head(3).round(3).to_string())

    # From a file; a tail number that training never saw reads the out-of-vocabulary row of its table.
    one = arrived.head(1).assign(tailnum="N-NEVER-SEEN")
    one.to_csv(FOLDER / "new_rows.csv", index=False)
    print("an unknown plane:", round(float(small.predict(FOLDER / "new_rows.csv")["late"][0]), 3))
    try:
        small.predict(arrived.drop(columns="carrier"))
    except DataError as error:
        print("without a column:", error)
