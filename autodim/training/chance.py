"""Whether an AUC can be told from that of guessing. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING

from autodim.data.tasks import Task

if TYPE_CHECKING:
    from torch import Tensor

LEVEL = 0.95


def auc_error(auc: float, positives: int, negatives: int) -> float:
    """Standard error of one AUC from the counts of both classes (Hanley & McNeil 1982, equation 1).

    `sqrt((A (1 - A) + (P - 1)(A / (2 - A) - A^2) + (N - 1)(2 A^2 / (1 + A) - A^2)) / (P N))`; NaN without one class.
    """
    if min(positives, negatives) < 1:
        return math.nan
    a = auc
    first, second = a / (2 - a) - a * a, 2 * a * a / (1 + a) - a * a
    spread = a * (1 - a) + (positives - 1) * first + (negatives - 1) * second
    return math.sqrt(max(spread, 0.0) / (positives * negatives))


def chance_words(aucs: Sequence[float | None], tasks: Sequence[Task], labels: Tensor, where: str) -> str:
    """That a model predicts no better than chance; empty where it does, or where that cannot be said.

    It does not if no main task's AUC is above .5 by more than half its own 95 % interval. Nothing is said of a model
    with a main task that is a regression, or that has one class alone.

    Args:
        aucs: of each task, None or NaN where there is none.
        tasks: T. labels: N x T of 0, 1 and NaN (no label): the rows that the AUCs are of.
        where: those rows in a word, such as `test`.
    """
    told = []
    for place, (task, auc) in enumerate(zip(tasks, aucs, strict=True)):
        if task.role == "auxiliary":
            continue
        if task.kind != "binary" or auc is None:
            return ""
        positives = int((labels[:, place] > 0.5).sum())
        negatives = int((labels[:, place] <= 0.5).sum())
        half = NormalDist().inv_cdf((1 + LEVEL) / 2) * auc_error(auc, positives, negatives)
        if not auc - half <= 0.5:  # NaN too
            return ""
        label = f"of {task.name} " if len(tasks) > 1 else ""
        told.append(f"AUC {label}{auc:.4f} ± {half:.4f} on {positives + negatives:,} {where} rows")
    if not told:
        return ""
    return (
        f"the uncut model predicts no better than chance ({'; '.join(told)}), so that its widths mean nothing: it "
        "needs other labels, slots or settings first, or more rows to tell it from chance"
    )
