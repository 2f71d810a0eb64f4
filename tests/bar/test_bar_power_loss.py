"""Power loss: what a file system may leave after each operation of a road either loads or is made again, never
silently wrong.

Recorded is a whole road: before every fsync, rename, mkdir, removal and opening the tree is read, so that the state
between any two operations is known, with what was flushed by then. From that, states are built as disks leave them:

    all     everything arrived (kill -9)
    empty   names arrived, content that was not flushed is empty (renamed without data)
    zeros   names arrived, content that was not flushed has its size but no data
    half    names arrived, content that was not flushed lost its second half
    strict  only what was flushed arrived: contents by fsync of the file, names by fsync of their directory
    mixed   each directory is as it was at some moment since it was last flushed, contents as in `zeros` or `all`
"""

from __future__ import annotations

import hashlib
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import outcome
from faults import Disk, watched
from tiny_runs import finished, small_config, walk

from autodim.errors import RunError
from autodim.stages.run import FOLDERS, Run
from autodim.stages.verify import damages
from autodim.training.checkpoints import Checkpoints

MODELS = ("all", "empty", "zeros", "half", "strict", "mixed")
Names = dict[str, int]  # of one directory: name -> inode
State = dict[str, bytes | None]  # path -> content, None for a directory


class Recorder:
    """The tree before every operation: directories by inode, contents by inode, and what of both was flushed.

    Inodes are kept apart from reused numbers by the time of their birth as this class sees it.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.disk = Disk(folder)
        self.disk.before = self.note
        self.moments: list[tuple[dict[int, Names], dict[int, bytes], dict[int, bytes], dict[int, int]]] = []
        self.flushed_data: dict[int, bytes] = {}
        self.flushed_names: dict[int, int] = {}  # directory -> number of the moment at which it was flushed
        self.ids: dict[int, int] = {}
        self.alive: set[int] = set()
        self.root = 0

    def number(self, inode: int, seen: set[int]) -> int:
        if inode not in self.alive:
            self.ids[inode] = len(self.ids) + 1000 * len(self.moments)
            self.alive.add(inode)
        seen.add(inode)
        return self.ids[inode]

    def note(self, kind: str, path: str) -> None:
        names: dict[int, Names] = {}
        contents: dict[int, bytes] = {}
        seen: set[int] = set()

        def look(place: str) -> int:
            number = self.number(os.stat(place).st_ino, seen)
            names[number] = {}
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.is_dir():
                        names[number][entry.name] = look(entry.path)
                    else:
                        child = self.number(entry.inode(), seen)
                        names[number][entry.name] = child
                        with open(entry.path, "rb") as file:
                            contents[child] = file.read()
            return number

        if not self.folder.is_dir():
            return
        self.root = look(str(self.folder))
        self.alive &= seen
        self.moments.append((names, contents, dict(self.flushed_data), dict(self.flushed_names)))
        if kind == "fsync" and os.path.exists(path):
            number = self.ids[os.stat(path).st_ino]
            if number in names:
                self.flushed_names[number] = len(self.moments) - 1
            else:
                self.flushed_data[number] = contents[number]

    def state(self, moment: int, model: str, draw: random.Random) -> State:
        """The tree that a power cut leaves at a moment."""
        _, contents, data, flushed = self.moments[moment]
        when = {}
        damage = draw.choice(("all", "zeros")) if model == "mixed" else model

        def names_of(directory: int) -> Names:
            if model not in ("strict", "mixed"):
                return self.moments[moment][0].get(directory, {})
            first = flushed.get(directory)
            if model == "strict":
                return {} if first is None else self.moments[first][0][directory]
            if directory not in when:
                when[directory] = draw.randint(first or 0, moment)
            return self.moments[when[directory]][0].get(directory, {})

        def content(inode: int) -> bytes:
            if damage == "all":
                return contents.get(inode, data.get(inode, b""))
            if inode in data:
                return data[inode]
            size = len(contents.get(inode, b""))
            return {"zeros": bytes(size), "half": contents.get(inode, b"")[: size // 2]}.get(damage, b"")

        state: State = {}

        def build(directory: int, path: str, depth: int = 0) -> None:
            for name, child in names_of(directory).items():
                below = f"{path}/{name}" if path else name
                if any(child in names for names, *_ in self.moments):
                    state[below] = None
                    if depth < 8:
                        build(child, below, depth + 1)
                else:
                    state[below] = content(child)

        build(self.root, "")
        return state


def materialise(state: State, folder: Path) -> None:
    folder.mkdir()
    for path, content in sorted(state.items()):
        target = folder / path
        if content is None:
            target.mkdir(exist_ok=True)
        else:
            target.write_bytes(content)


def recorded(folder: Path) -> Recorder:
    recorder = Recorder(folder)
    folder.mkdir()
    with watched(recorder.disk):
        walk(folder)
    recorder.note("end", "")
    return recorder


def states(recorder: Recorder, mixed: int, seed: int) -> Iterator[tuple[int, str, State]]:
    """Every different state, once."""
    draw, seen = random.Random(seed), set()
    for moment in range(len(recorder.moments)):
        for model in MODELS:
            for _ in range(mixed if model == "mixed" else 1):
                state = recorder.state(moment, model, draw)
                key = hashlib.sha256(repr(sorted(state.items())).encode()).hexdigest()
                if key not in seen:
                    seen.add(key)
                    yield moment, model, state


def judge(folder: Path) -> None:
    """Nothing that looks finished may be damaged, and no folder may hold a checkpoint that only looks whole."""
    run = Run(folder, small_config(folder))
    for stage in FOLDERS:
        assert run.damage(stage) is None, stage
    for path in folder.glob("*/checkpoints"):
        found = Checkpoints(path).latest()
        assert found is None or found[1]["position"] > 0
    bad = damages(folder)[1]
    assert not bad, bad


def go_on(folder: Path) -> str:
    """Run the same command again: it ends as if nothing had happened, or names what is damaged."""
    try:
        walk(folder)
    except RunError as error:
        assert str(folder) in str(error)
        return "named"
    assert outcome(folder) == outcome(finished())
    return "ended the same"


def test_every_state_is_whole_where_it_looks_finished(tmp_path):
    recorder = recorded(tmp_path / "run")
    assert len(recorder.moments) > 250
    told = Counter[str]()
    draw = random.Random(0)
    for k, (_, model, state) in enumerate(states(recorder, mixed=1, seed=0)):
        told[model] += 1
        if k % 20:
            continue
        folder = tmp_path / f"state-{k}"
        materialise(state, folder)
        judge(folder)
        if draw.random() < 0.03:
            told[go_on(folder)] += 1
    assert set(MODELS[:3]) < set(told)
    assert told["ended the same"] >= 2
    assert told["named"] == 0


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_every_state_goes_on_to_the_same_end(tmp_path):
    recorder = recorded(tmp_path / "run")
    told = Counter[str]()
    for k, (_, model, state) in enumerate(states(recorder, mixed=2, seed=1)):
        folder = tmp_path / f"state-{k}"
        materialise(state, folder)
        judge(folder)
        told[model] += 1
        told[go_on(folder)] += 1
    print(f"{len(recorder.moments)} operations, {sum(told[m] for m in MODELS)} states: {dict(told)}")
    assert told["named"] == 0


def test_a_writer_that_does_not_flush_is_caught_by_this_simulation(tmp_path, monkeypatch):
    """The check checks: without fsync, renamed folders arrive without their data."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    recorder = Recorder(tmp_path / "run")
    (tmp_path / "run").mkdir()
    with watched(recorder.disk):
        recorder_fsync, os.fsync = os.fsync, lambda handle: None  # nor does the recorder see one
        try:
            walk(tmp_path / "run")
        finally:
            os.fsync = recorder_fsync
    recorder.note("end", "")
    materialise(recorder.state(len(recorder.moments) - 1, "zeros", random.Random(0)), tmp_path / "state")
    with pytest.raises((AssertionError, RunError)):
        judge(tmp_path / "state")
