"""What serving in fewer bits takes from the worth of dimensions: width against precision in one currency. Torch-free.

autodim's own (no paper). Rounding moves each stored number z_k of a row by e_k, with mean square q_k (measured on
sampled rows, at every width: a wider row has a wider range and so coarser steps) and independent of the rest. Through
a projection P the slot's vector moves by `e P`, and the loss by `1/2 E[e P H P^T e^T] = 1/2 sum_k q_k (P H P^T)_kk`,
with H the curvature that spectral cuts rank by. In the basis of a spectral cut `(P H P^T)_kk = lambda_k / Var(z_k)` (up
to the ridge): rounding takes from a dimension the same share of its worth as of its variance. That second form needs no
curvature, and is what scores of other strategies are reduced by: `s_k q_k / Var(z_k)`.

Rows count as often as training read them. A bag counts as one row (its mean rounds less, its sum more).

Letters: D common width, m sampled rows, r kept dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from autodim.dimension.curves import Floats
from autodim.dimension.factor import Factors
from autodim.dimension.problem import Problem
from autodim.dimension.statistics import Statistics
from autodim.embedding.precision import PRECISIONS, Precision
from autodim.embedding.quantise import rounded
from autodim.errors import RunError

Losses = Mapping[str, Mapping[Precision, Floats]]


def scored_losses(
    problem: Problem, statistics: Statistics | None, scores: Mapping[str, Floats], order: Mapping[str, NDArray[np.intp]]
) -> Losses | None:
    """Per table and precision what rounding takes from the scores of 0 .. D kept dimensions; None: nothing is chosen.

    Cost: 2 D roundings of the sampled rows a table.

    Args:
        scores: per table D worths. order: per table the dimensions as they are kept.

    Raises:
        RunError: no sampled rows.
    """
    rows = _rows(problem, statistics)
    if rows is None:
        return None
    found = {}
    for table in problem.limits:
        z, worth = rows[table][:, order[table]], scores[table][order[table]]
        variance = z.var(0)
        weight = np.divide(worth, variance, out=np.zeros_like(worth), where=variance > 0)
        found[table] = _losses(z, weight)
    return found


def spectral_losses(
    problem: Problem, statistics: Statistics | None, factors: Mapping[str, Factors], total: float
) -> Losses | None:
    """The same for spectral cuts, by the curvature itself, in the unit of lambda / total.

    A table that is stored whole keeps its own basis: at width D the loss is that of rounding the uncut table.

    Raises:
        RunError: no sampled rows.
    """
    rows = _rows(problem, statistics)
    if rows is None:
        return None
    found = {}
    for table, f in factors.items():
        curvature = np.sum([m.curvature for m in f.moments.values()], axis=0) / total
        losses = _losses(rows[table] @ f.encoders, np.einsum("kd,de,ke->k", f.decoders, curvature, f.decoders))
        whole = _losses(rows[table], np.diag(curvature))
        for precision in PRECISIONS:
            losses[precision][-1] = whole[precision][-1]
        found[table] = losses
    return found


def _rows(problem: Problem, statistics: Statistics | None) -> Mapping[str, Floats] | None:
    if problem.settings.precision != "auto" or problem.cost.unit != "serving_bytes":
        return None
    found = None if statistics is None else statistics.extra.get("rows")
    if not isinstance(found, Mapping) or any(t not in found for t in problem.limits):
        raise RunError(
            "prune.precision: auto needs sampled rows of the trained tables (statistics.extra['rows']); found none; "
            "choose one precision for all: prune.precision=int8"
        )
    return found


def _losses(z: Floats, weight: Floats) -> dict[Precision, Floats]:
    """Per precision, for the first 0 .. D columns of z (m x D), the sum of `weight_k q_k`."""
    table = z.astype(np.float32)
    found: dict[Precision, Floats] = {p: np.zeros(z.shape[1] + 1) for p in PRECISIONS}
    for precision in ("fp16", "int8"):
        for width in range(1, z.shape[1] + 1):
            error = rounded(table[:, :width], precision).astype(np.float64) - table[:, :width]
            found[precision][width] = np.square(error).mean(0) @ weight[:width]
    return found
