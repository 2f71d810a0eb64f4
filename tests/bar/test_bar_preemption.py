"""Pre-emption: a signal at any step saves at that step, and the run goes on elsewhere to the same end.

The signal is a real one, sent to this process between two steps; that other processes end with 130 and 143 is in
`tests/stages/test_kill.py`, with kill -9.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from pathlib import Path

import pytest
from conftest import outcome
from tiny_runs import finished, walk

from autodim.training.interrupt import Interrupted
from autodim.training.step import Step

MORE = ("model.dropout=0.3",)  # a resume that forgets the place in the random numbers would show


def steps_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Steps of a whole road, pretraining and retraining together."""
    return signalled(folder, monkeypatch, None)[0]


def signalled(
    folder: Path, monkeypatch: pytest.MonkeyPatch, at: int | None, number: signal.Signals = signal.SIGTERM
) -> tuple[int, bool]:
    """Walk, and send a signal after the step of that number; how many steps were made, and whether it was stopped."""
    real, done = Step.__call__, 0

    def step(self, batch, seed):
        nonlocal done
        losses = real(self, batch, seed)
        done += 1
        if done - 1 == at:
            os.kill(os.getpid(), number)
        return losses

    with monkeypatch.context() as patch:
        patch.setattr(Step, "__call__", step)
        try:
            walk(folder, *MORE)
        except Interrupted as stop:
            assert stop.exit_code == 128 + number
            return done, True
    return done, False


def moved(folder: Path, to: Path) -> Path:
    """The folder as another machine gets it: copied, the old one gone."""
    shutil.copytree(folder, to)
    shutil.rmtree(folder)
    return to


def preempt(folder: Path, monkeypatch: pytest.MonkeyPatch, at: int, number: signal.Signals, whole: dict[str, str]):
    made, stopped = signalled(folder / "here", monkeypatch, at, number)
    assert stopped
    assert made == at + 1  # within one step
    rest, stopped = signalled(moved(folder / "here", folder / "there"), monkeypatch, None)
    assert not stopped
    assert outcome(folder / "there") == whole
    return made + rest


def test_a_signal_at_random_steps_and_a_resume_elsewhere(tmp_path, monkeypatch):
    whole = walk(tmp_path / "whole", *MORE)
    total = steps_of(tmp_path / "count", monkeypatch)
    assert outcome(whole) != outcome(finished())  # the dropout matters
    draw = random.Random(0)
    for k in range(4):
        number = (signal.SIGTERM, signal.SIGINT)[k % 2]
        folder = tmp_path / f"try-{k}"
        folder.mkdir()
        assert preempt(folder, monkeypatch, draw.randrange(total), number, outcome(whole)) == total  # no step twice


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_after_every_step(tmp_path, monkeypatch, number):
    whole = walk(tmp_path / "whole", *MORE)
    total = steps_of(tmp_path / "count", monkeypatch)
    for at in range(total):
        folder = tmp_path / f"try-{at}"
        folder.mkdir()
        assert preempt(folder, monkeypatch, at, number, outcome(whole)) == total
    print(f"{number.name}: {total} steps, each interrupted once, every outcome identical")
