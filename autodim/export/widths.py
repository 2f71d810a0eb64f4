"""`widths`: the allocation file itself, as `autodim retrain --widths` and a person read it."""

from __future__ import annotations

from collections.abc import Sequence

from autodim.dimension.allocation import Allocation
from autodim.embedding.layout import Slot


def to_widths(allocation: Allocation, slots: Sequence[Slot] = ()) -> str:
    """Versioned YAML, one line a slot; equal allocations give equal text. `slots` is not needed."""
    return allocation.to_yaml()
