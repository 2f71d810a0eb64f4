"""What logs that are drawn at random share: their options, and the files that they are kept in."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from autodim.config.schema import DataConfig
from autodim.errors import ConfigError, did_you_mean

Options = Mapping[str, int | float]
Limits = Mapping[str, tuple[float, float]]


def read_options(data: DataConfig, defaults: Options, limits: Limits, real: Sequence[str]) -> dict[str, Any]:
    """`data.options` on top of the defaults.

    Args:
        limits: least and largest value of every option. real: options that need not be whole.

    Raises:
        ConfigError: an unknown option or one out of range.
    """
    for name in data.options:
        if name not in defaults:
            hint = did_you_mean(name, sorted(defaults))
            raise ConfigError(f"data.options.{name}: the log {data.log} has no such option{hint}")
    found: dict[str, Any] = {**defaults, **data.options}
    for name, (low, high) in limits.items():
        value = found[name]
        number = not isinstance(value, (bool, str)) and (name in real or isinstance(value, int))
        if not number or not low <= float(value) <= high:
            kind = "a number" if name in real else "a whole number"
            raise ConfigError(f"data.options.{name} is {value!r}, but must be {kind} from {low:g} to {high:g}")
    return found


def draw_into(folder: Path, log: str, truth: str, draw: Callable[[], tuple[pa.Table, dict[str, Any]]]) -> str:
    """Draw a log into `folder/<log>.parquet` and its truth into `folder/<truth>.json`; returns the log's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = str((folder / f"{log}.parquet").resolve())
    table, about = draw()
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)
    (folder / f"{truth}.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return path
