"""Random scores."""

from __future__ import annotations

from hashlib import sha256

import numpy as np

from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import Budget
from autodim.dimension.problem import Problem
from autodim.dimension.scores import Floats
from autodim.dimension.statistics import Statistics
from autodim.dimension.strategies.assemble import best_dimensions


def by_chance(problem: Problem, budget: Budget, statistics: Statistics | None) -> Allocation:
    """Random: scores drawn uniformly from 0 to 1 (the floor that any score should beat).

    The draw depends on `prune.seed` and the table's name alone, so slots may be reordered or added freely.

    Raises:
        BudgetError: the smallest allocation does not fit.

    Cost: none.

    Differs from the paper: a baseline without one paper; ranks like `sseds`, so that only the scores differ.
    """
    scores = {table: _draw(problem.seed, table, problem.common) for table in problem.limits}
    return best_dimensions(problem, budget, "random", scores, "a draw", statistics)


def _draw(seed: int, table: str, common: int) -> Floats:
    key = sha256(f"{seed}/{table}".encode()).digest()
    return np.random.default_rng(int.from_bytes(key[:16], "big")).random(common)
