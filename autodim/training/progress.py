"""Long work shows itself: one live line on a terminal, plain lines in a log, nothing when quiet. Always on stderr."""

from __future__ import annotations

import sys
import time


class Progress:
    """A stage's progress.

    Args:
        mode: `auto` (live on a terminal, plain lines otherwise), `plain`, or `quiet`.
        every: seconds between plain lines.
    """

    def __init__(self, mode: str = "auto", every: float = 10.0):
        self.quiet = mode == "quiet"
        self.live = mode == "auto" and sys.stderr.isatty()
        self.every = every
        self._title, self._total, self._unit = "", 0, ""
        self._began = self._shown = 0.0
        self._first = 0
        self._width = 0

    def start(self, title: str, total: int, unit: str = "rows", done: int = 0) -> None:
        """Begin a piece of work of `total` units, `done` of them before this process."""
        self._title, self._total, self._unit, self._first = title, total, unit, done
        self._began = time.monotonic()
        self._shown = 0.0 if self.live else self._began

    def update(self, done: int, note: str = "") -> None:
        """Say how far the work is; cheap enough for every step."""
        now = time.monotonic()
        if self.quiet or now - self._shown < (0.2 if self.live else self.every):
            return
        self._shown = now
        seconds = max(now - self._began, 1e-9)
        rate = (done - self._first) / seconds
        left = (self._total - done) / rate if rate > 0 else 0.0
        share = done / self._total if self._total else 1.0
        text = f"{self._title}  {share:4.0%}  {_si(rate)} {self._unit}/s  {_clock(left)} left  {note}".rstrip()
        if self.live:
            sys.stderr.write("\r" + text[:160].ljust(self._width))
            self._width = len(text[:160])
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def line(self, text: str) -> None:
        """One lasting line."""
        if self.quiet:
            return
        if self.live and self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            self._width = 0
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def _si(value: float) -> str:
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {suffix}"
    return f"{value:.3g} "


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if minutes >= 60 else f"{minutes}:{seconds:02d}"
