"""What a spectral cut knows of one slot: means and products of its vectors and gradients. Torch-free.

Letters: D common width, v a pooled slot vector (a row of D numbers), g the gradient of one example's loss by v.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over the uses of one slot, in float64; those of disjoint batches add up where the shift is the same.

    Attributes:
        count: uses, one an example unless the slot's module is used several times for some and not at all for others.
        examples: all that were scored, those without a use among them.
        shift: D, subtracted from v before anything is multiplied (any vector near the mean keeps the digits).
        vectors: D, sum of v - shift.
        gradients: D, sum of g.
        squares: D x D, sum of (v - shift)^T (v - shift).
        cross: D x D, sum of (v - shift)^T g.
        curvature: D x D, sum of the curvature's outer products.
    """

    count: int
    examples: int
    shift: Floats
    vectors: Floats
    gradients: Floats
    squares: Floats
    cross: Floats
    curvature: Floats

    @property
    def saliency(self) -> Floats:
        """D, sum of v g: SSEDS's signed score of each dimension (the diagonal of the cross products, shift undone)."""
        return np.diag(self.cross) + self.shift * self.gradients

    def __add__(self, other: Sums) -> Sums:
        assert np.array_equal(self.shift, other.shift), "sums add up about one shift"
        pairs = (
            (getattr(self, name), getattr(other, name))
            for name in ("vectors", "gradients", "squares", "cross", "curvature")
        )
        counts = self.count + other.count, self.examples + other.examples
        return Sums(*counts, self.shift, *(a + b for a, b in pairs))


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of one slot over the scored examples (METHODS 1.2).

    A slot whose module is used several times an example (a sequence of ids) has a v and a g for each use. What the mean
    loss says is then summed over the uses of an example: E below is a mean over examples, of such a sum; means and
    covariances are over uses.

    Attributes:
        count: uses; examples, where each has one.
        mean: mu, the mean of v, D.
        gradient: E[g], D.
        covariance: C, the covariance of v, D x D.
        cross: M = E[(v - mu)^T g], D x D: the first-order term of a cut is linear in it.
        curvature: H, D x D, of the loss by v: Gauss-Newton or empirical Fisher.
    """

    count: int
    mean: Floats
    gradient: Floats
    covariance: Floats
    cross: Floats
    curvature: Floats

    @staticmethod
    def of(sums: Sums) -> Moments:
        """Moments of sums over at least one use."""
        n, examples = sums.count, sums.examples
        offset, gradient = sums.vectors / n, sums.gradients / examples
        covariance = sums.squares / n - np.outer(offset, offset)
        return Moments(
            count=n,
            mean=sums.shift + offset,
            gradient=gradient,
            covariance=_symmetric(covariance),
            cross=sums.cross / examples - np.outer(offset, gradient),
            curvature=_symmetric(sums.curvature / examples),
        )

    @property
    def saliency(self) -> Floats:
        """E[v * g], D: SSEDS's signed saliencies a scored example."""
        return np.diag(self.cross) + self.mean * self.gradient

    def change(self, matrix: Floats, constant: Floats) -> float:
        """Predicted change of the mean loss, in nats, when every v becomes `v @ matrix + constant`.

        `E[g . e] + 1/2 E[e H e^T]` with `e = v (matrix - I) + constant`, v taken as independent of the curvature;
        what other slots (and other uses of the same example) change is ignored.

        Args:
            matrix: D x D.
            constant: D.
        """
        residual = matrix - np.eye(len(self.mean))
        shift = self.mean @ residual + constant
        first = np.sum(self.cross * residual) + self.gradient @ shift
        second = np.trace(residual.T @ self.covariance @ residual @ self.curvature) + shift @ self.curvature @ shift
        return float(first + 0.5 * second)


def _symmetric(matrix: Floats) -> Floats:
    return (matrix + matrix.T) / 2
