"""SAM: sharpness-aware minimisation (Foret et al., ICLR 2021, arXiv 2010.01412)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from autodim.optim.leaves import TINY, Gradients, leaf_offsets, row_gradients, total_norm

if TYPE_CHECKING:
    from autodim.embedding.lookup import Lookup


def sam_perturbation(gradients: Sequence[Tensor | None], rho: float = 0.05) -> Gradients:
    """`rho g / (||g|| + 1e-12)`, one norm over all tensors (equation 2 with p = 2).

    Args:
        gradients: of all parameters, any shapes; None stays None.
    """
    scale = rho / (total_norm(gradients) + TINY)
    return [None if g is None else g * scale for g in gradients]


class SAM:
    """The perturbation of SAM, for the step protocol and for `autodim.optim.two_pass.TwoPass`.

    Args:
        rho: radius, >= 0. 0 is the base optimizer, to the bit.

    One norm over the tables' unique rows (the out-of-vocabulary rows too) and the dense parameters together.

    Differs from the paper: nothing; the tables' gradients are taken at the looked-up vectors, which is the same.

    Cost: a second forward and backward pass from the same lookup; a copy of the dense parameters, none of a table.
    """

    def __init__(self, rho: float = 0.05):
        if rho < 0:
            raise ValueError(f"rho must not be negative; found {rho}")
        self.rho = rho

    def offsets(self, gradients: Gradients, lookup: Lookup, dense: Sequence[nn.Parameter]) -> Gradients:
        """What to add to the leaves and to the dense parameters; see `autodim.training.step.Perturbation`."""
        rows = row_gradients(gradients, lookup)
        moves = sam_perturbation([*rows, *gradients[len(rows) :]], self.rho)
        return [*leaf_offsets(moves[: len(rows)], lookup), *moves[len(rows) :]]

    def __call__(self, weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> Gradients:
        """What to add to plain weights, for `TwoPass`."""
        return sam_perturbation(gradients, self.rho)
