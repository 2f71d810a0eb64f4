"""The first-order part of FM, DeepFM and Wide & Deep."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autodim.models.mlp import xavier_


class FirstOrder(nn.Module):
    """`sum_i w_i + numeric . u_t + b_t`: the sum of the ids' own weights and a linear term of the numeric columns.

    Args:
        numeric: n.
        tasks: T. The ids' weights are shared by all tasks (the tables keep one per id); u and b are each task's own.
        bias: add b; leave it out where another part of the model has one already.
    """

    def __init__(self, numeric: int, tasks: int, bias: bool):
        super().__init__()
        self.numeric_weight = nn.Parameter(torch.empty(tasks, numeric))
        self.bias = nn.Parameter(torch.zeros(tasks)) if bias else None
        xavier_(self.numeric_weight, numeric, tasks)

    def forward(self, linear: Tensor | None, numeric: Tensor) -> Tensor:
        """B x T; `linear` B x S or None (no first-order weights), `numeric` B x n."""
        out = F.linear(numeric, self.numeric_weight, self.bias)
        return out if linear is None else out + linear.sum(1, keepdim=True)
