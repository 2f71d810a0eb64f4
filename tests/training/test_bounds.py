"""One-sided bounds on what a model loses: the right numbers, and they hold as often as they say."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from autodim.training.bounds import Allowed, Lost, lost
from autodim.training.metrics import auc_difference
from autodim.training.student import quantile


@pytest.mark.parametrize("probability", [0.05, 0.6, 0.95, 0.975, 0.999])
@pytest.mark.parametrize("freedom", [1, 2, 3, 7, 30, 1_000, 50_000])
def test_quantiles_are_students(probability, freedom):
    assert quantile(probability, freedom) == pytest.approx(stats.t.ppf(probability, freedom), rel=1e-7)


def test_far_out_it_is_the_normal_law():
    assert quantile(0.95, math.inf) == pytest.approx(stats.norm.ppf(0.95), rel=1e-12)
    for wrong in ((0.0, 3), (1.0, 3), (0.5, 0)):
        with pytest.raises(ValueError, match="expected a probability"):
            quantile(*wrong)


def test_what_is_lost_is_paired_and_per_task_over_its_own_rows():
    generator = torch.Generator().manual_seed(1)
    base = torch.randn(500, 2, generator=generator)
    own = base + 0.3 * torch.randn(500, 2, generator=generator)
    labels = torch.bernoulli(base.sigmoid(), generator=generator)
    labels[::5, 1] = torch.nan
    first, second = lost(own, base, labels)
    drop, error = auc_difference(base[:, 0], own[:, 0], labels[:, 0])
    assert (first.auc, first.auc_error, first.rows, second.rows) == (drop, error, 500, 400)
    known = ~labels[:, 1].isnan()
    y, z, r = (x[known, 1].double().numpy() for x in (labels, own, base))
    paired = (np.logaddexp(0, z) - y * z) - (np.logaddexp(0, r) - y * r)
    assert second.loss == pytest.approx(paired.mean())
    test = stats.ttest_1samp(paired, 0).confidence_interval(0.90)  # its upper end is the one-sided 95 % bound
    assert second.loss_bound(0.95) == pytest.approx(test.high)


def test_the_same_model_loses_nothing_for_certain():
    base = torch.randn(50, 1, generator=torch.Generator().manual_seed(0))
    labels = (base > 0.3).float()
    assert Allowed(1e-12, 1e-12, 0.99).inside(lost(base, base, labels))


def test_one_class_or_a_single_row_is_never_inside():
    base = torch.randn(9, 1, generator=torch.Generator().manual_seed(0))
    assert not Allowed(0.4, None, 0.95).inside(lost(base, base, torch.ones(9, 1)))
    assert not Allowed(None, 5.0, 0.95).inside(lost(base[:1], base[:1], torch.ones(1, 1)))


def test_every_task_and_every_limit_has_to_hold():
    good, bad = Lost(0.0, 0.0, 0.0, 0.0, 100), Lost(0.1, 0.0, 0.0, 0.0, 100)
    assert Allowed(0.05, None, 0.95).inside([good]) and not Allowed(0.05, None, 0.95).inside([good, bad])
    assert Allowed(None, 0.05, 0.95).inside([good, bad])  # bad in AUC alone
    assert "AUC lost 0.10000, at most 0.10000" in Allowed(0.05, None, 0.95).words([good, bad])


def test_bounds_hold_as_often_as_they_say():
    """Of 400 logs, about 5 % put the true loss above its 95 % bound (binomial: 5 % +- 3.3 % at three sigmas)."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(400, 300))
    worse = z + rng.normal(size=z.shape)
    labels = (rng.random(z.shape) < 1 / (1 + np.exp(-z))).astype(np.float32)
    found = [
        lost(*(torch.from_numpy(x[:, None].astype(np.float32)) for x in rows))[0]
        for rows in zip(worse, z, labels, strict=True)
    ]
    truth = {"loss": np.mean([one.loss for one in found]), "auc": np.mean([one.auc for one in found])}
    above = np.mean([one.loss_bound(0.95) < truth["loss"] for one in found])
    higher = np.mean([one.auc_bound(0.95) < truth["auc"] for one in found])
    assert 0.017 < above < 0.085 and 0.017 < higher < 0.085


def test_a_gain_is_said_as_a_gain():
    sure, unsure = Lost(-0.02, 0.001, -0.03, 0.001, 10**6), Lost(-0.001, 0.01, -0.0001, 0.01, 10**6)
    told = Allowed(0.05, 0.05, 0.95)
    assert told.words([sure]) == "AUC gained 0.02000, at least 0.01836; log loss fallen 0.030000, at least 0.028355"
    assert told.words([unsure]) == (
        "AUC gained 0.00100, lost at most 0.01545; log loss fallen 0.000100, risen at most 0.016349"
    )


def test_a_gain_outside_its_own_interval_doubts_the_reference():
    clear, close, loss = (
        Lost(-0.03, 0.01, 0.0, 0.1, 500),
        Lost(-0.03, 0.02, 0.0, 0.1, 500),
        Lost(0.1, 0.1, -0.2, 0.1, 9),
    )
    assert Allowed(0.01, None, 0.95).gained([close, clear]) and not Allowed(0.01, None, 0.95).gained([close, loss])
    assert Allowed(None, 0.01, 0.95).gained([loss]) and not Allowed(None, 0.01, 0.95).gained([clear])
    unknown = Lost(math.nan, math.nan, math.nan, math.nan, 1)
    assert not Allowed(0.01, 0.01, 0.95).gained([unknown, Lost(0.03, 0.01, 0.1, 0.01, 500)])
