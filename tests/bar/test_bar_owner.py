"""One owner per run: of eight starts at once one wins, the others say who holds the folder; a kill leaves no lock."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import copy_of_finished, walk

from autodim.errors import RunError
from autodim.lock import Lock

STARTS = 8
CODE = """
import pathlib, sys
from autodim.errors import RunError
from autodim.lock import Lock
print("ready", flush=True)
sys.stdin.readline()
try:
    lock = Lock(pathlib.Path(sys.argv[1]))
except RunError as error:
    print(f"refused {error}", flush=True)
else:
    print("held", flush=True)
sys.stdin.readline()
"""


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CODE, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_eight_starts_at_once_have_one_winner_and_a_kill_leaves_no_lock(tmp_path):
    processes = [start(tmp_path / "run") for _ in range(STARTS)]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        said = [process.stdout.readline() for process in processes]
        winners = [p for p, line in zip(processes, said, strict=True) if line == "held\n"]
        assert len(winners) == 1
        for line in said:
            if line == "held\n":
                continue
            # who holds it; or, in the moment before the winner has written its name, that somebody does
            assert re.search(rf"in use by (process {winners[0].pid} on |another process)", line), line
            assert "run=PATH" in line
        with pytest.raises(RunError, match=f"process {winners[0].pid} "):
            Lock(tmp_path / "run")
        winners[0].kill()
        winners[0].wait()
        Lock(tmp_path / "run").release()
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()


def test_a_search_in_a_held_folder_is_refused_and_changes_nothing(tmp_path):
    run = copy_of_finished(tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.name != "lock"}
    with Lock(run), pytest.raises(RunError, match=f"process {os.getpid()} "):
        walk(run)
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.name != "lock"} == before
    walk(run)


def test_an_error_lets_go_of_the_folder(tmp_path):
    with pytest.raises(KeyError), Lock(tmp_path):
        raise KeyError
    with Lock(tmp_path):
        pass
