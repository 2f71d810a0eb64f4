"""What a model sees of the embedding side: S vectors of D numbers for each of B examples.

A model reads them by two questions only, so it never knows how wide a slot really is:
`stack()` gives the vectors themselves, and `linear(weight)` applies a linear map to all of them at once. Mixed
tables answer `linear` without ever widening the vectors: they fold each slot's projection into the map
(`(v P) W = v (P W)`), which reads sum(d_i) numbers per example instead of S x D.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


class SlotVectors(Protocol):
    """The face of the embedding side for one batch."""

    def stack(self) -> Tensor:
        """The slot vectors, B x S x D."""
        ...

    def linear(self, weight: Tensor) -> Tensor:
        """`stack().flatten(1) @ weight.T`; weight H x (S D) in slot-major order -> B x H."""
        ...


class Stacked:
    """Slot vectors that already lie in one tensor (uniform tables, a user's own model, tests).

    Args:
        vectors: B x S x D.
    """

    def __init__(self, vectors: Tensor):
        self.vectors = vectors

    def stack(self) -> Tensor:
        return self.vectors

    def linear(self, weight: Tensor) -> Tensor:
        return F.linear(self.vectors.flatten(1), weight)


class Concatenated:
    """Slot vectors of mixed widths before their projections.

    Args:
        groups: per group g of slots that share a width w_g and are projected alike: vectors B x S_g x w_g, the
            projection per slot S_g x w_g x D (None: identity, w_g = D), and the slots' positions (S_g).
            Slots in no group have no table: they read as zero, or as their bias.
        bias: S x D added to every example, or None.
        slots: S.
        common: D.
        like: gives the dtype and the device where no slot has a table.
    """

    def __init__(
        self,
        groups: list[tuple[Tensor, Tensor | None, list[int]]],
        bias: Tensor | None,
        batch: int,
        slots: int,
        common: int,
        like: Tensor,
    ):
        self.groups = groups
        self.bias = bias
        self.batch = batch
        self.slots = slots
        self.common = common
        self.like = like
        self._stacked: Tensor | None = None

    def stack(self) -> Tensor:
        if self._stacked is None:
            parts: list[Tensor | None] = [None] * self.slots
            for vectors, projection, positions in self.groups:
                # (S_g x B x w) @ (S_g x w x D): one batched product for all slots of a width
                wide = vectors if projection is None else torch.bmm(vectors.transpose(0, 1), projection).transpose(0, 1)
                for slot, part in zip(positions, wide.unbind(1), strict=True):
                    parts[slot] = part
            zero = self.like.new_zeros(self.batch, self.common)
            full = [zero if p is None else p for p in parts]
            stacked = torch.stack(full, dim=1) if full else self.like.new_zeros(self.batch, 0, self.common)
            self._stacked = stacked if self.bias is None else stacked + self.bias
        return self._stacked

    def linear(self, weight: Tensor) -> Tensor:
        by_slot = weight.view(weight.shape[0], self.slots, self.common).permute(1, 2, 0)  # S x D x H
        inputs, maps = [], []
        for vectors, projection, positions in self.groups:
            rows = torch.stack([by_slot[p] for p in positions])  # S_g x D x H
            folded = rows if projection is None else torch.bmm(projection, rows)  # S_g x w x H
            inputs.append(vectors.flatten(1))
            maps.append(folded.flatten(0, 1))
        out = weight.new_zeros(self.batch, weight.shape[0])
        if inputs:
            out = torch.cat(inputs, dim=1) @ torch.cat(maps, dim=0)
        if self.bias is not None:
            out = out + weight @ self.bias.flatten()
        return out
