"""A dense model for a larger common width, which computes what the old one did as long as the new dimensions are zero.

Letters: S slots, D and W the old and the new common width, n numbers that follow the slots' on an axis.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autodim.errors import RunError


def widened_state(old: nn.Module, new: nn.Module, slots: int, before: int, after: int) -> None:
    """Copy the weights of a model into one of the same kind that was built for a larger common width.

    Every axis that depends on the width is told by its length: `S D + n` (slot-major, as all layers over slot vectors
    lie), `D`, or `D (D + 1) / 2` (the upper half of a product). What the new dimensions are multiplied by keeps its
    fresh value: with zero vectors there it adds nothing, and the vectors have a gradient from the first step on.

    Args:
        old: with common width `before`. new: freshly drawn, with common width `after`; changed in place.
        slots: S.

    Raises:
        RunError: a tensor whose shape cannot be explained so.
    """
    target = new.state_dict()
    for name, tensor in old.state_dict().items():
        place = target[name]
        index = [_axis(a, b, slots, before, after) for a, b in zip(tensor.shape, place.shape, strict=True)]
        found = [i for i in index if i is not None]
        if len(found) != len(index):
            raise RunError(
                f"this model cannot be widened: {name} is {tuple(tensor.shape)} at width {before} and "
                f"{tuple(place.shape)} at width {after}"
            )
        with torch.no_grad():
            if found:
                place[torch.meshgrid(*found, indexing="ij")] = tensor.to(place.device)
            else:
                place.copy_(tensor)


def _axis(old: int, new: int, slots: int, before: int, after: int) -> Tensor | None:
    """Where the old positions of an axis lie on the new one; None: not to be told."""
    if old == new:
        return torch.arange(old)
    rest = old - slots * before
    if rest >= 0 and rest == new - slots * after:
        at = torch.arange(slots)[:, None] * after + torch.arange(before)
        return torch.cat([at.flatten(), slots * after + torch.arange(rest)])
    if (old, new) == (before, after):
        return torch.arange(before)
    if (old, new) == (before * (before + 1) // 2, after * (after + 1) // 2):
        first, second = torch.triu_indices(before, before)
        return first * after - first * (first - 1) // 2 + (second - first)
    return None
