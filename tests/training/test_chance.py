"""The error of one AUC, and when a model predicts no better than chance."""

import math

import numpy as np
import pytest
import torch

from autodim.data.tasks import Task
from autodim.training.chance import auc_error, chance_words

NAN = math.nan


def test_the_published_example():
    """Hanley & McNeil 1982: an area of .893 from 51 abnormal and 58 normal images has a standard error of .032."""
    assert auc_error(0.893, 51, 58) == pytest.approx(0.0325, abs=5e-5)


@pytest.mark.parametrize(("positives", "negatives"), [(1, 1), (3, 50), (400, 100)])
def test_guessing_has_the_variance_of_the_rank_sum(positives, negatives):
    exact = (positives + negatives + 1) / (12 * positives * negatives)
    assert auc_error(0.5, positives, negatives) ** 2 == pytest.approx(exact, rel=1e-12)
    assert math.isnan(auc_error(0.5, positives, 0))


def labels(positives, negatives, missing=0):
    return torch.tensor([1.0] * positives + [0.0] * negatives + [NAN] * missing)[:, None]


def test_chance_is_what_the_interval_holds():
    half = 1.959964 * auc_error(0.55, 100, 300)
    assert half > 0.05
    said = chance_words([0.55], [Task("click")], labels(100, 300, 50), "test")
    assert (
        "no better than chance (AUC 0.5500 ± " in said and "on 400 test rows" in said and "widths mean nothing" in said
    )
    assert chance_words([0.60], [Task("click")], labels(100, 300), "test") == ""
    assert chance_words([0.55], [Task("click")], labels(1000, 3000), "test") == ""  # more rows tell them apart
    assert "chance" in chance_words([0.30], [Task("click")], labels(100, 300), "test")  # worse is no better


def test_one_task_above_chance_is_enough_and_what_is_not_known_is_not_said():
    both = labels(100, 300).repeat(1, 2)
    tasks = [Task("click"), Task("buy")]
    assert "AUC of click" in chance_words([0.5, 0.49], tasks, both, "test")
    assert chance_words([0.5, 0.7], tasks, both, "test") == ""
    assert chance_words([0.5, 0.7], [tasks[0], Task("buy", role="auxiliary")], both, "test") != ""
    assert chance_words([0.5, None], [tasks[0], Task("price", "regression")], both, "test") == ""
    assert chance_words([None], tasks[:1], labels(0, 10), "test") == ""


def test_noise_is_called_noise_nineteen_times_in_twenty():
    rng = np.random.default_rng(0)
    called = 0
    for _ in range(400):
        own = rng.random((80, 1)) < 0.3
        first, second = rng.normal(size=int(own.sum())), rng.normal(size=int((~own).sum()))
        auc = float((first[:, None] > second).mean())
        called += bool(chance_words([auc], [Task("y")], torch.tensor(own).float(), "test"))
    assert 0.95 < called / 400 <= 1  # one-sided: above .5 by chance 1 time in 40
