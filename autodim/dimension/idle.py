"""Models whose slot vectors say next to nothing, so that no cut of them can be told from another. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from autodim.dimension.moments import Moments

# of the mean loss; trained vectors are worth 3e-2 to 5e-1 (MovieLens, Frappe, Census-Income), FM's under a penalty that
# left them nothing (Frappe, l2 = .05) 3e-6
LEAST = 1e-4


def whole_worth(moments: Mapping[str, Moments]) -> float:
    """By how much the mean loss would rise, to second order, if every slot gave its mean vector for all examples:
    `sum over slots of 1/2 tr(C H)`.

    Args:
        moments: per slot, of whole tables.
    """
    return 0.5 * sum(float(np.sum(m.covariance * m.curvature)) for m in moments.values())


def idle_notes(moments: Mapping[str, Moments]) -> list[str]:
    """A remark where all vectors together are worth less than `LEAST`; none for no slots."""
    found = whole_worth(moments)
    if not moments or found >= LEAST:
        return []
    return [
        f"the vectors of this model say next to nothing: all of them together are worth {max(found, 0.0):.1e} of "
        "the loss, so that no choice of widths means much; a penalty that is too strong for this model shrinks them "
        "(pretrain.optimizer.tables.l2), or it was trained too short"
    ]
