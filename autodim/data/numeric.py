"""Numbers into buckets (which become ids) or into standardised values (which go to the dense part)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from autodim.data.text import TEXT, Coded

SKEWED = 2.0  # an exponential distribution's skewness
CLIP = 100.0  # standard deviations; keeps a wild value of a later log finite in float32
_LARGE = 1_000_000  # beyond any floor(log(x)^2) of a float64


@dataclass(frozen=True)
class Scale:
    """Standardisation of one numeric column, from its training rows.

    Attributes:
        mean, std: of the (transformed) values; std 1 for a constant column.
        log: values go through sign(x) log(1 + |x|) first.
    """

    mean: float
    std: float
    log: bool

    def apply(self, values: np.ndarray) -> np.ndarray:
        """N float64 -> N float32 within +-CLIP; missing (NaN) becomes 0, the mean."""
        scaled = ((squash(values) if self.log else values) - self.mean) / self.std
        return np.nan_to_num(np.clip(scaled, -CLIP, CLIP), nan=0.0).astype(np.float32)


def squash(values: np.ndarray) -> np.ndarray:
    """sign(x) log(1 + |x|): tames long tails on both sides."""
    return np.sign(values) * np.log1p(np.abs(values))


def fit_scale(values: np.ndarray) -> Scale:
    """Mean and deviation of training values; `log` where the skewness is above 2 and the logarithm lowers it.

    Args:
        values: N float64; NaN is missing.
    """
    values = values[~np.isnan(values)]
    if not len(values):
        return Scale(0.0, 1.0, False)
    squashed = squash(values)
    log = abs(_skewness(values)) > max(SKEWED, abs(_skewness(squashed)))
    used = squashed if log else values
    mean, std = float(used.mean()), float(used.std())
    return Scale(mean, std if std > 1e-12 * max(1.0, abs(mean)) else 1.0, bool(log))


def quantile_edges(values: np.ndarray, bins: int) -> tuple[float, ...]:
    """Inner edges of `bins` buckets with about equally many training values; ties may leave fewer buckets."""
    values = values[~np.isnan(values)]
    if not len(values):
        return ()
    return tuple(float(e) for e in np.unique(np.quantile(values, np.arange(1, bins) / bins)))


def quantile_buckets(values: np.ndarray, edges: tuple[float, ...]) -> Coded:
    """Bucket texts `q0` .. `q<edges>`; a value equal to an edge belongs above it."""
    codes = np.searchsorted(np.array(edges), values, side="right").astype(np.int32)
    codes[np.isnan(values)] = -1
    return Coded(codes, pa.array([f"q{i}" for i in range(len(edges) + 1)], TEXT))


def log_square_buckets(values: np.ndarray) -> Coded:
    """Bucket texts: `L<floor(log(x)^2)>` above 2 (as in the Criteo challenge's winning preprocessing), mirrored as
    `-L...` below -2, and the floor itself from -2 to 2."""
    size = np.abs(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        large = _LARGE + np.floor(np.log(size) ** 2)
    whole = np.where(size > 2, np.where(values > 0, large, -large), np.floor(values))
    codes = pa.array(np.nan_to_num(whole).astype(np.int32), mask=np.isnan(values)).dictionary_encode()
    texts = [_bucket_text(i) for i in codes.dictionary.to_pylist()]
    return Coded(codes.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32), pa.array(texts, TEXT))


def _bucket_text(bucket: int) -> str:
    if abs(bucket) < _LARGE:
        return str(bucket)
    return f"{'-' if bucket < 0 else ''}L{abs(bucket) - _LARGE}"


def _skewness(values: np.ndarray) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        centred = values - values.mean()
        variance = float(np.mean(centred**2))
        third = float(np.mean(centred**3))
    return third / variance**1.5 if 0 < variance < np.inf else 0.0
