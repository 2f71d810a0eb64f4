"""How a served table stores its numbers, and what a row costs so. Torch-free.

    fp32   4 bytes a number
    fp16   2 bytes a number
    int8   1 byte a number, and a float16 scale and offset for the row (4 bytes): row-wise min-max, as FBGEMM's kernels

Training is in float32 always; projections and biases are served in float32, since they are small and read every time.
"""

from __future__ import annotations

from typing import Literal, get_args

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
ROW_BYTES: dict[Precision, tuple[int, int]] = {"fp32": (4, 0), "fp16": (2, 0), "int8": (1, 4)}


def row_bytes(width: int, precision: Precision) -> int:
    """Bytes of one stored row of `width` numbers; nothing at width 0."""
    number, row = ROW_BYTES[precision]
    return number * width + row if width else 0
