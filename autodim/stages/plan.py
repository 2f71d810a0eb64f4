"""plan (`search --dry-run`): rows, parameters, bytes and time, before any work is done."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from autodim import artifact
from autodim.config.schema import Config, TrainConfig
from autodim.data.columns import Columns
from autodim.data.encoded import EncodedLog
from autodim.embedding.layout import uniform_layout
from autodim.stages.evaluate import sizes
from autodim.stages.memory import available, estimate
from autodim.stages.prepare import check_parts, encode_with_progress, prepare_inputs, same_log
from autodim.stages.pretrain import build_log_network, log_course, log_rules, log_weighting
from autodim.stages.prune import check_feasible
from autodim.stages.quality import measured
from autodim.stages.run import Run
from autodim.stages.session import Session
from autodim.training.device import set_up, use_bf16
from autodim.training.step import Step

STEPS = 12  # timed steps; the first few warm up


def plan(config: Config) -> dict[str, Any]:
    """Check the config against the log and say what a search would cost.

    The log is encoded into a temporary folder (the one part of the work that cannot be guessed: the number of ids
    decides every size), unless the run has done so already with the same settings; a few training steps are timed.

    Raises:
        DataError, ConfigError, BudgetError: what the search itself would raise, before hours are spent.
    """
    run = Run(Path(config.run), config)
    device = set_up(config.device, config.threads)
    with tempfile.TemporaryDirectory(prefix="autodim-plan-") as name:
        began = time.monotonic()
        done = run.done("prepare")
        inputs = prepare_inputs(config.data)
        if done is not None and (done.inputs == inputs or same_log(run, inputs, Session(device))):
            log = EncodedLog.open(run.stage("prepare") / "log")
        else:
            folder = Path(name) / "log"
            with artifact.fresh_directory(folder) as temporary:
                encode_with_progress(config.data, temporary, Session(device))
            log = EncodedLog.open(folder)
        seconds = time.monotonic() - began
        check_parts(log)
        layout = uniform_layout(log.slots, log.tables, config.model.width)
        budget = check_feasible(config, log)
        train = log.part("train")
        rate = _rate(config, log, train, device)
        rows = {part: len(log.part(part)) for part in ("train", "valid", "test")}
        size = sizes(run, layout)
        network = build_log_network(config.model, layout, log, 0)
        dense = sum(p.numel() for p in network.model.parameters())
        again = rows_read(config.retrain, log)
        trained = rows_read(config.pretrain, log) + (0 if config.retrain.mode == "none" else again)
        by_retraining = config.prune.budget.by_quality and measured(config) == "retrained"
        trained += 6 * again if by_retraining else 0
        return {
            "run": config.run,
            "device": str(device),
            "rows": rows,
            "slots": len(log.slots),
            "ids": layout.rows,
            "embedding_params": size["params"],
            "dense_params": dense,
            "bytes_with_optimizer_state": size["train_bytes"] + dense * 4 * 3,
            "memory": {**estimate(config, log, device).to_json(), "free": available(device)},
            "budget": {"unit": budget.unit, "amount": budget.amount},
            "quality": budget.asked if config.prune.budget.by_quality else None,
            "prepare_seconds": round(seconds, 1),
            "samples_per_second": round(rate),
            "seconds_at_most": round(seconds + trained / rate * 1.1 + 5),
        }


def rows_read(config: TrainConfig, log: EncodedLog) -> int:
    """Rows that a training reads at most: those of all its epochs (of each window; of all the logs' turns)."""
    course = log_course(config, log, 0)
    return config.epochs * len(log.part("train")) if course is None else course.total * config.batch


def _rate(config: Config, log: EncodedLog, train: Columns, device: torch.device) -> float:
    layout = uniform_layout(log.slots, log.tables, config.model.width)
    network = build_log_network(config.model, layout, log, 0).to(device)
    bf16 = use_bf16(config.pretrain.bf16, device)
    rules = log_rules(network, config.pretrain, log)
    weighting = log_weighting(network, config.pretrain, log)
    step = Step(
        network,
        rules.optimizers,
        weighting,
        rules.perturbation,
        rules.clippers,
        missing=True,
        bf16=bf16,
        tasks=log.tasks,
    )
    size = min(config.pretrain.batch, len(train))
    began = 0.0
    for number in range(STEPS):
        if number == STEPS // 3:
            began = time.monotonic()
        start = (number * size) % max(len(train) - size + 1, 1)
        loss = step(train.batch(slice(start, start + size), device), number)
    float(loss.sum())  # waits for the device
    return size * (STEPS - STEPS // 3) / max(time.monotonic() - began, 1e-9)


def plan_lines(found: dict[str, Any]) -> list[str]:
    """The plan for people."""
    rows = found["rows"]
    budget = found["budget"]
    minutes = found["seconds_at_most"] / 60
    return [
        f"run folder         {found['run']}   (device {found['device']})",
        f"rows               train {rows['train']:,}, valid {rows['valid']:,}, test {rows['test']:,}",
        f"slots, ids         {found['slots']}, {found['ids']:,}",
        f"embedding params   {found['embedding_params']:,} at the uniform width; dense {found['dense_params']:,}",
        f"memory             {found['bytes_with_optimizer_state'] / 2**20:,.1f} MiB with optimizer state; at the "
        f"peak about {found['memory']['total'] / 2**20:,.1f} MiB",
        f"budget             {budget['amount']:,} {budget['unit']}"
        + (f" at most: the fewest with {found['quality']}" if found["quality"] else ""),
        f"time               at most {minutes:,.1f} min ({found['samples_per_second']:,} samples/s measured; early "
        "stopping usually ends sooner)",
    ]
