"""What a model sees of the embedding side: S vectors of D numbers for each of B examples.

A model reads them by a few questions only, so it never knows how wide a slot really is: `stack()` gives the vectors
themselves, `linear(weight)` a linear map of all of them at once, `total()` and `squares()` their sum and the sum of
their squared lengths. Mixed tables answer all but the first without ever widening the vectors: they fold each slot's
projection into the map (`(v P) W = v (P W)`), which reads sum(d_i) numbers per example instead of S x D.
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

    def linear(self, weight: Tensor, start: Tensor | None = None) -> Tensor:
        """`stack().flatten(1) @ weight.T + start`; weight H x (S D) in slot-major order, start H or B x H -> B x H.

        The result shares memory with nothing, so that it may be changed in place.
        """
        ...

    def total(self) -> Tensor:
        """`stack().sum(1)`, B x D."""
        ...

    def squares(self) -> Tensor:
        """`stack().square().sum((1, 2))`, B."""
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

    def linear(self, weight: Tensor, start: Tensor | None = None) -> Tensor:
        return affine(self.vectors.flatten(1), weight, start)

    def total(self) -> Tensor:
        return self.vectors.sum(1)

    def squares(self) -> Tensor:
        return self.vectors.flatten(1).square().sum(1)


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
        overlap: an example's vector of a slot may be the sum of several groups' vectors that are not zero (a bag whose
            ids lie in several blocks), so that squares do not add up group by group.
    """

    def __init__(
        self,
        groups: list[tuple[Tensor, Tensor | None, list[int]]],
        bias: Tensor | None,
        batch: int,
        slots: int,
        common: int,
        like: Tensor,
        overlap: bool = False,
    ):
        self.groups = groups
        self.bias = bias
        self.batch = batch
        self.slots = slots
        self.common = common
        self.like = like
        self.overlap = overlap
        self._stacked: Tensor | None = None
        self._inputs: Tensor | None = None

    def stack(self) -> Tensor:
        if self._stacked is None:
            parts: list[Tensor | None] = [None] * self.slots
            for vectors, projection, positions in self.groups:
                # (S_g x B x w) @ (S_g x w x D): one batched product for all slots of a width
                wide = vectors if projection is None else torch.bmm(vectors.transpose(0, 1), projection).transpose(0, 1)
                for slot, part in zip(positions, wide.unbind(1), strict=True):
                    there = parts[slot]
                    parts[slot] = part if there is None else there + part  # blocks of one slot add up
            zero = self.like.new_zeros(self.batch, self.common)
            full = [zero if p is None else p for p in parts]
            stacked = torch.stack(full, dim=1) if full else self.like.new_zeros(self.batch, 0, self.common)
            self._stacked = stacked if self.bias is None else stacked + self.bias
        return self._stacked

    def linear(self, weight: Tensor, start: Tensor | None = None) -> Tensor:
        # unbind, because the gradient of many single selections would each be as large as the weight
        by_slot = weight.view(weight.shape[0], self.slots, self.common).unbind(1)  # S of H x D
        maps = []
        for _, projection, positions in self.groups:
            rows = torch.stack([by_slot[p] for p in positions])  # S_g x H x D
            folded = rows if projection is None else torch.bmm(rows, projection.transpose(1, 2))  # S_g x H x w
            maps.append(folded.transpose(0, 1).flatten(1))  # H x (S_g w)
        if self.bias is not None:
            constant = weight @ self.bias.flatten()
            start = constant if start is None else start + constant
        if not maps:
            out = weight.new_zeros(self.batch, weight.shape[0])
            return out if start is None else out + start
        return affine(self._joined(), maps[0] if len(maps) == 1 else torch.cat(maps, dim=1), start)

    def total(self) -> Tensor:
        maps = []
        for vectors, projection, _ in self.groups:
            if projection is None:
                eye = torch.eye(self.common, dtype=vectors.dtype, device=vectors.device)
                maps.append(eye.repeat(vectors.shape[1], 1))
            else:
                maps.append(projection.flatten(0, 1))  # (S_g w) x D
        if not maps:
            out = self.like.new_zeros(self.batch, self.common)
        else:
            # in float32 even under autocast: what is asked next is a small difference of large squares
            with torch.autocast(self.like.device.type, enabled=False):
                out = self._joined() @ (maps[0] if len(maps) == 1 else torch.cat(maps))
        return out if self.bias is None else out + self.bias.sum(0)

    def squares(self) -> Tensor:
        with torch.autocast(self.like.device.type, enabled=False):
            return self._squares()

    def _squares(self) -> Tensor:
        if self.overlap:
            return self.stack().flatten(1).square().sum(1)
        # |v P + b|^2 = v (P P^T) v + 2 v (P b) + |b|^2
        out = self.like.new_zeros(self.batch)
        for vectors, projection, positions in self.groups:
            wide = vectors
            if projection is not None:
                gram = torch.bmm(projection, projection.transpose(1, 2))  # S_g x w x w
                wide = torch.bmm(vectors.transpose(0, 1), gram).transpose(0, 1)  # B x S_g x w
            if self.bias is not None:
                b = torch.stack([self.bias[p] for p in positions])  # S_g x D
                b = b if projection is None else torch.bmm(projection, b[:, :, None]).squeeze(2)
                wide = wide + 2 * b
            out = out + (vectors * wide).flatten(1).sum(1)
        return out if self.bias is None else out + self.bias.square().sum()

    def _joined(self) -> Tensor:
        """All stored vectors side by side, B x sum(S_g w_g)."""
        if self._inputs is None:
            flat = [vectors.flatten(1) for vectors, _, _ in self.groups]
            self._inputs = flat[0] if len(flat) == 1 else torch.cat(flat, dim=1)
        return self._inputs


def affine(inputs: Tensor, weight: Tensor, start: Tensor | None) -> Tensor:
    """`inputs @ weight.T + start` in one product; start H, B x H, or None."""
    if start is None or start.dim() == 1:
        return F.linear(inputs, weight, start)
    return torch.addmm(start, inputs, weight.T)
