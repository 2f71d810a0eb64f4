"""Killed at any moment and run again, a search ends with the same weights, widths and metrics."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import outcome, tiny_config

from autodim.config.writer import to_yaml


def start(config: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "autodim", "search", str(config), "--quiet"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def reference(log: Path, folder: Path) -> tuple[Path, dict[str, str], float]:
    config = folder / "config.yaml"
    seconds = []
    for name in ("whole", "twice"):  # the shorter of two: delays must end before the work does
        config.write_text(to_yaml(tiny_config(log, folder / name)))
        began = time.monotonic()
        process = start(config)
        assert process.wait() == 0, process.stderr.read()
        seconds.append(time.monotonic() - began)
    assert outcome(folder / "whole") == outcome(folder / "twice")
    return config, outcome(folder / "whole"), min(seconds)


def interrupted(log: Path, folder: Path, number: signal.Signals, delays: list[float]) -> tuple[Path, list[int]]:
    """Start, signal after each delay, start again; the last one runs to the end."""
    config = folder / "config.yaml"
    config.write_text(to_yaml(tiny_config(log, folder / "run")))
    codes = []
    for delay in delays:
        process = start(config)
        try:
            codes.append(process.wait(timeout=delay))
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            codes.append(process.wait())
        process.stderr.close()
    process = start(config)
    assert process.wait() == 0, process.stderr.read()
    return folder / "run", codes


def run_many(log: Path, folder: Path, number: signal.Signals, moments: int, seed: int) -> int:
    """Signals spread over the whole road, one or two per run; returns how many hit a living process."""
    _, expected, seconds = reference(log, folder)
    draw = random.Random(seed)
    hits = 0
    for k in range(moments):
        place = folder / f"try-{k}"
        place.mkdir()
        delays = [draw.uniform(0.3, 0.95) * seconds]
        if k % 3 == 0:
            delays.append(draw.uniform(0.3, 0.6) * seconds)  # killed again on the way back
        run, codes = interrupted(log, place, number, delays)
        assert outcome(run) == expected, (k, delays, codes)
        assert set(codes) <= ({-9, 0} if number == signal.SIGKILL else {0, 128 + number, -number}), codes
        hits += sum(code != 0 for code in codes)
    return hits


def test_a_killed_search_ends_as_if_it_had_not_been(tiny_log, tmp_path):
    assert run_many(tiny_log, tmp_path, signal.SIGKILL, 2, seed=1) > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_thirty_moments_over_the_whole_road(tiny_log, tmp_path, number):
    hits = run_many(tiny_log, tmp_path, number, 30, seed=int(number))
    print(f"{number.name}: {hits} hits in 30 moments, every outcome identical")
    assert hits >= 15


def test_a_signal_saves_at_the_next_step_and_says_how_to_go_on(tiny_log, tmp_path):
    config = tmp_path / "config.yaml"
    endless = tiny_config(tiny_log, tmp_path / "run", "pretrain.epochs=400", "pretrain.patience=10000")
    config.write_text(to_yaml(endless))
    process = start(config)
    # a checkpoint tells that training has begun
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("run/pretrain/checkpoints/step-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    text = process.stderr.read().decode()
    assert "everything is saved" in text and "autodim search" in text
