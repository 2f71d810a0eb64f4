"""Several logs as one: each file (or set of files) has labels of its own, and all have the columns of all slots.

They are encoded one after another into one log with one vocabulary, so an id has one row whichever log it comes from;
a row has no label (NaN) of a task that its log does not have. Torch-free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from autodim.config.schema import DataConfig
from autodim.errors import ConfigError, DataError


@dataclass(frozen=True)
class LogRows:
    """The rows of one log in a part of the encoded log.

    Attributes:
        start, stop: its rows are start <= row < stop.
        tasks: positions of the labels that it has, ascending; the others are missing in all of its rows.
    """

    start: int
    stop: int
    tasks: tuple[int, ...]


def sources(data: DataConfig) -> list[DataConfig]:
    """The data section of each log alone: `data` itself, or for each of `data.logs` its path and its labels."""
    if not data.logs:
        return [data]
    return [
        data.model_copy(
            update={"path": one.path, "logs": (), "labels": tuple(x for x in data.labels if x.name in one.labels)}
        )
        for one in data.logs
    ]


def named(data: DataConfig) -> str:
    """The log or logs in words, for messages."""
    return ", ".join(str(one.path) for one in sources(data)) if data.logs or data.path else "the log"


def file_names(data: DataConfig) -> str:
    """The names of the log's files, without their folders."""
    return " + ".join(Path(one.path or "a DataFrame").name for one in sources(data))


def check_single(data: DataConfig, command: str) -> None:
    """Raises ConfigError for a run of several logs, where one path is given for the new rows."""
    if data.logs:
        raise ConfigError(
            f"{command}: found a run of several logs ({named(data)}), but --data is one log; expected a run of one; "
            "search the new logs anew, with their paths in data.logs"
        )


def absent_labels(data: DataConfig, log: int) -> list[int]:
    """Positions of the labels that a log does not have."""
    if not data.logs:
        return []
    return [t for t, label in enumerate(data.labels) if label.name not in data.logs[log].labels]


def log_rows(data: DataConfig, counts: Sequence[int]) -> tuple[LogRows, ...]:
    """Where the rows of each of `data.logs` lie in a part that has so many of each; empty where there is one log."""
    ends = list(accumulate(counts))
    found = []
    for k, (count, end) in enumerate(zip(counts, ends, strict=True)):
        away = set(absent_labels(data, k))
        found.append(LogRows(end - count, end, tuple(t for t in range(len(data.labels)) if t not in away)))
    return tuple(found)


def check_rows(data: DataConfig, parts: dict[str, Sequence[int]]) -> None:
    """Every log has rows in every part that has rows.

    Args:
        parts: by part, its rows of each log.

    Raises:
        DataError: a log without rows in a part: it could not be trained on, or not be judged.
    """
    for part, counts in parts.items():
        for one, count in zip(data.logs, counts, strict=True):
            if sum(counts) and not count:
                shown = ", ".join(f"{log.path} {n:,}" for log, n in zip(data.logs, counts, strict=True))
                raise DataError(
                    f"data.logs: no row of {one.path} is in the part {part} (rows: {shown}); every log needs rows in "
                    "every part: correct data.split, or data.drop"
                )
