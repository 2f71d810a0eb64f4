"""Small records of a run's folder that notice their own damage, and the files that a stage leaves beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autodim import artifact
from autodim.errors import RunError

RECORDS = ("started.json", "done.json")


@dataclass(frozen=True)
class Done:
    """The record of a finished stage: the hash of its inputs, the seconds that it took over all its sessions, the hash
    of what it left, the sealed folders that must be there, the sums of the files beside them, and the hash of the
    encoded log that it is of (None: unknown)."""

    inputs: str
    seconds: float
    result: str
    sealed: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    log: str | None = None


def write_record(path: Path, record: dict[str, Any]) -> None:
    """A small JSON object with its own sum."""
    artifact.write_json(path, {**record, "sum": artifact.digest(record)})


def read_record(path: Path, kinds: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
    """What `write_record` wrote; records of the first version have no sum.

    Args:
        kinds: keys that must be there, and their types.

    Raises:
        RunError: damaged, with the path.
    """
    found = artifact.read_json(path)
    whole = isinstance(found, dict) and all(isinstance(found.get(key), kind) for key, kind in kinds.items())
    if whole and "sum" in found:
        whole = found.pop("sum") == artifact.digest(found)
    elif whole:
        whole = set(found) <= set(kinds) | {"sealed"}  # a sum that was there once may have lost its name
    if not whole:
        raise RunError(f"{path}: damaged; delete {path.parent} and run again")
    return found


def loose_files(folder: Path) -> dict[str, str]:
    """The sums of the files directly in a stage's folder, its own records left out."""
    return {path.name: artifact.sha256(path) for path in sorted(folder.iterdir()) if is_loose(path)}


def is_loose(path: Path) -> bool:
    """A file of a stage that lies in no sealed folder and is no record or unfinished write."""
    return path.is_file() and path.name not in RECORDS and not path.name.startswith(".tmp-")


def check_files(folder: Path, sums: Mapping[str, str]) -> None:
    """Compare the files directly in a stage's folder with their sums.

    Raises:
        RunError: names the file that is missing or changed.
    """
    for name, total in sums.items():
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise RunError(f"{path}: missing; delete {folder} and run again")
        if artifact.sha256(path) != total:
            raise RunError(
                f"{path}: its content is not what was written (sha256 differs); delete {folder} and run again"
            )


def whole(folder: Path, name: str) -> Iterator[Path]:
    """Files of a name (or a pattern) below a folder, in order, those of unfinished writes and removals left out."""
    for path in sorted(folder.rglob(name)):
        if not any(part.startswith(".tmp-") for part in path.relative_to(folder).parts):
            yield path


def read_done(folder: Path) -> Done | None:
    """The record of a stage's folder, if the stage was finished."""
    path = folder / "done.json"
    if not path.is_file():
        return None
    found = read_record(path, {"inputs": str, "seconds": (int, float), "result": str})
    return Done(
        found["inputs"],
        found["seconds"],
        found["result"],
        tuple(found.get("sealed", ())),
        found.get("files", {}),
        found.get("log"),
    )


def damage_of(folder: Path, done: Done) -> str | None:
    """What is wrong with a finished stage's folder; None where all is as written."""
    try:
        for sealed in done.sealed:
            artifact.verify(folder / sealed)
        check_files(folder, done.files)
    except RunError as error:
        return str(error).split(";", maxsplit=1)[0]
    return None
