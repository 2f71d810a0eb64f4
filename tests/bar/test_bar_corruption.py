"""Corruption is found: mutated run folders are named by `autodim verify`, or nothing that counts has changed."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from conftest import outcome
from tiny_runs import copy_of_finished, finished, small_config, walk

from autodim import artifact
from autodim.errors import AutodimError, RunError
from autodim.stages.export import read_allocation
from autodim.stages.predict import predict
from autodim.stages.search import search
from autodim.stages.verify import damages
from autodim.training.checkpoints import Checkpoints
from autodim.training.progress import Progress

KINDS = ("flip", "truncate", "zeros", "tail", "swap", "noise")


def mutate(data: bytes, kind: str, draw: random.Random) -> bytes:
    """One damage as disks, networks and power cuts make it."""
    at = draw.randrange(len(data))
    length = min(draw.choice((1, 16, 512)), len(data) - at)
    if kind == "flip":
        return data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :]
    if kind == "truncate":
        return data[:at]
    if kind == "zeros":
        return data[:at] + bytes(length) + data[at + length :]
    if kind == "tail":
        return data[:at] + bytes(len(data) - at)
    if kind == "swap":
        other = draw.randrange(len(data))
        changed = bytearray(data)
        changed[at], changed[other] = data[other], data[at]
        return bytes(changed)
    return data[:at] + draw.randbytes(length) + data[at + length :]


def files_of(run: Path) -> list[Path]:
    """Every file but the lock, which is empty."""
    return sorted(p for p in run.rglob("*") if p.is_file() and p.stat().st_size)


def loads(run: Path, rows: Path) -> str:
    """What a user gets from a run: its widths and its scores of new rows; or the error's name."""
    try:
        scores = predict(run, rows, torch.device("cpu"))
        return read_allocation(run).to_yaml() + scores.to_csv()
    except AutodimError as error:
        assert str(run) in str(error), error
        return type(error).__name__


def mutations(folder: Path, count: int, seed: int) -> Counter[str]:
    """Mutate one file at a time over all files in turn; every change must be found by `verify`, and what loads
    without an error must be what loads from the whole run."""
    run = copy_of_finished(folder / "run")
    rows = folder / "rows.csv"
    rows.write_text("user,item,place,tags,age\nu1,i1,p1,t1|t2,30\nu2,i3,p0,,41\n")
    good, draw, told = loads(run, rows), random.Random(seed), Counter[str]()
    paths = files_of(run)
    for k in range(count):
        path, kind = paths[k % len(paths)], KINDS[(k // len(paths)) % len(KINDS)]
        before = path.read_bytes()
        after = mutate(before, kind, draw)
        if after == before:
            told["no change"] += 1
            continue
        path.write_bytes(after)
        try:
            bad = damages(run)[1]
        except AutodimError as error:
            bad = [str(error)]
        assert bad, f"{path}: {kind} was not found"
        assert all(str(run) in line for line in bad)
        found = loads(run, rows)
        assert found in (good, "RunError", "ConfigError"), (path, kind, found[:300])
        told["found by verify"] += 1
        told["loads as before" if found == good else "refused when loaded"] += 1
        path.write_bytes(before)
    assert damages(run)[1] == []
    return told


def test_a_finished_run_is_as_written():
    assert damages(finished())[1] == []


def test_mutated_files_are_found_and_never_silently_used(tmp_path):
    told = mutations(tmp_path, 120, seed=0)
    assert told["found by verify"] > 90


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_thousand_mutations(tmp_path):
    told = mutations(tmp_path, 2000, seed=1)
    print(dict(told))
    assert told["found by verify"] > 900


def test_a_missing_file_is_named(tmp_path):
    run = copy_of_finished(tmp_path / "run")
    views = {"lock", artifact.MANIFEST, "done.json", "started.json"}  # a lock is nothing; the others tell of files
    for path in files_of(run):
        if path.name in views:
            continue
        aside = tmp_path / "aside"
        os.rename(path, aside)
        assert any(str(path) in line for line in damages(run)[1]), path
        os.rename(aside, path)


@pytest.mark.parametrize("name", ["pretrain/history.json", "data/log/train/ids.bin", "retrain/widths.yaml"])
def test_a_damaged_stage_is_made_again_and_kept_aside(tmp_path, name):
    run = copy_of_finished(tmp_path / "run")
    whole = outcome(run)
    content = bytearray((run / name).read_bytes())
    content[len(content) // 2] ^= 4
    (run / name).write_bytes(content)
    said: list[str] = []

    class Told(Progress):
        def line(self, text: str) -> None:
            said.append(text)

    search(small_config(run), Told("quiet"))
    assert outcome(run) == whole
    assert any(name in line and "made again" in line for line in said)
    assert (run / "previous").is_dir()
    assert damages(run)[1] == [line for line in damages(run)[1] if "previous" in line]


@pytest.mark.parametrize("damage", ["flip", "truncate", "tail"])
def test_a_damaged_checkpoint_falls_back_and_the_run_ends_the_same(tmp_path, monkeypatch, damage):
    """Stop after the second save of the pretraining, damage the newest checkpoint, go on."""
    saves = []
    save = Checkpoints.save

    def stop(self, step, tensors, state):
        save(self, step, tensors, state)
        saves.append(self.folder / f"step-{step:012d}")
        if len(saves) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        walk(tmp_path / "run")
    monkeypatch.undo()
    path = saves[-1] / "state.safetensors"
    path.write_bytes(mutate(path.read_bytes(), damage, random.Random(3)))
    assert not artifact.is_valid(saves[-1])
    assert artifact.is_valid(saves[0])
    walk(tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(finished())


def test_names_in_a_manifest_do_not_leave_its_folder(tmp_path):
    (tmp_path / "secret").write_text("x")
    folder = tmp_path / "sealed"
    folder.mkdir()
    for name in ("../secret", str(tmp_path / "secret"), "a/../../secret", "", "a\0b"):
        entry = {"bytes": 1, "sha256": artifact.sha256(tmp_path / "secret")}
        (folder / artifact.MANIFEST).write_text(json.dumps({"format": 1, "files": {name: entry}}))
        with pytest.raises(RunError, match="damaged"):
            artifact.verify(folder)


def test_a_record_that_lost_its_sum_is_not_taken_for_an_old_one(tmp_path):
    run = copy_of_finished(tmp_path / "run")
    path = run / "prune" / "done.json"
    path.write_text(path.read_text().replace('"sum"', '"sun"'))
    with pytest.raises(RunError, match="damaged"):
        walk(run)
    shutil.rmtree(run / "prune")  # what the message says
    walk(run)
    assert outcome(run) == outcome(finished())
