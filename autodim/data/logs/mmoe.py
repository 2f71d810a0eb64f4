"""Two regressions of a known relation: the synthetic data of MMoE (Ma et al., KDD 2018, section 3.2), numbers only.

    w1 = c u1,  w2 = c (p u1 + sqrt(1 - p^2) u2)                        u1, u2 orthonormal in dimension d
    y_k = w_k . x + sum_i sin(a_i w_k . x + b_i) + noise                x standard normal

p is the cosine of w1 and w2, which sets how far the tasks are the same function: 1: they differ by noise alone; 0:
their inputs are independent. The log has d numeric columns `x000`, ..., no slot with ids, and the labels `first` and
`second`.

Differs from the paper: the paper leaves the shapes a_i, b_i open; here a_i is drawn from [1, 3] and b_i from
[0, 2 pi], and both labels use the same ones. `scale` multiplies the second label, as if it were in another unit.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa

from autodim.config.schema import DataConfig, LabelConfig, SlotConfig
from autodim.data.logs.drawn import draw_into, read_options

OPTIONS: dict[str, int | float] = {
    "rows": 20_000, "dimension": 32, "correlation": 0.5, "scale": 1.0, "waves": 4, "noise": 0.1, "seed": 0,
}  # fmt: skip
LIMITS: dict[str, tuple[float, float]] = {
    "rows": (100, 10**9), "dimension": (2, 1000), "correlation": (-1, 1), "scale": (1e-6, 1e6), "waves": (0, 100),
    "noise": (0, 100), "seed": (0, 2**63),
}  # fmt: skip
REAL = ("correlation", "scale", "noise")
LABELS = ("first", "second")


def prepare_log(data: DataConfig, folder: Path) -> DataConfig:
    """Draw the log into `folder/mmoe.parquet`, the truth into `folder/tasks.json`, and describe it.

    `data.options`: rows (20,000), dimension d (32), correlation p (.5), scale of the second label (1), waves: sines
    a label (4), noise (.1, its deviation), seed (0). A config that has a path already is described only.

    Raises:
        ConfigError: an unknown option or one out of range.
    """
    options = read_options(data, OPTIONS, LIMITS, REAL)
    path = data.path or draw_into(folder, "mmoe", "tasks", lambda: draw(**options))
    slots = tuple(SlotConfig(name=_name(i), kind="value") for i in range(int(options["dimension"])))
    return data.model_copy(
        update={
            "path": path,
            "labels": data.labels or tuple(LabelConfig(name=name, kind="regression") for name in LABELS),
            "slots": data.slots or slots,
        }
    )


def draw(
    rows: int, dimension: int, correlation: float, scale: float, waves: int, noise: float, seed: int
) -> tuple[pa.Table, dict]:
    """The log and its truth.

    Returns:
        (float32 columns `x000`, ..., `first` and `second`; the weights w1 and w2, the shapes, the share of each
        label's variance that is noise, and the correlation of the labels without it).
    """
    rng = np.random.default_rng(seed)
    weights = task_weights(dimension, correlation, rng)
    shapes = rng.uniform(1, 3, waves), rng.uniform(0, 2 * math.pi, waves)
    inputs = rng.standard_normal((rows, dimension))
    clean = [wavy(inputs @ w, *shapes) for w in weights]
    labels = [y + noise * rng.standard_normal(rows) for y in clean]
    labels[1] = scale * labels[1]
    columns = {_name(i): pa.array(inputs[:, i].astype(np.float32)) for i in range(dimension)}
    columns |= {name: pa.array(y.astype(np.float32)) for name, y in zip(LABELS, labels, strict=True)}
    truth = {
        "options": {
            "rows": rows, "dimension": dimension, "correlation": correlation, "scale": scale, "waves": waves,
            "noise": noise, "seed": seed,
        },
        "w1": weights[0].tolist(),
        "w2": weights[1].tolist(),
        "a": shapes[0].tolist(),
        "b": shapes[1].tolist(),
        "noise_share": [noise**2 / (float(y.var()) + noise**2) for y in clean],
        "label_correlation": float(np.corrcoef(clean)[0, 1]),
    }  # fmt: skip
    return pa.table(columns), truth


def task_weights(dimension: int, correlation: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """w1 and w2, of length 1 (c = 1: `w . x` is standard normal), whose cosine is the correlation."""
    basis, _ = np.linalg.qr(rng.standard_normal((dimension, 2)))
    u1, u2 = basis.T
    return u1, correlation * u1 + math.sqrt(1 - correlation**2) * u2


def wavy(inner: np.ndarray, speeds: np.ndarray, phases: np.ndarray) -> np.ndarray:
    """`s + sum_i sin(a_i s + b_i)` of every number s."""
    return inner + sum((np.sin(a * inner + b) for a, b in zip(speeds, phases, strict=True)), np.zeros_like(inner))


def _name(column: int) -> str:
    return f"x{column:03d}"
