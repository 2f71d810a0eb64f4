"""What every job of many trainings begins with: its folder's lock, a session, and the log that all of them share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from autodim import artifact
from autodim.data.encoded import EncodedLog
from autodim.stages.environment import environment
from autodim.stages.prepare import prepare
from autodim.stages.run import Run
from autodim.stages.session import Session
from autodim.training.device import set_up
from autodim.training.interrupt import StopFlag
from autodim.training.progress import Progress


@contextmanager
def job(home: Run, progress: Progress) -> Iterator[tuple[EncodedLog, Session]]:
    """The log, encoded where it is not there yet, and the session.

    Args:
        home: the job's folder as a run of which only the log is made.

    Raises:
        RunError: somebody else works in the folder. Interrupted: a signal came.
    """
    device = set_up(home.config.device, home.config.threads)
    with artifact.Lock(home.folder), StopFlag() as stop:
        session = Session(device, progress, stop)
        artifact.write_json(home.folder / "environment.json", environment())
        yield prepare(home, session), session
