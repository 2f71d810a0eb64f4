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
