"""PE-LTR (Lin et al., RecSys 2019): the shortest mixture of the gradients in which every task keeps a least weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from autodim.weighting.simplex import bordered, least_norm, nearest
from autodim.weighting.solver import Solver


def pe_ltr_weights(gramian: Tensor, floors: Sequence[float], solve: Literal["paper", "exact"] = "paper") -> Tensor:
    """`w_t >= c_t`, `sum w = 1` with a small `|sum w_t g_t|` (problem 2).

    Args:
        gramian: T x T.
        floors: T numbers c_t >= 0, their sum below 1.
        solve: `paper`: the problem with the equality alone, then the nearest point that keeps the floors (algorithm 2);
            `exact`: the optimum itself. They agree for two tasks, and not always above.

    Returns:
        T float64.
    """
    table = gramian.double().cpu().numpy()
    floor = np.asarray(floors, dtype=np.float64)
    rest = 1.0 - float(floor.sum())
    scale = float(table.diagonal().max())
    if scale > 0:
        table = table / scale
    pull = table @ floor
    if solve == "paper":
        # w = c + v: v K v / 2 + v K c is least where K v + K c + lambda 1 = 0 and sum v = rest
        return torch.from_numpy(floor + nearest(bordered(table, pull, rest), rest))
    # w = c + rest v with v on the simplex: sum w_t g_t = sum v_t (rest g_t + sum c g), a problem of least norm again
    points = rest * rest * table + rest * (pull[:, None] + pull[None]) + float(floor @ pull)
    return torch.from_numpy(floor + rest * least_norm(points))


class PELTR(Solver):
    """PE-LTR as a solver.

    Args:
        floors: T numbers c_t >= 0, their sum below 1.
        solve: see `pe_ltr_weights`.

    Differs from the paper: the projection is on weights that sum to 1, as the problem asks, where the released code's
    sum exceeds it by the floors.
    """

    scale: Literal["count", "one"] = "one"

    def __init__(self, floors: Sequence[float], solve: Literal["paper", "exact"] = "paper"):
        if min(floors) < 0 or not sum(floors) < 1:
            raise ValueError(f"floors must not be negative and must sum to less than 1; found {list(floors)}")
        self.floors, self.how = list(floors), solve

    def solve(self, gramian: Tensor, tasks: Sequence[int], generator: torch.Generator | None) -> Tensor:
        return pe_ltr_weights(gramian, [self.floors[t] for t in tasks], self.how)
