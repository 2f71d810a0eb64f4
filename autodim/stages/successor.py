"""A new continuation beside an earlier one, which stays in service until the new one is complete.

OUT/next/             the continuation that is being made
OUT/next/goal.json    what it is made from
OUT/next/ready.json   it is complete, and its parts are on their way to OUT
OUT/previous/         the earlier one, once the new one has taken its place
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from autodim import artifact
from autodim.stages.run import FOLDERS, PREVIOUS, Run

NEXT, GOAL, READY = "next", "goal.json", "ready.json"


def place(run: Run, stage: str, data: str, inputs: str) -> Run:
    """Where to make a continuation: the run itself, where that hides nothing, else the one that will take its place.

    Args:
        run: of the folder OUT, which is locked. stage: that holds the model.
        data: hash of what its log is made from. inputs: hash of what the stage is made from.
    """
    finish(run)
    models = [name for name in FOLDERS if name != "prepare" and run.done(name) is not None]
    log, there = run.done("prepare"), run.done(stage)
    same_log = log is not None and log.inputs == data
    if not models or (same_log and (there is None or there.inputs == inputs)):
        return run
    goal = {"stage": stage, "data": data, "inputs": inputs, "own_log": not same_log}
    folder = run.folder / NEXT
    path = folder / GOAL
    if folder.is_dir() and (not path.is_file() or artifact.read_json(path) != goal):
        artifact.set_aside(folder, run.folder / PREVIOUS)
    artifact.make_directory(folder)
    artifact.write_json(path, goal)
    run.say(f"{run.folder}: the earlier continuation stays in service until this one is complete")
    return Run(folder, run.config, {"prepare": run.stage("prepare")} if same_log else {}, run.say)


def take_over(run: Run, made: Run) -> None:
    """Put a complete continuation in the earlier one's place; a no-op where it was made there."""
    if made.folder != run.folder:
        artifact.write_json(made.folder / READY, {"complete": True})
        finish(run)


def finish(run: Run) -> None:
    """Move a complete continuation to its place: the earlier parts away first and the model in last, so that whatever
    interrupts it, no model ever stands beside another one's log. It may be called again until it is done."""
    folder = run.folder / NEXT
    if not (folder / READY).is_file():
        return
    for path in _replaced(run.folder, folder):
        artifact.set_aside(path, run.folder / PREVIOUS)
    parts = sorted(folder.iterdir(), key=lambda path: (path.is_dir() and path.name != FOLDERS["prepare"], path.name))
    for path in parts:
        if path.name in (PREVIOUS, READY, GOAL):
            continue
        os.replace(path, run.folder / path.name)
    artifact.sync_directory(run.folder)
    if (folder / PREVIOUS).is_dir():
        for path in sorted((folder / PREVIOUS).iterdir()):
            artifact.set_aside(path, run.folder / PREVIOUS)
    (folder / READY).unlink()
    artifact.remove(folder)
    run.say(f"{run.folder}: the new continuation is in service; the earlier one is kept in {run.folder / PREVIOUS}")


def _replaced(out: Path, folder: Path) -> Iterator[Path]:
    """Folders in the way; a new log makes all models of the old one unfit. The log comes last. What stands there with
    no counterpart in `folder` any more is the new one's own part, which moved before an interruption."""
    parts = {path.name for path in folder.iterdir()}
    own_log = bool(artifact.read_json(folder / GOAL)["own_log"])
    moved = own_log and FOLDERS["prepare"] not in parts
    for name in reversed(FOLDERS.values()):
        if (out / name).is_dir() and (name in parts or (own_log and not moved)):
            yield out / name
