"""ASAM: adaptive SAM, whose radius follows the size of each weight (Kwon et al., ICML 2021, arXiv 2102.11600)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from autodim.optim.leaves import TINY, Gradients, leaf_offsets, leaf_tables, row_gradients, total_norm

if TYPE_CHECKING:
    from autodim.embedding.lookup import Lookup


def asam_perturbation(
    weights: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    biases: Sequence[bool],
    rho: float = 0.5,
    eta: float = 0.01,
) -> Gradients:
    """`rho T^2 g / ||T g||`, T = |w| + eta on weights and 1 on biases, one norm over all tensors (algorithm 1).

    Args:
        weights: as many as gradients, of their shapes.
        gradients: of all parameters; None stays None.
        biases: per tensor, whether it is a bias.
    """
    sizes = [
        None if g is None or bias else w.detach().abs().add_(eta)
        for w, g, bias in zip(weights, gradients, biases, strict=True)
    ]
    scaled = [g if g is None or t is None else g * t for g, t in zip(gradients, sizes, strict=True)]
    factor = rho / (total_norm(scaled) + TINY)
    return [
        None if s is None else s * factor if t is None else s * t * factor for s, t in zip(scaled, sizes, strict=True)
    ]


class ASAM:
    """The perturbation of ASAM, for the step protocol and for `autodim.optim.two_pass.TwoPass`.

    Args:
        rho: radius, >= 0; ten times SAM's, since it is measured in the weights' own sizes. 0 is the base optimizer.
        eta: keeps T above 0, > 0.
        biases: parameters with T = 1. None: all dense parameters of at most one dimension.

    One norm over the tables' unique rows and the dense parameters together.

    Differs from the paper: by default the scales of batch norm count as biases.

    Cost: as SAM, and one more gather of the batch's rows.
    """

    def __init__(self, rho: float = 0.5, eta: float = 0.01, biases: Iterable[nn.Parameter] | None = None):
        if rho < 0 or eta <= 0:
            raise ValueError(f"rho must not be negative and eta must be positive; found rho={rho}, eta={eta}")
        self.rho, self.eta = rho, eta
        self.biases = None if biases is None else {id(p) for p in biases}

    def offsets(self, gradients: Gradients, lookup: Lookup, dense: Sequence[nn.Parameter]) -> Gradients:
        """What to add to the leaves and to the dense parameters; see `autodim.training.step.Perturbation`."""
        rows = row_gradients(gradients, lookup)
        read = [t.detach().index_select(0, p.unique.rows) for p, t in leaf_tables(lookup)]
        found = [*rows, *gradients[len(rows) :]]
        biases = [*(False for _ in rows), *map(self._is_bias, dense)]
        moves = asam_perturbation([*read, *dense], found, biases, self.rho, self.eta)
        return [*leaf_offsets(moves[: len(rows)], lookup), *moves[len(rows) :]]

    def __call__(self, weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> Gradients:
        """What to add to plain weights, for `TwoPass`."""
        return asam_perturbation(weights, gradients, [self._is_bias(w) for w in weights], self.rho, self.eta)

    def _is_bias(self, parameter: Tensor) -> bool:
        return parameter.dim() < 2 if self.biases is None else id(parameter) in self.biases
