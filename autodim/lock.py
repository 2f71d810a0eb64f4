"""One owner per run folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from autodim.errors import RunError
from autodim.files import disk_error, make_directory


class Lock:
    """One owner per folder: an advisory lock that the kernel drops when its owner dies, however it dies.

    Raises:
        RunError: somebody else holds it; the message says who.
    """

    def __init__(self, folder: Path):
        self.path = folder / "lock"
        try:
            make_directory(folder)
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
