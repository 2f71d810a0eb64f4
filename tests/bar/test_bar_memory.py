"""Memory is estimated before training, close to the measured peak; what cannot fit is refused with the numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_runs import finished, small_config, walk

from autodim.errors import TrainingError
from autodim.stages import memory, search
from autodim.stages.prepare import open_log
from autodim.stages.run import Run

CPU = torch.device("cpu")
linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are measured on Linux")

# model, width, ids a slot, slots, batch, rule
QUICK = [("fm", 16, 20_000, 20, 1024, "adagrad")]
SHAPES = [
    ("deepfm", 16, 20_000, 20, 1024, "adagrad"),
    ("deepfm", 16, 20_000, 20, 1024, "sgd"),
    ("deepfm", 16, 20_000, 20, 1024, "lazy_adam"),
    ("deepfm", 32, 20_000, 20, 1024, "rowwise_adagrad"),
    ("deepfm", 16, 100, 20, 8192, "adagrad"),
    ("dcnv2", 16, 100, 20, 8192, "adagrad"),
    ("pnn", 16, 10_000, 20, 4096, "adagrad"),
    ("fm", 64, 20_000, 10, 8192, "lazy_adam"),
]


def peak(shape: tuple[str | int, ...]) -> tuple[int, int]:
    command = [sys.executable, str(Path(__file__).with_name("memory_worker.py")), *map(str, shape)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return found["estimated"], found["measured"]


@linux
@pytest.mark.parametrize("shape", QUICK, ids=str)
def test_the_estimate_is_within_30_percent_of_the_peak(shape):
    estimated, measured = peak(shape)
    assert 0.7 * measured <= estimated <= 1.3 * measured


@linux
@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_other_shapes(shape):
    estimated, measured = peak(shape)
    print(
        f"{shape}: estimated {estimated / 2**20:.0f} MiB, measured {measured / 2**20:.0f}: {estimated / measured:.2f}"
    )
    assert 0.7 * measured <= estimated <= 1.3 * measured


def test_parts_add_up_and_are_exact_where_they_can_be():
    run = Run(finished(), small_config(finished(), "pretrain.optimizer.tables.name=adagrad"))
    log = open_log(run)
    need = memory.estimate(run.config, log, CPU)
    ids = sum(t.rows for t in log.tables)
    assert need.tables == 4 * ids * (4 + 1)  # width 4, and first-order weights
    assert need.state - 2 * need.dense == need.tables
    assert need.best == need.tables + need.dense
    assert need.total == sum(v for k, v in need.to_json().items() if k != "total")


def test_what_cannot_fit_is_refused_with_the_numbers_and_a_way_out():
    run = Run(finished(), small_config(finished()))
    log = open_log(run)
    need = memory.estimate(run.config, log, CPU)
    assert memory.check_memory(run.config, log, CPU, need.total) is None
    warning = memory.check_memory(run.config, log, CPU, need.certain)
    assert warning is not None
    assert "pretrain.batch" in warning
    largest = max(log.tables, key=lambda t: t.rows)
    with pytest.raises(TrainingError) as error:
        memory.check_memory(run.config, log, CPU, need.certain - 1)
    for words in (f"{need.total:,}", f"{need.certain - 1:,}", repr(largest.name), "model.width="):
        assert words in str(error.value)


def test_a_search_asks_before_it_trains(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 1000)
    monkeypatch.setattr(search, "pretrain", lambda *_: pytest.fail("it trained"))
    with pytest.raises(TrainingError, match="1,000 are free"):
        walk(tmp_path / "run")


def test_what_is_free_is_told():
    free = memory.available(CPU)
    assert free is None or 2**20 < free < 2**50
