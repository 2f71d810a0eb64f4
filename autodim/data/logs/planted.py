"""The planted log: random, with known true widths, so that a search can be judged (METHODS 1.5).

Letters: S slots, n_i ids of slot i, r_i its true width, z_i the latent vector (r_i numbers) of a row's id.

Slots have 3 .. 100,000 ids (log-spaced; `ids` sets the largest), drawn by Zipf's law (exponent 1.05), and true widths
from {0, 1, 2, 4, 8, 16} (at most D and n_i - 1). Two slots at least have the largest width, one at least has 0: pure
noise, which should get no dimension. With s(row) the signal,

    s = c_lin sum_i a_i . z_i + c_pair sum_{i<j} w_i w_j z_i^T B_ij z_j,     P(label = 1) = sigmoid(k s + noise)

z are standard normal, then whitened under the ids' law, so even a slot of three ids has exactly r_i equal dimensions;
B_ij are fixed random r_i x r_j matrices whose min(r_i, r_j) singular values are 1; the w_i solve
w_i^2 sum_j w_j^2 min(r_i, r_j) = const r_i, so that every true dimension carries the same signal. The linear part has
a tenth of the variance. k is solved so that the Bayes AUC is .80 (`auc` sets another).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from autodim.config.schema import DataConfig, LabelConfig, SlotConfig
from autodim.data.logs.drawn import draw_into, read_options

OPTIONS: dict[str, int | float] = {
    "rows": 200_000, "slots": 12, "width": 16, "seed": 0, "noise": 0.5, "ids": 100_000, "auc": 0.80,
}  # fmt: skip
LIMITS: dict[str, tuple[float, float]] = {
    "rows": (100, 10**9), "slots": (3, 100), "width": (1, 1024), "seed": (0, 2**63), "noise": (0, 100),
    "ids": (20, 10**8), "auc": (0.5, 0.999),
}  # fmt: skip
REAL = ("noise", "auc")
WIDTHS = (0, 1, 2, 4, 8, 16)
ZIPF = 1.05
LINEAR = 0.1  # share of the signal's variance
CALIBRATION = 1 << 18  # rows that the scale is solved on


def prepare_log(data: DataConfig, folder: Path) -> DataConfig:
    """Draw the log into `folder/planted.parquet`, the truth into `folder/truth.json`, and describe it.

    `data.options`: rows (200,000), slots (12), width D (16), seed (0), noise (.5, its deviation in the logit), ids of
    the largest slot (100,000), auc of the best possible score (.80).
    A config that has a path already is described only.

    Raises:
        ConfigError: an unknown option or one out of range.
    """
    options = read_options(data, OPTIONS, LIMITS, REAL)
    path = data.path or draw_into(folder, "planted", "truth", lambda: draw(**options))
    return data.model_copy(
        update={
            "path": path,
            "labels": data.labels or (LabelConfig(name="click"),),
            "slots": data.slots or tuple(SlotConfig(name=_name(i)) for i in range(int(options["slots"]))),
        }
    )


def draw(
    rows: int, slots: int, width: int, seed: int, noise: float, ids: int = 100_000, auc: float = 0.80
) -> tuple[pa.Table, dict]:
    """The log and its truth.

    Returns:
        (columns `s00`, `s01`, ... of ids and `click`; per slot its ids and true width, and the Bayes AUC).

    Cost: S^2 / 2 products of r_i x r_j a row: 200,000 rows x 12 slots in about 2 s.
    """
    rng = np.random.default_rng(seed)
    sizes = np.unique(np.round(np.geomspace(3, ids, slots)).astype(int))
    widths = _widths(sizes, width, rng)
    laws = [_zipf(n) for n in sizes]
    drawn = np.stack([np.searchsorted(np.cumsum(law)[:-1], rng.random(rows)) for law in laws], axis=1)
    latents = [_latents(law, r, rng) for law, r in zip(laws, widths, strict=True)]
    signal = _signal(drawn, latents, widths, rng)
    scale = _calibrated(signal[:CALIBRATION], noise, auc)
    logits = scale * signal + noise * rng.standard_normal(rows)
    clicks = (rng.random(rows) < _sigmoid(logits)).astype(np.int8)
    names = [_name(i) for i in range(slots)]
    texts = [rng.permutation(n)[drawn[:, i]] for i, n in enumerate(sizes)]  # a name must not tell the frequency
    table = pa.table({**{name: pa.array(t) for name, t in zip(names, texts, strict=True)}, "click": pa.array(clicks)})
    truth = {
        "bayes_auc": bayes_auc(signal, scale, noise),
        "options": {
            "rows": rows,
            "slots": slots,
            "width": width,
            "seed": seed,
            "noise": noise,
            "ids": ids,
            "auc": auc,
        },
        "scale": scale,
        "positive_rate": float(clicks.mean()),
        "slots": {name: {"ids": int(n), "width": int(r)} for name, n, r in zip(names, sizes, widths, strict=True)},
    }
    return table, truth


def bayes_auc(signal: np.ndarray, scale: float, noise: float) -> float:
    """Expected AUC of the best possible score: the signal itself ranks rows as P(label = 1 | signal) does.

    Over all pairs of rows, P(first is 1, second is 0, first ranked higher) / P(first is 1, second is 0).
    """
    ordered = np.sort(signal)
    ones = _marginal(scale * ordered, noise)
    zeros = 1.0 - ones
    below = np.cumsum(zeros) - zeros
    return float((ones * (below + 0.5 * zeros)).sum() / (ones.sum() * zeros.sum()))


def _name(slot: int) -> str:
    return f"s{slot:02d}"


def _widths(sizes: np.ndarray, width: int, rng: np.random.Generator) -> np.ndarray:
    """True widths; the largest one twice (else the second slot's could not be seen from the others), 0 once."""
    choices = [[r for r in WIDTHS if r <= min(width, n - 1)] for n in sizes]
    widths = np.array([rng.choice(c) for c in choices])
    largest = max(choices[-1])
    able = [i for i, c in enumerate(choices) if largest in c]
    places = rng.permutation(able)[:2]
    widths[places] = largest
    others = np.setdiff1d(np.arange(len(sizes)), places)
    widths[rng.choice(others)] = 0
    return widths


def _zipf(ids: int) -> np.ndarray:
    law = 1.0 / np.arange(1, ids + 1) ** ZIPF
    return law / law.sum()


def _latents(law: np.ndarray, width: int, rng: np.random.Generator) -> np.ndarray:
    """n x r, mean 0 and covariance I under the law."""
    z = rng.standard_normal((len(law), width))
    if not width:
        return z
    z -= law @ z
    values, vectors = np.linalg.eigh((z * law[:, None]).T @ z)
    return z @ (vectors / np.sqrt(values)) @ vectors.T


def _signal(ids: np.ndarray, latents: list[np.ndarray], widths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Signal of each row, variance about 1."""
    slots = [i for i, r in enumerate(widths) if r]
    weights = _balanced(widths[slots])
    z = {i: latents[i] * weights[k] for k, i in enumerate(slots)}
    linear, pairs = np.zeros(len(ids)), np.zeros(len(ids))
    for i in slots:
        direction = rng.standard_normal(widths[i])
        linear += (latents[i] @ direction)[ids[:, i]]
    for a, i in enumerate(slots):
        rows = z[i][ids[:, i]]
        for j in slots[a + 1 :]:
            left, _, right = np.linalg.svd(rng.standard_normal((widths[i], widths[j])), full_matrices=False)
            pairs += np.einsum("nr,nr->n", rows, (z[j] @ (left @ right).T)[ids[:, j]])
    return np.sqrt(LINEAR) * linear / max(linear.std(), 1e-12) + np.sqrt(1 - LINEAR) * pairs / max(pairs.std(), 1e-12)


def _balanced(widths: np.ndarray) -> np.ndarray:
    """Weights w with w_i^2 sum_{j != i} w_j^2 min(r_i, r_j) proportional to r_i (symmetric Sinkhorn scaling)."""
    shared = np.minimum.outer(widths, widths).astype(float)
    np.fill_diagonal(shared, 0.0)
    squares = np.ones(len(widths))
    for _ in range(2000):
        squares = np.sqrt(squares * widths / np.maximum(shared @ squares, 1e-12))
    return np.sqrt(squares)


def _calibrated(signal: np.ndarray, noise: float, auc: float) -> float:
    """The scale at which the Bayes AUC is `auc` (or the largest tried, where the noise forbids it)."""
    low, high = 0.0, 64.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if bayes_auc(signal, middle, noise) < auc else (low, middle)
    return (low + high) / 2


def _marginal(logits: np.ndarray, noise: float) -> np.ndarray:
    """E[sigmoid(logit + noise * standard normal)], by Gauss-Hermite quadrature."""
    if not noise:
        return _sigmoid(logits)
    nodes, weights = np.polynomial.hermite_e.hermegauss(15)
    weights = weights / weights.sum()
    return np.sum([w * _sigmoid(logits + noise * x) for x, w in zip(nodes, weights, strict=True)], axis=0)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * x))
