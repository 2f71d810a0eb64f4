"""Take the small tables to another training system: torchrec's table specs, and the weights in one safetensors file.

Shows `autodim export --format torchrec` and `--format safetensors` from Python, and reads the weights with torch and
safetensors alone: every slot vector of the model is (pooled row of its table) @ (its projection).

    python examples/04_export_to_torchrec.py
"""

import json
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from torch.nn.functional import embedding_bag

import autodim
from autodim.data.encoded import EncodedLog
from autodim.data.frame import encode_rows
from autodim.stages import export
from autodim.stages.model_folder import load_network

RUN = Path(mkdtemp(prefix="autodim-")) / "run"
SETTINGS = {
    "model": {"name": "deepfm", "width": 16, "hidden": [16], "init_std": 0.1},
    "pretrain": {"batch": 256, "epochs": 2, "optimizer": {"tables": {"lr": 1e-2}}},
    "prune": {"multiple_of": 4},  # FBGEMM's kernels, and so torchrec, take no other widths
    "retrain": {"batch": 256, "epochs": 1},
}


def clicks(rows: int = 8_000) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    user, item = rng.integers(300, size=rows), rng.integers(100, size=rows)
    tags = ["|".join(rng.choice(list("abcdefgh"), n, replace=False)) for n in rng.integers(0, 4, rows)]
    return pd.DataFrame({"user": user, "item": item, "tags": tags, "click": (user % 3 == item % 3).astype(int)})


def slot_vectors(path: Path, ids: dict[str, tuple[torch.Tensor, torch.Tensor]], rows: int) -> dict[str, torch.Tensor]:
    """Plain torch: what a system that knows nothing of autodim does with the file; `ids` are values and offsets."""
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["autodim"])
        found = {}
        for block in about["blocks"]:
            for slot in block["slots"]:
                vectors = torch.zeros(rows, about["common"])
                if block["table"]:
                    mode = about["pooling"].get(slot, "sum")
                    vectors = embedding_bag(ids[slot][0], file.get_tensor(block["table"]), ids[slot][1], mode=mode)
                if block["projection"]:
                    vectors = vectors @ file.get_tensor(block["projection"])
                if slot in block["biases"]:
                    vectors = vectors + file.get_tensor(block["biases"][slot])
                found[slot] = vectors
    return found


if __name__ == "__main__":
    frame = clicks()
    slots = ["user", "item", {"name": "tags", "kind": "multi"}]
    autodim.search(frame, "click", slots, "40% params", RUN, SETTINGS, quiet=True)
    specs = json.loads(export.text(RUN, "torchrec"))
    for table in specs["tables"]:
        print({k: table[k] for k in ("name", "num_embeddings", "embedding_dim", "feature_names", "pooling")})
    print("what torchrec would refuse:", specs["problems"] or "nothing")

    weights = RUN.parent / "weights.safetensors"
    print(export.write_weights(RUN, weights), "tensors in", weights)
    log = EncodedLog.open(RUN / "data" / "log")
    batch = encode_rows(frame.head(500), log).batch(slice(0, 500))
    each = torch.arange(500)
    ids = {name: (batch.ids[:, k].long(), each) for k, name in enumerate(log.one_hot_slots)}
    ids |= {name: (bag.values.long(), bag.offsets[:-1].long()) for name, bag in batch.bags.items()}
    network, _ = load_network(RUN / "retrain" / "model")
    model = network.tables.lookup(batch).inputs()[0].stack()  # 500 x S x D, as the model sees them
    plain = torch.stack([slot_vectors(weights, ids, 500)[s.name] for s in log.slots], dim=1)
    print(f"largest difference from the model's slot vectors: {(plain - model).abs().max():.1e}")
