"""Files that survive a crash: written beside their place, flushed, renamed, and checked when read.

No common format notices a flipped bit or a lost tail by itself, so every directory written here carries a manifest
of sha256 sums. A directory is either complete under its own name or absent; a kill leaves at most a `.tmp-` folder,
which the next writer removes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autodim.errors import RunError

MANIFEST = "manifest.sha256.json"


def write_bytes(path: Path, data: bytes) -> None:
    """Replace one file atomically and durably.

    Raises:
        RunError: the target is not a regular file, or the disk refuses; what was there before is kept.
    """
    refuse_special(path)
    if path.is_dir():
        raise RunError(f"{path}: is a folder; expected the name of a file to write")
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_directory(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise disk_error(path, len(data), error) from error


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """`write_bytes` of indented JSON with sorted keys; NaN is refused."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON that autodim wrote.

    Raises:
        RunError: missing or damaged, with the path.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise RunError(f"{path}: not found; expected a file that an earlier stage writes") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RunError(f"{path}: damaged ({error}); delete the folder of its stage and run again") from error


@contextlib.contextmanager
def fresh_directory(target: Path) -> Iterator[Path]:
    """Write a directory that appears under its name only when complete.

    Yields a temporary folder; at the end every file is flushed, a manifest of sha256 sums is written, and the folder
    is renamed to `target`. An earlier `target` is replaced only then.

    Raises:
        RunError: the disk refused a write; `target` is as it was before.
    """
    refuse_special(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    temporary = target.with_name(f".tmp-{os.getpid()}-{target.name}")
    temporary.mkdir()
    try:
        yield temporary
        _seal(temporary)
        if target.exists():
            old = target.with_name(f".tmp-old-{os.getpid()}-{target.name}")
            os.rename(target, old)
            os.rename(temporary, target)
            shutil.rmtree(old)
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


def verify(folder: Path, contents: bool = True) -> None:
    """Check a directory against its manifest.

    Args:
        contents: recompute the sums (about 1 GB/s); otherwise only names and sizes.

    Raises:
        RunError: names the file that is missing, has another size, or another content.
    """
    manifest = folder / MANIFEST
    if not folder.is_dir():
        raise RunError(f"{folder}: not found; expected a folder that an earlier stage writes")
    listed = read_json(manifest)
    if not isinstance(listed, dict) or not isinstance(listed.get("files"), dict):
        raise RunError(f"{manifest}: damaged; delete {folder} and run again")
    for name, expected in listed["files"].items():
        path = folder / name
        if not path.is_file():
            raise RunError(f"{path}: missing; delete {folder} and run again")
        if path.stat().st_size != expected["bytes"]:
            raise RunError(
                f"{path}: {path.stat().st_size} bytes, expected {expected['bytes']}: cut short or changed; "
                f"delete {folder} and run again"
            )
        if contents and sha256(path) != expected["sha256"]:
            raise RunError(
                f"{path}: its content is not what was written (sha256 differs); delete {folder} and run again"
            )


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


def sha256(path: Path) -> str:
    """Hex sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """Hex sha256 of a JSON value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def sync_directory(folder: Path) -> None:
    """Make renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def refuse_special(path: Path) -> None:
    """Refuse to replace a device, a pipe or a link.

    Raises:
        RunError: names what is there.
    """
    if path.is_symlink() or (path.exists() and not (path.is_file() or path.is_dir())):
        raise RunError(f"{path}: is a link or a device, not a regular file or folder; choose another output path")


def disk_error(path: Path, size: int, error: OSError) -> RunError:
    """One message for a disk that refuses."""
    hint = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check the disk and its permissions"
    return RunError(
        f"{path}: could not be written ({error.strerror or error}; {size:,} bytes); what was there before is kept; "
        f"{hint} and run the same command again"
    )


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
        json.dump({"format": 1, "files": files}, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    for path in [p for p in folder.rglob("*") if p.is_dir()] + [folder]:
        sync_directory(path)


def _remove_leftovers(target: Path) -> None:
    # A kill between the two renames of a replacement leaves the old content aside: put it back rather than lose it.
    for old in target.parent.glob(f".tmp-old-*-{glob.escape(target.name)}"):
        if target.exists():
            shutil.rmtree(old)
        else:
            os.rename(old, target)
    for leftover in target.parent.glob(f".tmp-[0-9]*-{glob.escape(target.name)}"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


class Lock:
    """One owner per folder: an advisory lock that the kernel drops when its owner dies, however it dies.

    Raises:
        RunError: somebody else holds it; the message says who.
    """

    def __init__(self, folder: Path):
        self.path = folder / "lock"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "a+")  # noqa: SIM115 - held open for as long as the lock is held
        except OSError as error:
            raise disk_error(self.path, 0, error) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            owner = self._file.read().strip() or "another process"
            self._file.close()
            raise RunError(
                f"{folder}: in use by {owner}; wait for it to end, stop it, or choose another folder with run=PATH"
            ) from error
        self._file.seek(0)
        self._file.truncate()
        self._file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
        self._file.flush()

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()

    def release(self) -> None:
        if not self._file.closed:
            self._file.seek(0)
            self._file.truncate()
            self._file.close()
