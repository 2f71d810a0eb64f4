"""The best low-rank cut of a table for the loss: encoder, decoder and bias from a slot's moments. Torch-free.

autodim's own (no paper; cf. second-order pruning, Hassibi & Stork 1993, in the coordinates of activation-aware low-rank
factorisation). A retrained slot has a projection, so a table may be cut along any basis. With C the covariance of the
slot's vector and H the curvature of the loss by it, the mean loss rises by `1/2 tr(R^T C R H)`, R = A P - I, when every
v becomes `mu + (v - mu) A P`. Among all A P of rank r the least rise is `1/2 sum_{k>r} lambda_k`, with lambda and U the
eigenvalues and eigenvectors of `H^{1/2} C H^{1/2}`, and is attained by `A = H^{1/2} U_r`, `P = U_r^T H^{-1/2}`.

Letters: D common width, n rows of the table, r kept dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from autodim.dimension.moments import Floats, Moments


@dataclass(frozen=True, eq=False)
class Factors:
    """Cuts of one table at every rank.

    Attributes:
        lambdas: D, descending, not negative; twice the predicted loss (nats) that each dimension saves.
        encoders: D x D; the first r columns are A.
        decoders: D x D; the first r rows are P.
        moments: per slot that reads the table.
    """

    lambdas: Floats
    encoders: Floats
    decoders: Floats
    moments: Mapping[str, Moments]

    def encoder(self, rank: int) -> Floats:
        """A, D x r: the new table is `E @ A`."""
        return self.encoders[:, :rank]

    def decoder(self, rank: int) -> Floats:
        """P, r x D: the block's projection."""
        return self.decoders[:rank]

    def bias(self, slot: str, rank: int) -> Floats:
        """`mu - mu A P`, D: what the slot adds, right for sum, mean and weighted pooling and for empty bags."""
        mean = self.moments[slot].mean
        return mean - mean @ self.encoder(rank) @ self.decoder(rank)

    def change(self, rank: int) -> float:
        """Predicted change of the mean loss at a rank, in nats, its first-order term included; 0 at rank D."""
        matrix = self.encoder(rank) @ self.decoder(rank) if rank < len(self.lambdas) else np.eye(len(self.lambdas))
        return sum(m.change(matrix, m.mean - m.mean @ matrix) for m in self.moments.values())


def factorise(moments: Mapping[str, Moments], ridge: float = 1e-6) -> Factors:
    """Factors of one table.

    Slots that share the table share A and P and have a bias each: their curvatures add up, and their covariances are
    averaged by the traces of their curvatures.

    Args:
        moments: per slot that reads the table; at least one.
        ridge: added to H's diagonal before its roots, as a share of its mean eigenvalue; keeps the inverse root finite.

    Returns:
        Columns of the encoder are scaled so that the new table's columns vary over the examples as much as the old
        ones did on average (learning rates keep their meaning); the decoder has the inverse. Signs are fixed.

    Cost: two eigen-decompositions of D x D.
    """
    parts = list(moments.values())
    common = len(parts[0].mean)
    curvature = np.sum([m.curvature for m in parts], axis=0)
    traces = np.array([max(float(np.trace(m.curvature)), 0.0) for m in parts])
    weights = traces / traces.sum() if traces.sum() > 0 else np.full(len(parts), 1 / len(parts))
    covariance = np.sum([w * m.covariance for w, m in zip(weights, parts, strict=True)], axis=0)
    level = traces.sum() / common
    # a slot that the loss does not depend on: no dimension is worth anything, and any basis is right
    metric = curvature + ridge * level * np.eye(common) if level > 0 else np.eye(common)
    values, vectors = np.linalg.eigh(metric)
    values = np.maximum(values, ridge * level if level > 0 else 1.0)
    root = (vectors * np.sqrt(values)) @ vectors.T
    inverse = (vectors / np.sqrt(values)) @ vectors.T
    lambdas, basis = np.linalg.eigh(root @ covariance @ root)
    lambdas, basis = np.maximum(lambdas[::-1], 0.0), basis[:, ::-1]
    encoders, decoders = root @ basis, basis.T @ inverse
    # The deviation of column k of `v A` is the root of lambda_k; below rounding a column carries nothing and stays.
    usual = np.sqrt(max(float(np.trace(covariance)), 0.0) / common)
    tiny = 1e-12 * max(float(lambdas[0]), np.finfo(np.float64).tiny)
    if usual == 0:  # every example has one vector, but for rounding
        lambdas = np.zeros(common)
    scale = np.where(lambdas > tiny, usual / np.sqrt(np.maximum(lambdas, tiny)), 1.0)
    scale *= _signs(encoders)
    if level <= 0:
        lambdas = np.zeros(common)
    return Factors(lambdas, encoders * scale, decoders / scale[:, None], dict(moments))


def worth(factors: Factors, moments: Mapping[str, Moments]) -> Floats:
    """What each kept dimension is worth by other moments of the same slots (a half of the rows): D numbers.

    Column k of A and row k of P stay; their spread and their curvature are measured anew. By the factors' own moments
    of a single slot these are the lambdas (up to the ridge).
    """
    found = np.zeros(len(factors.lambdas))
    for m in moments.values():
        spread = np.einsum("dk,de,ek->k", factors.encoders, m.covariance, factors.encoders)
        found += spread * np.einsum("kd,de,ke->k", factors.decoders, m.curvature, factors.decoders)
    return found


def _signs(encoders: Floats) -> Floats:
    """1 or -1 a column, so that its largest number is positive and a repeated cut is the same cut."""
    largest = encoders[np.abs(encoders).argmax(0), np.arange(encoders.shape[1])]
    return np.where(largest < 0, -1.0, 1.0)
