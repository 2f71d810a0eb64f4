"""How long pretrain, prune and retrain take on a Criteo-shaped log that is encoded already, and where the time goes.

    python tests/benchmarks/three_stages.py --rows 1000000                                     # a laptop
    python tests/benchmarks/three_stages.py --rows 45800000 --device cuda --batch 65536        # Criteo's rows, one GPU

39 slots, 1.13 M ids by a power law; labels follow effects of the ids. The columns are written as `prepare` would have
written them (160 bytes a row), so that minutes of reading text are not part of it. Eight tenths of the rows train.
DeepFM 3x400, one epoch a training, scores on all validation rows, the default strategy, a quarter of the floats.
Prints one JSON object: seconds by stage, and of the two trainings samples/s (with all that belongs to the stage) and
the last AUC on the validation rows.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from autodim.bench.synthetic import sizes, zipf
from autodim.config.reader import load_config
from autodim.data.encoded import EncodedLog
from autodim.data.manifest import PartRecord
from autodim.stages.prepare import open_log
from autodim.stages.pretrain import pretrain
from autodim.stages.prune import prune
from autodim.stages.retrain import retrain
from autodim.stages.search import search
from autodim.stages.session import Session
from autodim.training.device import set_up
from autodim.training.interrupt import StopFlag
from autodim.training.progress import Progress

STEP = 1_000_000
SHARES = {"train": 0.8, "valid": 0.1, "test": 0.1}


def write_log(folder: Path, like: EncodedLog, rows: int) -> EncodedLog:
    """A folder as `encode` writes it, without vocabularies, which no training reads."""
    generator = np.random.default_rng(0)
    effects = [generator.normal(0, 0.25, size).astype(np.float32) for size in sizes()]
    counts = [np.zeros(size, np.int64) for size in sizes()]
    parts = {}
    for part, share in SHARES.items():
        (folder / part).mkdir(parents=True)
        count, ones = round(rows * share), 0
        with open(folder / part / "ids.bin", "wb") as ids, open(folder / part / "labels.bin", "wb") as labels:
            for start in range(0, count, STEP):
                n = min(STEP, count - start)
                drawn = [zipf(n, size, generator) for size in sizes()]
                logit = np.sum([e[d] for e, d in zip(effects, drawn, strict=True)], axis=0) - 1.2
                label = (generator.random(n) < 1 / (1 + np.exp(-logit))).astype(np.float32)
                if part == "train":
                    counts = [c + np.bincount(d, minlength=len(c)) for c, d in zip(counts, drawn, strict=True)]
                np.stack(drawn, axis=1).tofile(ids)
                label.tofile(labels)
                ones += int(label.sum())
        (folder / part / "numeric.bin").touch()
        parts[part] = PartRecord(rows=count, labelled=(count,), positive_rate=(ones / count,))
    np.concatenate(counts).tofile(folder / "counts.bin")
    tables = [t.model_copy(update={"rows": n}) for t, n in zip(like.manifest.tables, sizes(), strict=True)]
    manifest = like.manifest.model_copy(update={"tables": tuple(tables), "parts": parts})
    return EncodedLog(folder, manifest)


def measure(rows: int, overrides: list[str], folder: Path) -> dict[str, object]:
    names = [f"C{k}" for k in range(len(sizes()))]
    small = pd.DataFrame({n: [f"{k}" for k in range(100)] for n in names} | {"click": [0, 1] * 50})
    data = {"path": "(a DataFrame)", "labels": ["click"], "slots": [{"name": n, "kind": "categorical"} for n in names]}
    config = load_config({"run": str(folder / "run"), "data": data}, overrides, source="settings").config
    quiet = Progress("quiet")
    run = search(config, quiet, ("prepare",), small)
    found: dict[str, object] = {}
    began = time.perf_counter()
    log = write_log(folder / "log", open_log(run), rows)
    found["writing"] = round(time.perf_counter() - began, 1)
    with StopFlag() as stop:
        session = Session(set_up(config.device, config.threads), quiet, stop)
        for stage in (pretrain, prune, retrain):
            if session.device.type == "cuda":
                torch.cuda.synchronize()
            began = time.perf_counter()
            stage(run, log, session)
            found[stage.__name__] = round(time.perf_counter() - began, 2)
    on_gpu = session.device.type == "cuda"
    found["device"] = torch.cuda.get_device_name() if on_gpu else f"cpu, {torch.get_num_threads()} threads"
    for stage in ("pretrain", "retrain"):
        history = json.loads((run.stage(stage) / "history.json").read_text())
        found[f"{stage}: samples/s"] = round(rows * SHARES["train"] / float(str(found[stage])))
        found[f"{stage}: valid AUC"] = round(history[-1]["valid_auc"], 4)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=8192)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE of the config")
    asked = parser.parse_args()
    stages = ("pretrain", "retrain")
    settings = [f"{s}.{k}={v}" for s in stages for k, v in {"epochs": 1, "batch": asked.batch, "bf16": "auto"}.items()]
    settings += [f"{s}.evals_per_epoch=1" for s in stages]
    settings += [
        f"device={asked.device}",
        f"model.width={asked.width}",
        "model.hidden=[400,400,400]",
        "prune.budget.share=0.25",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        json.dump(measure(asked.rows, settings + asked.overrides, Path(temporary)), sys.stdout, indent=1)
        print()
