"""What every solver of gradient weights shares: from a Gramian to weights, and what happens when there is nothing to
solve.

Letters: T tasks, n tasks present in a step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor


class Solver:
    """Weights from the Gramian of the present tasks.

    Attributes:
        scale: what the weights of tasks without any conflict add up to: `count`, the number of tasks (weights of about
            1, as in the plain sum), or `one` (shares).
    """

    scale: Literal["count", "one"] = "count"

    def solve(self, gramian: Tensor, tasks: Sequence[int], generator: torch.Generator | None) -> Tensor:
        """n weights, float64.

        Args:
            gramian: n x n float64 on the CPU; every diagonal entry is above 0.
            tasks: which of the T tasks these n are, ascending.
            generator: of random orders; None: torch's own.
        """
        raise NotImplementedError

    def state(self) -> dict[str, Tensor]:
        """What a restart needs, as tensors by name."""
        return {}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """The reverse of `state`."""


def solve_present(
    solver: Solver, gramian: Tensor, kept: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, bool]:
    """Weights of all T tasks, whatever the Gramian.

    A task whose gradient is zero (it is absent from the batch) is left out of the problem and keeps its weight. With
    fewer than two tasks left, or a Gramian that is not finite, the present tasks get equal weights.

    Args:
        gramian: T x T float64. kept: T, the weights of the step before.

    Returns:
        T weights float64, and whether there was nothing to solve.
    """
    diagonal = gramian.diagonal().tolist()
    present = [t for t, square in enumerate(diagonal) if square > 0]
    if not bool(torch.isfinite(gramian).all()):
        present = list(range(len(diagonal)))
        found = _equal(solver, len(present))
    elif len(present) > 1:
        part = gramian if len(present) == len(diagonal) else gramian[present][:, present]
        found = solver.solve(part, present, generator)
        if bool(torch.isfinite(found).all()):
            return (found if len(present) == len(diagonal) else _placed(kept, present, found)), False
        found = _equal(solver, len(present))
    else:
        found = _equal(solver, len(present))
    return _placed(kept, present, found), True


def equal_weights(solver: Solver, count: int) -> Tensor:
    """What a step without any solution uses, T float64: 1 each, or 1 / T each."""
    return _equal(solver, count)


def _equal(solver: Solver, count: int) -> Tensor:
    return torch.full((count,), 1.0 if solver.scale == "count" else 1 / max(count, 1), dtype=torch.float64)


def _placed(kept: Tensor, present: Sequence[int], found: Tensor) -> Tensor:
    weights = kept.double().clone()
    weights[list(present)] = found
    return weights


def cosines(gramian: Tensor) -> list[float]:
    """Cosines of the pairs (i, j), i < j, row by row; NaN where a gradient is zero."""
    table = gramian.tolist()
    norms = [math.sqrt(max(table[i][i], 0.0)) for i in range(len(table))]
    found = []
    for i, row in enumerate(table):
        for j in range(i + 1, len(table)):
            length = norms[i] * norms[j]
            found.append(row[j] / length if length > 0 else math.nan)
    return found
