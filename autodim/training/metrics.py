"""Exact AUC, log loss and calibration (of a regression its errors), on the device that holds the logits.

Letters: N rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from autodim.data.tasks import Task
from autodim.files import finite


@dataclass(frozen=True)
class Metrics:
    """Quality of one task on one part of a log.

    Attributes:
        auc: area under the ROC curve, ties counted half; NaN when a class is absent.
        logloss: mean cross-entropy in nats.
        calibration: mean predicted over mean observed rate (1 is calibrated); infinite without positives.
        rows: rows with a label.
        rmse: root mean squared error, mae: mean absolute error, both in the label's unit; r2: 1 less the share of the
            rows' variance that is left, NaN where they do not vary. None where the task is binary; where it is a
            regression, auc, logloss and calibration are NaN.
        error: of a regression the loss that is trained: mean squared error over the training rows' variance.
    """

    auc: float
    logloss: float
    calibration: float
    rows: int
    rmse: float | None = None
    mae: float | None = None
    r2: float | None = None
    error: float | None = None

    def to_json(self) -> dict[str, float | int | None]:
        """A JSON object; NaN and infinities become null, and what only a regression has is left out elsewhere."""
        return {
            k: finite(v)
            for k, v in asdict(self).items()
            if self.rmse is not None or k in ("auc", "logloss", "calibration", "rows")
        }

    @property
    def score(self) -> float:
        """The higher the better: AUC (NaN where a class is absent); of a regression R2, or -RMSE where it has none."""
        if self.rmse is None or self.r2 is None:
            return self.auc
        return -self.rmse if math.isnan(self.r2) else self.r2

    @property
    def loss(self) -> float:
        """The loss that is trained."""
        return self.logloss if self.error is None else self.error


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


def evaluate_logits(logits: Tensor, labels: Tensor, tasks: Sequence[Task] = ()) -> list[Metrics]:
    """Metrics per task.

    Args:
        logits: N x T float. labels: N x T of 0, 1 (numbers, where a task is a regression) and NaN (no label).
        tasks: T; empty: all are binary.
    """
    results = []
    for task in range(labels.shape[1]):
        known = ~labels[:, task].isnan()
        score, label = logits[:, task][known].float(), labels[:, task][known]
        if tasks and tasks[task].kind == "regression":
            results.append(_regression(score.double(), label.double(), tasks[task]))
            continue
        losses = F.binary_cross_entropy_with_logits(score.double(), label.double(), reduction="mean")
        rate = score.double().sigmoid().mean() / label.double().mean()
        results.append(Metrics(float(auc(score, label)), float(losses), float(rate), int(known.sum())))
    return results


def _regression(score: Tensor, label: Tensor, task: Task) -> Metrics:
    nan = math.nan
    if not len(label):
        return Metrics(nan, nan, nan, 0, nan, nan, nan, nan)
    misses = score * task.std + task.mean - label
    squared = misses.square().mean()
    variance = (label - label.mean()).square().mean()
    r2 = float(1 - squared / variance) if variance > 0 else nan
    error = float(squared) / task.std**2
    return Metrics(nan, nan, nan, len(label), float(squared.sqrt()), float(misses.abs().mean()), r2, error)
