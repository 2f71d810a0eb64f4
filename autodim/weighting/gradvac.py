"""GradVac (Wang et al., ICLR 2021, arXiv 2010.05874): gradients are turned until they agree as much as they used to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from autodim.weighting.solver import Solver

LARGEST = 1 - 1e-9  # of a target cosine: at 1 there is no finite turn that reaches it


def gradvac_weights(
    gramian: Tensor, targets: Tensor, beta: float = 0.01, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Weights of the sum of the turned gradients, and the new targets (equations 3 and 5).

    Where the cosine `phi` of `g_i'` and `g_j` is below its target, `g_i' += omega g_j`, after which they are equal:
    `omega = |g_i'| (target sqrt(1 - phi^2) - phi sqrt(1 - target^2)) / (|g_j| sqrt(1 - target^2))`.
    Then, always, `target = (1 - beta) target + beta phi`.

    Args:
        gramian: T x T, every diagonal entry above 0.
        targets: T x T, one per ordered pair; zeros at the start. All zero and beta 0 gives PCGrad.
        beta: of the moving average, in [0, 1].
        generator: of the orders, one permutation of the T - 1 others a task; None: torch's own.

    Returns:
        T and T x T, float64.
    """
    table, goal = gramian.double().tolist(), targets.double().tolist()
    count = len(table)
    total = [0.0] * count
    for i in range(count):
        row = [float(k == i) for k in range(count)]  # g_i' = sum_k row[k] g_k
        products = list(table[i])  # g_i'.g_k
        others = [j for j in range(count) if j != i]
        order = torch.randperm(count - 1, generator=generator).tolist() if count > 2 else range(count - 1)
        for j in (others[k] for k in order):
            norm = math.sqrt(max(sum(a * b for a, b in zip(products, row, strict=True)), 0.0))
            other = math.sqrt(table[j][j])
            if norm * other == 0:
                continue
            phi = min(max(products[j] / (norm * other), -1.0), 1.0)
            wanted = min(max(goal[i][j], -LARGEST), LARGEST)
            if phi < wanted:
                slack = math.sqrt(1 - wanted * wanted)
                omega = norm * (wanted * math.sqrt(1 - phi * phi) - phi * slack) / (other * slack)
                row[j] += omega
                products = [p + omega * k for p, k in zip(products, table[j], strict=True)]
            goal[i][j] = (1 - beta) * goal[i][j] + beta * phi
        total = [a + b for a, b in zip(total, row, strict=True)]
    return torch.tensor(total, dtype=torch.float64), torch.tensor(goal, dtype=torch.float64)


class GradVac(Solver):
    """GradVac as a solver; it remembers a target per ordered pair of tasks.

    Args:
        count: T.
        beta: see `gradvac_weights`.

    Differs from the paper: nothing; one solver is one group of parameters, everything shared (its `whole_model`) or,
    with `autodim.weighting.groups`, the tables or a layer (its `all_layer`).
    """

    def __init__(self, count: int, beta: float = 0.01):
        if not 0 <= beta <= 1:
            raise ValueError(f"beta must be in [0, 1]; found {beta}")
        self.beta = beta
        self.targets = torch.zeros(count, count, dtype=torch.float64)

    def solve(self, gramian: Tensor, tasks: Sequence[int], generator: torch.Generator | None) -> Tensor:
        rows = torch.tensor(list(tasks))
        place = rows[:, None], rows[None]
        weights, self.targets[place] = gradvac_weights(gramian, self.targets[place], self.beta, generator)
        return weights

    def state(self) -> dict[str, Tensor]:
        return {"targets": self.targets.clone()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        self.targets = tensors["targets"].clone()
