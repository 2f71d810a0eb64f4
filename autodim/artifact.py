"""Files that survive a crash: written beside their place, flushed, renamed, and checked when read.

No common format notices a flipped bit or a lost tail by itself, so every directory written here carries a manifest
of sha256 sums. A directory is either complete under its own name or absent; a kill leaves at most a `.tmp-` folder,
which the next writer removes.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from autodim.errors import RunError
from autodim.files import (
    digest,
    disk_error,
    disk_errors,
    make_directory,
    read_json,
    refuse_special,
    sha256,
    sync_directory,
    write_bytes,
    write_json,
    write_text,
)
from autodim.lock import Lock

__all__ = [
    "MANIFEST",
    "Lock",
    "digest",
    "disk_error",
    "disk_errors",
    "fingerprint",
    "fresh_directory",
    "is_valid",
    "make_directory",
    "read_json",
    "refuse_special",
    "remove",
    "seal_files",
    "set_aside",
    "sha256",
    "sync_directory",
    "verify",
    "write_bytes",
    "write_json",
    "write_text",
]

MANIFEST = "manifest.sha256.json"
FORMAT = 1


@contextlib.contextmanager
def fresh_directory(target: Path) -> Iterator[Path]:
    """Write a directory that appears under its name only when complete.

    Yields a temporary folder; at the end every file is flushed, a manifest of sha256 sums is written, and the folder
    is renamed to `target`. An earlier `target` is replaced only then.

    Raises:
        RunError: the disk refused a write; `target` is as it was before.
    """
    refuse_special(target)
    temporary = target.with_name(f".tmp-{os.getpid()}-{target.name}")
    try:
        make_directory(target.parent)
        _remove_leftovers(target)
        temporary.mkdir()
    except OSError as error:
        raise disk_error(target, 0, error) from error
    try:
        yield temporary
        _seal(temporary)
        if target.exists():
            old = target.with_name(f".tmp-old-{os.getpid()}-{target.name}")
            os.rename(target, old)
            os.rename(temporary, target)
            remove(old)
        else:
            os.rename(temporary, target)
        sync_directory(target.parent)
    except OSError as error:
        size = sum(f.stat().st_size for f in temporary.rglob("*") if f.is_file()) if temporary.exists() else 0
        shutil.rmtree(temporary, ignore_errors=True)
        raise disk_error(target, size, error) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def remove(path: Path) -> None:
    """Remove a file or a directory that nobody needs any more: gone from its name at once, or not touched.

    What cannot be removed stays as a `.tmp-` folder, which is no error.
    """
    temporary = path
    if not path.name.startswith(".tmp-"):
        temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
        with contextlib.suppress(OSError):
            os.rename(path, temporary)
    if temporary.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def set_aside(path: Path, folder: Path) -> Path:
    """Move a file or directory into a folder of earlier ones, durably, as NAME-1, NAME-2, ...; nothing is replaced.

    Returns:
        Where it is now.

    Raises:
        RunError: the disk refused.
    """
    number = 1
    while (folder / f"{path.name}-{number}").exists():
        number += 1
    target = folder / f"{path.name}-{number}"
    try:
        make_directory(folder)
        os.rename(path, target)
        sync_directory(folder)
        sync_directory(path.parent)
    except OSError as error:
        raise disk_error(folder, 0, error) from error
    return target


def verify(folder: Path, contents: bool = True, only: Callable[[str], bool] = lambda name: True) -> None:
    """Check a directory against its manifest.

    Args:
        contents: recompute the sums (about 1 GB/s); otherwise only names and sizes.
        only: the files to check, by name; default: all.

    Raises:
        RunError: names the file that is missing, has another size, or another content.
    """
    if not folder.is_dir():
        raise RunError(f"{folder}: not found; expected a folder that an earlier stage writes")
    for name, (size, total) in _listed(folder).items():
        path = folder / name
        if not only(name):
            continue
        if not path.is_file():
            raise RunError(f"{path}: missing; delete {folder} and run again")
        if path.stat().st_size != size:
            raise RunError(
                f"{path}: {path.stat().st_size} bytes, expected {size}: cut short or changed; "
                f"delete {folder} and run again"
            )
        if contents and sha256(path) != total:
            raise RunError(
                f"{path}: its content is not what was written (sha256 differs); delete {folder} and run again"
            )


def _listed(folder: Path) -> dict[str, tuple[int, str]]:
    """What a manifest lists: name -> (bytes, sha256). It is data like any other: a name may not leave the folder."""
    path = folder / MANIFEST
    found = read_json(path)
    if isinstance(found, dict) and isinstance(found.get("format"), int) and found["format"] > FORMAT:
        raise RunError(f"{path}: format {found['format']}, this version reads {FORMAT}; upgrade autodim")
    files = {}
    try:
        for name, expected in found["files"].items():
            if not name or Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
                raise ValueError(name)
            files[name] = int(expected["bytes"]), str(expected["sha256"])
        if found["format"] != FORMAT:
            raise ValueError("format")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path}: damaged ({error!r}); delete {folder} and run again") from error
    return files


def is_valid(folder: Path) -> bool:
    """Whether `verify` passes."""
    try:
        verify(folder)
    except RunError:
        return False
    return True


def fingerprint(folder: Path) -> str:
    """One hash for a sealed directory: that of its manifest."""
    return sha256(folder / MANIFEST)


def _seal(folder: Path) -> None:
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with open(path, "rb") as file:
            files[path.relative_to(folder).as_posix()] = {
                "bytes": path.stat().st_size,
                "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
            }
            os.fsync(file.fileno())
    with open(folder / MANIFEST, "w") as file:
        json.dump({"format": FORMAT, "files": files}, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    for path in [p for p in folder.rglob("*") if p.is_dir()] + [folder]:
        sync_directory(path)


def seal_files(folder: Path, names: Sequence[str]) -> None:
    """Keep the sums of some files that lie loosely in a folder, beside those that it has already.

    Cost: reads these files only.
    """
    files = _sums(folder)
    for name in names:
        if (folder / name).is_file():
            files[name] = {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)}
    write_json(folder / MANIFEST, {"format": FORMAT, "files": files})


def unseal_files(folder: Path, names: Sequence[str]) -> None:
    """Forget the sums of some of the files that `seal_files` keeps; nothing where there are none."""
    if (folder / MANIFEST).is_file():
        files = {name: sums for name, sums in _sums(folder).items() if name not in names}
        write_json(folder / MANIFEST, {"format": FORMAT, "files": files})


def _sums(folder: Path) -> dict[str, dict[str, int | str]]:
    known = _listed(folder) if (folder / MANIFEST).is_file() else {}
    return {name: {"bytes": size, "sha256": total} for name, (size, total) in known.items()}


def _remove_leftovers(target: Path) -> None:
    # A kill between the two renames of a replacement leaves the old content aside: put it back rather than lose it.
    for old in target.parent.glob(f".tmp-old-*-{glob.escape(target.name)}"):
        if target.exists():
            remove(old)
        else:
            os.rename(old, target)
    for leftover in target.parent.glob(f".tmp-[0-9]*-{glob.escape(target.name)}"):
        remove(leftover)
