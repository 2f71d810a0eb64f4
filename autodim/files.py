"""Single files that survive a crash: written beside their place, flushed, renamed; `autodim.artifact` uses these."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autodim.errors import RunError


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
        make_directory(path.parent)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise disk_error(path, len(data), error) from error


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """`write_bytes` of indented JSON with sorted keys; numbers that are not finite become null."""
    write_text(path, json.dumps(finite(value), indent=1, sort_keys=True, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """A JSON value whose numbers that are not finite (JSON has none: an AUC of one class, the slope of a single point)
    are None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def read_json(path: Path) -> Any:
    """Read JSON that autodim wrote.

    Raises:
        RunError: missing or damaged, with the path.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{path}: not found; expected a file that an earlier stage writes") from error
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); check the disk and its permissions") from error
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, numbers of thousands of digits, deep nesting
        raise RunError(f"{path}: damaged ({error}); delete the folder of its stage and run again") from error


def sha256(path: Path) -> str:
    """Hex sha256 of a file."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); check the disk and its permissions") from error


def digest(value: Any) -> str:
    """Hex sha256 of a JSON value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def make_directory(folder: Path) -> None:
    """Make a folder and its parents, each durable in its own parent: else a power cut takes all that is in it."""
    if folder.is_dir():
        return
    make_directory(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_directory(folder.parent)


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


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Whatever a disk refuses within becomes one message; other errors of the system are bugs and stay as they are.

    Raises:
        RunError: names the file, or the folder where the system named none.
    """
    refused = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG, None)
    try:
        yield
    except OSError as error:
        if error.errno not in refused:
            raise
        path = Path(error.filename) if isinstance(error.filename, str) else folder
        raise disk_error(path, path.stat().st_size if path.is_file() else 0, error) from error


def disk_error(path: Path, size: int, error: OSError) -> RunError:
    """One message for a disk that refuses."""
    hint = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check the disk and its permissions"
    return RunError(
        f"{path}: could not be written ({error.strerror or error}; {size:,} bytes); what was there before is kept; "
        f"{hint} and run the same command again"
    )
