"""Prints as JSON the estimated and the measured peak of one training, over what the process held before."""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from autodim.config.reader import load_config
from autodim.data.columns import Columns
from autodim.embedding.layout import Slot, Table, uniform_layout
from autodim.optim.build import build_rules
from autodim.stages.memory import training_memory
from autodim.stages.model_folder import build_network
from autodim.training.device import set_up
from autodim.training.evaluation import CHUNK
from autodim.training.loop import Training
from autodim.training.progress import Progress
from autodim.training.step import Step

STEPS = 6


def high_water() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def main(model: str, width: int, rows: int, slots: int, batch: int, rule: str) -> None:
    set_up("cpu", 1)
    names = [f"s{i}" for i in range(slots)]
    text = f"""
data: {{path: x.csv, labels: [y], slots: [{", ".join(names)}]}}
model: {{name: {model}, width: {width}}}
pretrain: {{batch: {batch}, epochs: 1, optimizer: {{tables: {{name: {rule}}}}}}}
"""
    config = load_config(text, (), "worker").config
    draw = np.random.default_rng(0)

    def columns(count: int, ids: int) -> Columns:
        labels = (np.arange(count)[:, None] % 2).astype(np.float32)
        return Columns.from_arrays(
            draw.integers(0, ids, (count, slots), dtype=np.int32), None, labels, None, tuple(names)
        )

    def train(tables: list[Table], parts: tuple[Columns, Columns]) -> None:
        layout = uniform_layout([Slot(n, n) for n in names], tables, width)
        network = build_network(config.model, layout, 0, 1, 0)
        counts = {t.name: torch.ones(t.rows) for t in tables}
        rules = build_rules(config.pretrain.optimizer, network, epochs=1, steps_per_epoch=STEPS, counts=counts)
        with tempfile.TemporaryDirectory() as folder:
            step = Step(network, rules.optimizers)
            Training(network, step, parts, config.pretrain, 0, Path(folder)).run(Progress("quiet"), "x")

    parts = columns(STEPS * batch, rows), columns(CHUNK, rows)
    tables = [Table(n, rows) for n in names]
    tiny = columns(16, 8)
    train([Table(n, 8) for n in names], (tiny, tiny))  # libraries and their buffers are no part of it
    layout = uniform_layout([Slot(n, n) for n in names], tables, width)
    estimated = training_memory(config, layout, parts[0], (batch, CHUNK)).total
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = high_water()
    train(tables, parts)
    print(json.dumps({"estimated": estimated, "measured": high_water() - before}))


if __name__ == "__main__":
    name, *numbers, rule = sys.argv[1:]
    main(name, *map(int, numbers), rule)
