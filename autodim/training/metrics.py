"""Exact AUC, log loss and calibration, on the device that holds the logits.

Letters: N rows.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Metrics:
    """Quality of one task on one part of a log.

    Attributes:
        auc: area under the ROC curve, ties counted half; NaN when a class is absent.
        logloss: mean cross-entropy in nats.
        calibration: mean predicted over mean observed rate (1 is calibrated).
        rows: rows with a label.
    """

    auc: float
    logloss: float
    calibration: float
    rows: int

    def to_json(self) -> dict[str, float | int | None]:
        """A JSON object; NaN becomes null."""
        return {k: (None if math.isnan(v) else v) for k, v in asdict(self).items()}


def auc(scores: Tensor, labels: Tensor) -> Tensor:
    """Exact area under the ROC curve (Mann-Whitney U with mid-ranks), a float64 scalar on the device.

    Args:
        scores: N, any monotone score. labels: N of 0 and 1.

    Returns:
        NaN when all labels agree.

    Cost: one sort; no approximation by thresholds.
    """
    ordered, order = torch.sort(scores)
    positive = labels.index_select(0, order).double()
    _, ties = torch.unique_consecutive(ordered, return_counts=True)
    ends = ties.cumsum(0).double()
    middle = ends - (ties.double() - 1) / 2  # the mean of a tie's ranks, ranks from 1
    ranks = torch.repeat_interleave(middle, ties)
    positives = positive.sum()
    negatives = positive.numel() - positives
    return ((ranks * positive).sum() - positives * (positives + 1) / 2) / (positives * negatives)


def auc_difference(first: Tensor, second: Tensor, labels: Tensor) -> tuple[float, float]:
    """AUC of the first score less that of the second on the same rows, and its standard error.

    DeLong et al. 1988, for two correlated curves, by mid-ranks (Sun & Xu 2014).

    Args:
        first: N scores. second: N scores. labels: N of 0 and 1.

    Returns:
        NaN and NaN where a class has fewer than two rows.

    Cost: three sorts a score.
    """
    positive = labels > 0.5
    m, n = int(positive.sum()), int((~positive).sum())
    if min(m, n) < 2:
        return math.nan, math.nan
    places = []
    for scores in (first, second):
        ranks = _middle_ranks(scores)
        # share of negatives below each positive, and of positives above each negative
        above = (ranks[positive] - _middle_ranks(scores[positive])) / n
        below = 1 - (ranks[~positive] - _middle_ranks(scores[~positive])) / m
        places.append((above, below))
    by_positive, by_negative = (a - b for a, b in zip(*places, strict=True))
    variance = by_positive.var() / m + by_negative.var() / n
    return float(by_positive.mean()), float(variance.clamp(min=0).sqrt())


def _middle_ranks(scores: Tensor) -> Tensor:
    """Ranks from 1, ties at their mean, float64."""
    _, inverse, ties = torch.unique(scores, return_inverse=True, return_counts=True)
    return (ties.cumsum(0).double() - (ties.double() - 1) / 2)[inverse]


def evaluate_logits(logits: Tensor, labels: Tensor) -> list[Metrics]:
    """Metrics per task.

    Args:
        logits: N x T float. labels: N x T of 0, 1 and NaN (no label).
    """
    results = []
    for task in range(labels.shape[1]):
        known = ~labels[:, task].isnan()
        score, label = logits[:, task][known].float(), labels[:, task][known]
        losses = F.binary_cross_entropy_with_logits(score.double(), label.double(), reduction="mean")
        rate = score.double().sigmoid().mean() / label.double().mean()
        results.append(Metrics(float(auc(score, label)), float(losses), float(rate), int(known.sum())))
    return results
