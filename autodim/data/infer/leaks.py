"""Columns that know the label: each is asked to predict it alone."""

from __future__ import annotations

import numpy as np

from autodim.data.infer.profile import Profile
from autodim.data.splits import uniform

LEAK, DOUBT = 0.99, 0.95  # AUC of one column alone
LEAST = 5  # rows of each class in each half
BUCKETS = 256


def alone(fact: Profile, labels: np.ndarray) -> float:
    """AUC of the label's rate per value, learnt on one half of the rows and asked of the other.

    Args:
        fact: of a column; its missing values count as one value.
        labels: N of 0, 1 or NaN.

    Returns:
        The mean over both halves; .5 where there are too few rows to say.
    """
    if fact.column is None:
        return 0.5
    codes = _bucketed(fact.numbers) if fact.numbers is not None and fact.distinct > BUCKETS else fact.column.codes
    known = ~np.isnan(labels)
    half = uniform(np.arange(len(labels)), 0) < 0.5
    size = int(codes.max(initial=-1)) + 2
    found = []
    for learn, ask in ((half & known, ~half & known), (~half & known, half & known)):
        ones, asked = labels[learn].sum(), labels[ask].sum()
        if min(ones, learn.sum() - ones, asked, ask.sum() - asked) < LEAST:
            return 0.5
        mean = ones / learn.sum()
        hits = np.bincount(codes[learn] + 1, labels[learn], size)
        counts = np.bincount(codes[learn] + 1, minlength=size)
        found.append(auc(((hits + mean) / (counts + 1))[codes[ask] + 1], labels[ask]))
    return float(np.mean(found))


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve, ties counted half."""
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    ones = labels.sum()
    zeros = len(labels) - ones
    return float((ranks[labels == 1].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def _bucketed(values: np.ndarray) -> np.ndarray:
    there = ~np.isnan(values)
    edges = np.unique(np.quantile(values[there], np.arange(1, BUCKETS) / BUCKETS))
    return np.where(there, np.searchsorted(edges, values, side="right"), -1)
