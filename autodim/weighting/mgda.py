"""MGDA (Sener & Koltun, NeurIPS 2018, arXiv 1810.04650): the shortest vector among all mixtures of the gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from autodim.weighting.simplex import least_norm
from autodim.weighting.solver import Solver


def mgda_weights(gramian: Tensor) -> Tensor:
    """`w >= 0`, `sum w = 1` with the smallest `|sum w_t g_t|` (equation 3).

    Two tasks: `clip((K22 - K12) / (K11 + K22 - 2 K12), 0, 1)` on the first. It favours the small gradient: norms 1 and
    .1 at a right angle give .0099 to the large one.

    Args:
        gramian: T x T.

    Returns:
        T float64.
    """
    return torch.from_numpy(least_norm(gramian.double().cpu().numpy()))


class MGDA(Solver):
    """MGDA as a solver.

    Differs from the paper: the exact solution for any number of tasks, where the paper iterates Frank-Wolfe; the
    shared representation instead of the shared parameters (its MGDA-UB) is the mode `representation`.
    """

    scale: Literal["count", "one"] = "one"

    def solve(self, gramian: Tensor, tasks: Sequence[int], generator: torch.Generator | None) -> Tensor:
        return mgda_weights(gramian)
