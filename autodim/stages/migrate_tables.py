"""One table of a live model at another width.

Letters: n' rows of the table in the new ids, w its width, w' the new one, D common width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from autodim.dimension.entry import Entry
from autodim.dimension.factor import Factors, factorise
from autodim.dimension.moments import Moments


@dataclass(frozen=True)
class Stored:
    """A table as it was, in the new ids.

    Attributes:
        vectors: n' x D, what its rows mean. weight: n' x w, what is stored, or None. projection: w x D, or None.
    """

    vectors: Tensor
    weight: Tensor | None
    projection: Tensor | None


@dataclass(frozen=True)
class Changed:
    """A table at its new width: `weight` n' x w', `projection` w' x D, and the constants of its slots; `encoder` D x w'
    where the weight is the old vectors times it."""

    weight: Tensor | None
    projection: Tensor | None
    constants: dict[str, Tensor]
    encoder: Tensor | None = None


def changed(
    entry: Entry,
    was: Stored,
    constants: dict[str, Tensor],
    moments: Mapping[str, Moments],
    ridge: float,
    source: torch.Generator,
) -> Changed:
    """One table at another width.

    - Wider, still with a projection: the stored rows with zero columns, the projection with fresh rows: the same
      vectors.
    - Stored whole: its vectors; the mean of the slots' constants goes into the rows (the same vectors where one slot
      reads one id; an empty bag loses its constant).
    - Narrower: the spectral factors of the live vectors, about their mean where the entry has a bias.
    - Without a table: the mean of what each slot read, where the entry has a bias.
    """
    n, common = was.vectors.shape
    held = 0 if was.weight is None else was.weight.shape[1]
    if entry.width == 0:
        means = {s: constants[s] + torch.from_numpy(moments[s].mean).to(was.vectors) for s in entry.slots}
        return Changed(None, None, means if entry.bias else {})
    if not entry.projected:
        together = torch.stack([constants[s].to(was.vectors) for s in entry.slots]).mean(0)
        return Changed(was.vectors + together, None, {})
    if entry.width >= held:
        stored = was.vectors.new_zeros(n, 0) if was.weight is None else was.weight
        weight = torch.cat([stored, was.vectors.new_zeros(n, entry.width - held)], dim=1)
        scale = entry.width**-0.5 if was.projection is None else float(was.projection.std(correction=0))
        fresh = (torch.randn(entry.width - held, common, generator=source) * scale).to(was.vectors)
        projection = fresh if was.projection is None else torch.cat([was.projection, fresh])
        return Changed(weight, projection, constants)
    return cut_anew(entry, was.vectors, constants, moments, ridge)


def cut_anew(
    entry: Entry, vectors: Tensor, constants: Mapping[str, Tensor], moments: Mapping[str, Moments], ridge: float
) -> Changed:
    """The spectral cut of live vectors (n' x D) whose slots add constants besides."""
    factors = live_factors(moments, ridge, entry.bias)
    encoder, decoder = (
        torch.from_numpy(m.copy()).to(vectors.device)
        for m in (factors.encoder(entry.width), factors.decoder(entry.width))
    )
    weight = (vectors.double() @ encoder).to(vectors.dtype)
    shifts = {s: torch.from_numpy(factors.bias(s, entry.width)).to(vectors) for s in entry.slots}
    added = {s: constants[s] + shifts[s] for s in entry.slots} if entry.bias else dict(constants)
    return Changed(weight, decoder.to(vectors.dtype), added, encoder)


def live_factors(moments: Mapping[str, Moments], ridge: float, centred: bool) -> Factors:
    """Factors about the mean, or (for tables without a bias) about zero."""
    if centred:
        return factorise(moments, ridge)
    about_zero = {s: replace(m, covariance=m.covariance + np.outer(m.mean, m.mean)) for s, m in moments.items()}
    return factorise(about_zero, ridge)
