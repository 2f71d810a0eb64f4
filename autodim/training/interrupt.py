"""SIGINT and SIGTERM: a flag now, a save at the next step, never work inside the handler."""

from __future__ import annotations

import os
import signal
from types import FrameType


class Interrupted(Exception):
    """Raised by long work after it saved itself because a signal asked it to stop."""

    def __init__(self, signum: int):
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum

    @property
    def exit_code(self) -> int:
        return 128 + self.signum


class StopFlag:
    """Catches SIGINT and SIGTERM while it is entered; a second signal ends the process at once."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopFlag:
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._catch)
        except ValueError:
            pass  # not the main thread: the caller's handlers stay in force
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _catch(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            os._exit(128 + signum)
        self.signum = signum

    def check(self) -> None:
        """Raise `Interrupted` if a signal came (for work that needs no saving)."""
        if self.signum is not None:
            raise Interrupted(self.signum)
