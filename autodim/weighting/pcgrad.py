"""PCGrad (Yu et al., NeurIPS 2020, arXiv 2001.06782): each gradient loses its part that points against another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from autodim.weighting.solver import Solver


def pcgrad_weights(gramian: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Weights of the sum of the projected gradients (algorithm 1).

    `g_i' -= (g_i'.g_j / |g_j|^2) g_j` for each j in random order where `g_i'.g_j < 0`. Two tasks in conflict:
    `1 - K12 / K11` and `1 - K12 / K22`.

    Args:
        gramian: T x T, every diagonal entry above 0.
        generator: of the orders, one permutation of T a task; None: torch's own.

    Returns:
        T float64.

    Cost: T^2 (T - 1) multiplications, no gradient is touched.
    """
    table = gramian.double().tolist()
    count = len(table)
    total = [0.0] * count
    for i in range(count):
        row = [0.0] * count  # g_i' = sum_k row[k] g_k
        row[i] = 1.0
        order = torch.randperm(count, generator=generator).tolist() if count > 2 else range(count)
        for j in order:
            if j == i:
                continue
            product = sum(a * b for a, b in zip(table[j], row, strict=True))
            if product < 0:
                row[j] -= product / table[j][j]
        total = [a + b for a, b in zip(total, row, strict=True)]
    return torch.tensor(total, dtype=torch.float64)


class PCGrad(Solver):
    """PCGrad as a solver.

    Differs from the paper: the order is drawn per task, as in its code; the algorithm leaves it open.
    """

    def solve(self, gramian: Tensor, tasks: Sequence[int], generator: torch.Generator | None) -> Tensor:
        return pcgrad_weights(gramian, generator)
