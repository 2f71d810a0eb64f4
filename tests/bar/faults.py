"""A disk that refuses, inside this process: every operation that Python can see is counted, and one of them fails.

Counted are the opening of a file for writing, writes of tensors and vocabularies (whose bytes are written by foreign
code), fsync, rename, mkdir and the removal of files and folders, each only below one folder.
"""

from __future__ import annotations

import builtins
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow.parquet as pq

from autodim.training import checkpoints

KINDS = ("open", "tensors", "parquet", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir")


class Disk:
    """Counts operations below a folder.

    Attributes:
        fail_at: number of the operation that fails (and all after it, where `ever`); None: none does.
        before: called before each operation with its kind and path.
    """

    def __init__(self, folder: Path, number: int | None = None, code: int = 28, ever: bool = False):
        self.folder, self.fail_at, self.code, self.ever = str(folder), number, code, ever
        self.done: list[tuple[str, str]] = []
        self.failed: list[tuple[str, str]] = []
        self.before: Callable[[str, str], None] = lambda kind, path: None

    def tick(self, kind: str, path: str) -> bool:
        """Count an operation; whether it must fail."""
        if not path.startswith(self.folder):
            return False
        self.before(kind, path)
        self.done.append((kind, path))
        number = len(self.done) - 1
        wrong = self.fail_at is not None and (number == self.fail_at or (self.ever and number > self.fail_at))
        if wrong:
            self.failed.append((kind, path))
        return wrong

    def check(self, kind: str, path: Any) -> None:
        if self.tick(kind, os.fspath(path)):
            raise OSError(self.code, os.strerror(self.code), os.fspath(path))


def _path(handle: int) -> str:
    return os.readlink(f"/proc/self/fd/{handle}")


@contextmanager
def watched(disk: Disk) -> Iterator[Disk]:
    """Put a disk under everything that writes."""
    real_open = builtins.open

    def opened(file: Any, mode: str = "r", *args: Any, **rest: Any) -> Any:
        if isinstance(file, str | os.PathLike) and set(mode) & set("wax") and disk.tick("open", os.fspath(file)):
            if disk.code == 28 and "b" in mode and not disk.ever:
                return real_open("/dev/full", mode, *args, **rest)  # every write to it is refused, C code's too
            raise OSError(disk.code, os.strerror(disk.code), os.fspath(file))
        return real_open(file, mode, *args, **rest)

    def counted(kind: str, real: Callable[..., Any], where: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **rest: Any) -> Any:
            disk.check(kind, where(*args))
            return real(*args, **rest)

        return call

    def first(path: Any, *_: Any) -> Any:
        return path

    def second(_: Any, path: Any, *__: Any) -> Any:
        return path

    def missing(path: Any, *_: Any) -> Any:
        return "" if os.path.isdir(path) else path  # making what is there is no operation

    def relative_unlink(path: Any, *args: Any, dir_fd: int | None = None) -> Any:
        disk.check("unlink", path if dir_fd is None else f"{_path(dir_fd)}/{os.fspath(path)}")
        return real_unlink(path, *args, dir_fd=dir_fd)

    def relative_rmdir(path: Any, *args: Any, dir_fd: int | None = None) -> Any:
        disk.check("rmdir", path if dir_fd is None else f"{_path(dir_fd)}/{os.fspath(path)}")
        return real_rmdir(path, *args, dir_fd=dir_fd)

    real_unlink, real_rmdir = os.unlink, os.rmdir
    # rmtree asks whether the functions that it uses know `dir_fd`
    for real, stand_in in ((real_unlink, relative_unlink), (real_rmdir, relative_rmdir)):
        if real in os.supports_dir_fd:
            os.supports_dir_fd.add(stand_in)
    with (
        patch.object(builtins, "open", opened),
        patch.object(io, "open", opened),
        patch.object(os, "fsync", counted("fsync", os.fsync, _path)),
        patch.object(os, "rename", counted("rename", os.rename, first)),
        patch.object(os, "replace", counted("replace", os.replace, first)),
        patch.object(os, "mkdir", counted("mkdir", os.mkdir, missing)),
        patch.object(os, "unlink", relative_unlink),
        patch.object(os, "rmdir", relative_rmdir),
        patch.object(checkpoints, "save_file", counted("tensors", checkpoints.save_file, second)),
        patch.object(pq, "write_table", counted("parquet", pq.write_table, second)),
    ):
        yield disk


def copy(source: Path, target: Path) -> Path:
    """A copy of a folder with its links and times."""
    return Path(shutil.copytree(source, target, symlinks=True))
