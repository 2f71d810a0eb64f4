"""AUC against its definition, log loss and calibration against hand-made values."""

import math

import pytest
import torch

from autodim.training.metrics import auc, auc_difference, evaluate_logits


@pytest.mark.parametrize("seed", range(5))
def test_auc_is_the_share_of_ordered_pairs_with_ties_half(seed):
    g = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 6, (60,), generator=g).float()
    labels = torch.randint(0, 2, (60,), generator=g).float()
    positive, negative = scores[labels == 1], scores[labels == 0]
    difference = positive[:, None] - negative[None]
    expected = ((difference > 0).double() + 0.5 * (difference == 0).double()).mean()
    assert float(auc(scores, labels)) == pytest.approx(float(expected), abs=1e-12)


def test_auc_of_one_class_is_undefined():
    assert math.isnan(float(auc(torch.randn(4), torch.ones(4))))


def test_metrics_leave_missing_labels_out():
    logits = torch.tensor([[0.0, 5.0], [math.log(3.0), 1.0], [2.0, 0.0]])
    labels = torch.tensor([[0.0, math.nan], [1.0, 1.0], [math.nan, 0.0]])
    first, second = evaluate_logits(logits, labels)
    assert first.rows == 2 and second.rows == 2
    assert first.logloss == pytest.approx((math.log(2) - math.log(0.75)) / 2)
    assert first.calibration == pytest.approx((0.5 + 0.75) / 2 / 0.5)
    assert first.auc == 1.0


def test_the_error_of_an_auc_difference_is_its_spread_over_samples():
    generator = torch.Generator().manual_seed(0)
    found, errors = [], []
    for _ in range(300):
        labels = (torch.rand(400, generator=generator) < 0.4).float()
        first = labels + torch.randn(400, generator=generator)
        second = first + 0.7 * torch.randn(400, generator=generator)
        change, error = auc_difference(first.round(decimals=1), second, labels)  # with ties
        assert change == pytest.approx(float(auc(first.round(decimals=1), labels) - auc(second, labels)), abs=1e-12)
        found.append(change), errors.append(error)
    assert torch.tensor(found).std().item() == pytest.approx(sum(errors) / 300, rel=0.12)
    assert auc_difference(first, first, labels) == (0, 0)
    assert all(math.isnan(v) for v in auc_difference(first, second, labels * 0))


def test_one_class_alone_has_a_log_loss_and_neither_an_auc_nor_a_calibration():
    found = evaluate_logits(torch.zeros(5, 1), torch.zeros(5, 1))[0].to_json()
    assert found == {"auc": None, "calibration": None, "logloss": pytest.approx(math.log(2)), "rows": 5}
