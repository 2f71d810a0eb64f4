"""Row-wise 8-bit rounding of a table, the way FBGEMM's kernels read it, and back. Numpy only.

A row is stored as whole numbers 0 .. 255 with a float16 scale and offset of its own: `x = code * scale + offset`.
The offset is rounded down and the scale up, so that the row's largest and smallest numbers stay in range and no number
moves by more than half a scale (beside the last digits of float32).

Letters: n rows, w numbers a row.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from autodim.embedding.precision import Precision
from autodim.errors import TrainingError

Single = NDArray[np.float32]
Half = NDArray[np.float16]
Codes = NDArray[np.uint8]
_CHUNK = 65_536
_LARGEST = float(np.finfo(np.float16).max)


def row_parameters(low: NDArray[np.floating], high: NDArray[np.floating]) -> tuple[Half, Half]:
    """Scale and offset of rows from their smallest and largest numbers, any shape."""
    offset = low.astype(np.float16)
    offset = np.where(offset.astype(np.float64) > low, np.nextafter(offset, np.float16(-np.inf)), offset)
    step = (high.astype(np.float64) - offset.astype(np.float64)) / 255
    scale = step.astype(np.float16)
    scale = np.where(scale.astype(np.float64) < step, np.nextafter(scale, np.float16(np.inf)), scale)
    return scale, offset


def encode(table: Single) -> tuple[Codes, Half, Half]:
    """Codes n x w, scales n and offsets n of a table.

    Raises:
        TrainingError: a number is not finite, or too large for float16.

    Cost: two passes over the table, in pieces.
    """
    _check(table)
    codes = np.zeros(table.shape, dtype=np.uint8)
    scales, offsets = np.zeros(len(table), dtype=np.float16), np.zeros(len(table), dtype=np.float16)
    for part in _parts(table) if table.size else ():
        rows = table[part]
        scale, offset = row_parameters(rows.min(1), rows.max(1))
        step = scale.astype(np.float64)
        # a row of one repeated number that float16 holds exactly has scale 0: all its codes are 0
        place = (rows - offset.astype(np.float64)[:, None]) / np.where(step > 0, step, 1.0)[:, None]
        codes[part] = np.clip(np.rint(place), 0, 255)
        scales[part], offsets[part] = scale, offset
    return codes, scales, offsets


def decode(codes: Codes, scales: Half, offsets: Half) -> Single:
    """The table that the codes mean, n x w."""
    found = np.empty(codes.shape, dtype=np.float32)
    for part in _parts(codes):
        found[part] = codes[part] * scales[part].astype(np.float32)[:, None]
        found[part] += offsets[part].astype(np.float32)[:, None]
    return found


def rounded(table: Single, precision: Precision) -> Single:
    """The table as a server reads it, n x w float32.

    Raises:
        TrainingError: a number is not finite, or too large for float16.
    """
    if precision == "fp32" or not table.size:
        return table
    if precision == "int8":
        return decode(*encode(table))
    _check(table)
    return table.astype(np.float16).astype(np.float32)


def _check(table: Single) -> None:
    largest = float(np.abs(table).max()) if table.size else 0.0
    if not largest < _LARGEST:
        raise TrainingError(
            f"a table's largest number is {largest:g}; tables in fp16 or int8 take finite numbers below {_LARGEST:g}; "
            "serve in fp32 (prune.precision=fp32), or look at the training's losses"
        )


def _parts(table: NDArray[np.generic]) -> Iterator[slice]:
    for start in range(0, len(table), _CHUNK):
        yield slice(start, start + _CHUNK)
