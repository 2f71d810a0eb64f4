"""A Criteo-shaped log: 39 slots, 13 of them small (bucketed numbers), 26 with Zipf-distributed ids, about 1.0 M ids.

A folder of arrays is what all workers read: `ids.npy` (N x S int32), `numeric.npy` (N x n float32), `labels.npy`
(N x T float32) and `about.json` (rows per slot). Torch-free.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SMALL = (46, 100, 52, 41, 220, 130, 80, 47, 92, 12, 33, 30, 60)  # like Criteo's 13 numbers after floor(log(x)^2)
# like Criteo's 26 categorical columns at a threshold of about 10: a few huge, many small
ZIPF = (
    1_445, 556, 253_000, 119_000, 306, 20, 12_000, 634, 4, 47_000, 5_200, 229_000, 3_200,
    27, 10_700, 182_000, 11, 4_300, 2_000, 4, 211_000, 18, 16, 28_000, 87, 20_000,
)  # fmt: skip
EXPONENT = 1.1


def sizes() -> tuple[int, ...]:
    """Rows of the 39 tables (1,130 thousand in all), row 0 for unknown ids."""
    return SMALL + ZIPF


def criteo_shaped(rows: int, seed: int = 0, tasks: int = 1) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Ids N x 39 (1 .. rows - 1 by falling frequency) and labels N x T of 0 and 1 (a quarter are 1).

    Cost: about 1 s for a million rows.
    """
    generator = np.random.default_rng(seed)
    columns = [zipf(rows, size, generator) for size in sizes()]
    labels = (generator.random((rows, tasks)) < 0.25).astype(np.float32)
    return np.stack(columns, axis=1), labels


def zipf(count: int, size: int, generator: np.random.Generator) -> NDArray[np.int32]:
    """Ids 1 .. size - 1 with P(id = k) roughly proportional to k^-EXPONENT (the continuous law, rounded down)."""
    power = 1 - EXPONENT
    draw = generator.random(count)
    value = (1 + draw * (float(size) ** power - 1)) ** (1 / power)
    return np.clip(value.astype(np.int32), 1, max(size - 1, 1))


def write_arrays(
    folder: Path,
    ids: NDArray[np.int32],
    numeric: NDArray[np.float32],
    labels: NDArray[np.float32],
    rows: tuple[int, ...],
) -> None:
    """A folder of arrays; `rows` per slot."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "ids.npy", ids)
    np.save(folder / "numeric.npy", numeric)
    np.save(folder / "labels.npy", labels)
    (folder / "about.json").write_text(json.dumps({"rows": list(rows)}))
