"""The files of a log."""

from __future__ import annotations

import os
from glob import glob
from pathlib import Path

from autodim.config.schema import DataConfig
from autodim.errors import ConfigError, DataError, did_you_mean

SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", ".parquet", ".pq")


def log_files(data: DataConfig, base: Path) -> list[Path]:
    """The files of one log, sorted by name.

    Args:
        data: `path` may hold ${VARIABLES}, `~`, patterns (`part-*.csv`), or name a folder.
        base: what relative paths are relative to.

    Raises:
        DataError: an unset variable, no such file, or something that is not a regular file.
    """
    if data.path is None:
        raise ConfigError("data.path is not set: name the CSV, TSV or Parquet file(s) of the log")
    text = os.path.expanduser(os.path.expandvars(data.path))
    if "$" in text and text == os.path.expanduser(data.path) and not (base / text).exists():
        raise DataError(f"data.path is {data.path!r}, but that environment variable is not set: export it")
    if "\0" in text:
        raise DataError(f"data.path {data.path!r} holds a NUL character")
    path = base / text
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.name.lower().endswith(SUFFIXES) and p.name[0] not in "._")
        if not found:
            raise DataError(f"{path}: no file in this folder ends with one of {', '.join(SUFFIXES)}")
    elif path.exists():
        found = [path]
    else:
        found = sorted(Path(name) for name in glob(str(path)))
        if not found:
            siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
            hint = did_you_mean(path.name, siblings) if siblings else f"; the folder {path.parent} is not there either"
            raise DataError(f"{path}: no such file{hint if len(hint) < 400 else ''}")
    for file in found:
        if not file.is_file():
            raise DataError(f"{file}: not a regular file; data.path should name CSV, TSV or Parquet files")
    return found


def is_parquet(path: Path) -> bool:
    """By the file's first bytes, so that a wrong name does not matter."""
    try:
        with path.open("rb") as stream:
            return stream.read(4) == b"PAR1"
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
