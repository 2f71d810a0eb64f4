"""How a worker process talks with its parent: one JSON object a line, on the stdout that it was given.

    parent                          worker
                                    {"ready": {...facts}} or {"skip": "reason"}
    {"do": "train", "steps": 20}    {"seconds": 1.2}
    {"do": "infer", "steps": 20}    {"seconds": 0.4}
    {"do": "parts", "steps": 20}    {"lookup": 0.1, ...} seconds a step
    {"do": "memory"}                {"peak": bytes, "before": bytes}
    end of file                     ends

Imports the standard library alone: it also runs in a peer's environment.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any


class Skip(Exception):
    """This worker cannot measure what was asked; the message says why."""


def status(field: str) -> int:
    """A field of /proc/self/status in bytes: VmHWM (peak resident), VmRSS; 0 where there is none."""
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith(field + ":"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def reset_peak() -> None:
    """Start VmHWM afresh (Linux; elsewhere nothing)."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


def serve(make: Callable[[dict[str, Any]], Any]) -> None:
    """Read the spec's path from argv, make the measured object, answer until the parent closes the pipe.

    Args:
        make: spec -> object with `facts()`, and one method per `do` that takes the request's other keys; may raise
            Skip or ImportError.
    """
    # libraries print where they like; the parent's pipe is kept for the protocol
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(value: Any) -> None:
        channel.write(json.dumps(value) + "\n")
        channel.flush()

    with open(sys.argv[1]) as file:
        spec = json.load(file)
    try:
        measured = make(spec)
    except (Skip, ImportError) as error:
        say({"skip": f"{type(error).__name__}: {error}" if isinstance(error, ImportError) else str(error)})
        return
    say({"ready": measured.facts()})
    for line in sys.stdin:
        request = json.loads(line)
        say(getattr(measured, request.pop("do"))(**request))
