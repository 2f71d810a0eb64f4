"""Factorization machine (Rendle, ICDM 2010)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from autodim.embedding.vectors import SlotVectors, Stacked
from autodim.models.base import Model
from autodim.models.first_order import FirstOrder

if TYPE_CHECKING:
    from autodim.config.schema import ModelConfig


class _PairSum(torch.autograd.Function):
    """`1/2 (|s|^2 - sum_i |v_i|^2)` with `s = sum_i v_i`, and its gradient `g (s - v)` in one pass.

    Autograd's own formula would write v^2 and 2 v g, both B x S x D, and read v once more. `s` is an output, so that
    the backward is itself made of recorded operations: second derivatives (Hessian-vector products) are exact. The
    vectors themselves are an output too: who else reads them reads that one, and its gradient is added on the way
    instead of in a B x S x D tensor of its own.
    """

    @staticmethod
    def forward(ctx: Any, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        wide = torch.promote_types(vectors.dtype, torch.float32)  # bf16 vectors are summed in float32
        total = vectors.sum(1, dtype=wide)  # B x D
        # vector_norm reduces without writing the squares
        squares = torch.linalg.vector_norm(vectors.flatten(1), dim=1, dtype=wide).square()
        ctx.save_for_backward(vectors, total)
        ctx.set_materialize_grads(False)
        return (total.square().sum(1) - squares) * 0.5, total, vectors.view_as(vectors)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        vectors, total = ctx.saved_tensors
        by_value, by_total, gradient = grads  # the last: of whatever else read the vectors
        if by_value is not None and gradient is not None:
            factor = by_value[:, None]
            gradient = torch.addcmul(gradient, vectors, factor[:, None], value=-1).add_((factor * total)[:, None])
        elif by_value is not None:
            factor = by_value[:, None]
            gradient = torch.addcmul((factor * total)[:, None], vectors, factor[:, None], value=-1)
        if by_total is not None:  # only in a second derivative
            spread = by_total[:, None].expand(vectors.shape)
            gradient = spread if gradient is None else gradient + spread
        return None if gradient is None else gradient.to(vectors.dtype)


def pair_sum(vectors: Tensor) -> Tensor:
    """`sum over slot pairs i < j of <v_i, v_j>` (Rendle 2010, lemma 3.1), linear in S.

    Args:
        vectors: B x S x D, floating point; S = 0 gives 0.

    Returns:
        B (at least float32). Differentiable to any order.

    Cost: two reads of the vectors forward; backward one read and one write. No B x S x D temporary forward.
    """
    return _PairSum.apply(vectors)[0]


def pairs(slots: SlotVectors) -> tuple[Tensor, SlotVectors]:
    """`pair_sum` of what a model is given, B, and the same slot vectors for the model's other parts to read.

    Uniform vectors are read as they lie, narrow ones without widening them.
    """
    if isinstance(slots, Stacked):
        value, _, vectors = _PairSum.apply(slots.vectors)
        return value, Stacked(vectors)
    return (slots.total().square().sum(1) - slots.squares()) * 0.5, slots


class FM(Model):
    """Factorization machine: first-order weights and the inner product of every pair of slots.

    `logit = b + sum_i w_i + numeric . u + sum_{i<j} <v_i, v_j>` (Rendle 2010, equation 1).

    Args:
        numeric: n.
        tasks: T. The pairs and the ids' weights are the same for all tasks; only b and u are a task's own.

    Differs from the paper: numeric columns have a linear term and no vectors; several tasks share the pairs.

    Cost: memory traffic of the vectors alone, no matrices; bound by the lookup.
    """

    uses_linear = True

    def __init__(self, numeric: int, tasks: int = 1):
        super().__init__()
        self.first_order = FirstOrder(numeric, tasks, bias=True)

    @classmethod
    def from_config(cls, config: ModelConfig, slots: int, numeric: int, tasks: int) -> FM:
        return cls(numeric, tasks)

    def forward(self, slots: SlotVectors, linear: Tensor | None, numeric: Tensor) -> Tensor:
        return self.first_order(linear, numeric) + pairs(slots)[0][:, None]

    def head(self) -> list[nn.Parameter]:
        return list(self.first_order.parameters())
