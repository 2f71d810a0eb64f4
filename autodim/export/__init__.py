"""Widths and weights in other systems' words.

An allocation goes in, text comes out: `export(allocation, "torchrec", slots)`. Weights go through
`autodim.export.weights`, which wants the tensors too. Pick by who reads:

    widths       a person, git, `autodim retrain --widths`
    json         a program: everything that the widths file says
    csv          a spreadsheet: one line a slot
    torchrec     torchrec / FBGEMM: table specs, projections, and what they would refuse
    safetensors  any framework: the trained tables, projections and biases (weights.py)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from autodim.dimension.allocation import Allocation
from autodim.embedding.layout import Slot
from autodim.errors import ConfigError, did_you_mean
from autodim.export.csv_format import to_csv
from autodim.export.json_format import to_json
from autodim.export.torchrec import to_torchrec
from autodim.export.widths import to_widths

FORMATS: dict[str, Callable[[Allocation, Sequence[Slot]], str]] = {
    "widths": to_widths,
    "json": to_json,
    "csv": to_csv,
    "torchrec": to_torchrec,
}

DESCRIPTIONS: dict[str, str] = {
    "widths": "versioned YAML, one line a slot; what `autodim retrain --widths` reads",
    "json": "the same facts for programs",
    "csv": "one line a slot, for spreadsheets",
    "torchrec": "table specs for torchrec and FBGEMM (JSON), with what they would refuse",
    "safetensors": "trained tables, projections and biases in one file",
}


def export(allocation: Allocation, format: str, slots: Sequence[Slot] = ()) -> str:
    """The allocation as text in a named format.

    Args:
        allocation: the widths.
        format: a key of FORMATS.
        slots: how slots pool their bags; json and torchrec use it.

    Raises:
        ConfigError: no such text format.
    """
    if format == "safetensors":
        raise ConfigError("format safetensors holds weights, not text; it needs a trained run: autodim export RUN")
    if format not in FORMATS:
        raise ConfigError(f'no export format "{format}"{did_you_mean(format, [*FORMATS, "safetensors"])}')
    return FORMATS[format](allocation, slots)
