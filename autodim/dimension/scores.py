"""Scores of dimensions and how stable they are. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scores:
    """Saliency of each dimension of each slot.

    Attributes:
        names: the slots.
        values: per slot D signed numbers, the derivative of the summed loss by a mask on the dimension (METHODS: g).
        halves: the same from two disjoint halves of the batches (a slot's entries: 2 x D), or None.
        examples: how many examples were scored.
    """

    names: tuple[str, ...]
    values: tuple[Floats, ...]
    halves: tuple[Floats, ...] | None = None
    examples: int = 0

    @property
    def normalised(self) -> tuple[Floats, ...]:
        """|g| / sum of all |g|: per slot D numbers from 0 to 1 that sum to 1 over all slots (all 0 if all g are 0)."""
        return normalise(self.values)

    @property
    def spearman(self) -> float | None:
        """Rank correlation of |g| between the two halves, over all dimensions; None if unknown or constant."""
        if self.halves is None or not self.names:
            return None
        first, second = np.abs(np.concatenate(self.halves, axis=1))
        return spearman(first, second)

    def __getitem__(self, name: str) -> Floats:
        return self.values[self.names.index(name)]

    def to_frame(self) -> pd.DataFrame:
        """One row a dimension: slot, dimension, signed, score."""
        import pandas as pd

        widths = [len(v) for v in self.values]
        return pd.DataFrame(
            {
                "slot": np.repeat(np.array(self.names, dtype=object), widths),
                "dimension": np.concatenate([np.arange(w) for w in widths]) if widths else [],
                "signed": np.concatenate(self.values) if widths else [],
                "score": np.concatenate(self.normalised) if widths else [],
            }
        )


def normalise(values: Sequence[Floats]) -> tuple[Floats, ...]:
    """|g| / sum |g| (SSEDS, equation 9 in METHODS' form); zeros if all are zero."""
    total = float(sum(np.abs(v).sum() for v in values))
    return tuple(np.abs(v) / total if total > 0 else np.zeros(len(v)) for v in values)


def by_table(scores: Mapping[str, Floats], tables: Mapping[str, str]) -> dict[str, Floats]:
    """Signed scores of slots summed per table: slots that share a table are cut together.

    Args:
        scores: slot -> D signed numbers.
        tables: slot -> its table.
    """
    found: dict[str, Floats] = {}
    for slot, values in scores.items():
        table = tables[slot]
        found[table] = found[table] + values if table in found else np.array(values, dtype=np.float64)
    return found


def spearman(first: Floats, second: Floats) -> float | None:
    """Spearman's rank correlation, ties at their mean rank; None if one side is constant or shorter than 2."""
    if len(first) < 2:
        return None
    a, b = (r - r.mean() for r in (_ranks(first), _ranks(second)))
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else None


def _ranks(values: Floats) -> Floats:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
