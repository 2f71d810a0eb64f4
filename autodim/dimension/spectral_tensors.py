"""Sums of the spectral statistics as tensors by name, as a scoring pass keeps them, and the moments of those."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from autodim.dimension.moments import Moments, Sums
from autodim.dimension.spectral_sums import KINDS, OWN, Spectral


def to_tensors(spectral: Spectral) -> dict[str, Tensor]:
    """Both halves as tensors by name, float64: `spectral/count`, `spectral/examples`, `spectral.shift/SLOT`,
    `spectral.KIND/SLOT`; those of all tasks together."""
    first, second = spectral.halves()
    found = {
        "spectral/count": torch.tensor(spectral.counts, dtype=torch.float64),
        "spectral/examples": torch.tensor(spectral.examples, dtype=torch.float64),
    }
    for name in spectral.names:
        found[f"spectral.shift/{name}"] = torch.from_numpy(first[name].shift)
        for kind in KINDS:
            pair = np.stack([getattr(half[name], kind) for half in (first, second)])
            found[f"spectral.{kind}/{name}"] = torch.from_numpy(pair)
    return found


def task_tensors(spectral: Spectral, task: int) -> dict[str, Tensor]:
    """What one task has of its own of `to_tensors`, under the same names."""
    first, second = spectral.halves(task)
    return {
        f"spectral.{kind}/{name}": torch.from_numpy(np.stack([getattr(h[name], kind) for h in (first, second)]))
        for name in spectral.names
        for kind in OWN
    }


def from_tensors(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Moments], dict[str, Moments], dict[str, Moments]]:
    """What `to_tensors` wrote: the moments per slot of all rows, and of each half (empty where a half has no rows)."""
    prefix = "spectral.shift/"
    counts, examples = ([int(n) for n in tensors[f"spectral/{kind}"]] for kind in ("count", "examples"))
    everything: dict[str, Moments] = {}
    halves: tuple[dict[str, Moments], dict[str, Moments]] = ({}, {})
    for key, shift in tensors.items():
        if not key.startswith(prefix):
            continue
        name = key.removeprefix(prefix)
        first, second = (
            Sums(counts[h], examples[h], shift.numpy(), *(tensors[f"spectral.{k}/{name}"][h].numpy() for k in KINDS))
            for h in (0, 1)
        )
        everything[name] = Moments.of(first + second)
        if all(counts):
            halves[0][name], halves[1][name] = Moments.of(first), Moments.of(second)
    return everything, *halves
