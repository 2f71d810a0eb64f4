"""A module that is used several times an example, or not at all in some: moments are of the mean loss over examples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from autodim.dimension.saliency import saliency
from autodim.dimension.spectral import spectral

D, LENGTH, ROWS, BATCH = 3, 10, 20, 50


class Sequence(nn.Module):
    """A sequence of 10 ids and one id: a logit linear in all their vectors, float64; without ids the sequence is left
    out."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.long, self.one = nn.Embedding(ROWS, D), nn.Embedding(ROWS, D)
        self.weight = nn.Parameter(torch.randn(D) / 3)
        self.double()

    def forward(self, ids):
        found = self.one(ids[:, 0]) @ self.weight
        return found + self.long(ids[:, 1:]).sum(1) @ self.weight if ids.shape[1] > 1 else found


def batches(lengths):
    generator = torch.Generator().manual_seed(1)
    ids = [torch.randint(ROWS, (BATCH, 1 + n), generator=generator) for n in lengths]
    return [(i, torch.rand(BATCH, generator=generator).round().double()) for i in ids]


def slots(model):
    return {"long": model.long, "one": model.one}


def moments(model, data):
    return spectral(model, lambda m, b: m(b[0]), lambda b: b[1], data, slots(model))


def mean_loss(model, data):
    with torch.no_grad():
        values = [F.binary_cross_entropy_with_logits(model(ids), y, reduction="none") for ids, y in data]
    return float(torch.cat(values).mean())


@pytest.mark.parametrize("lengths", [[LENGTH] * 4, [LENGTH, 0, LENGTH, LENGTH, 0], [0, 3, LENGTH]])
def test_saliencies_of_both_passes_agree(lengths):
    """Those of the spectral pass are an example's, those of the other one are sums."""
    model, data = Sequence(), batches(lengths)
    found = moments(model, data)
    summed = saliency(model, lambda m, b: F.binary_cross_entropy_with_logits(m(b[0]), b[1]), data, slots(model))
    for name, values in zip(summed.names, summed.values, strict=True):
        np.testing.assert_allclose(found[name].saliency * BATCH * len(lengths), values, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("lengths", [[LENGTH] * 4, [LENGTH, 0, LENGTH, LENGTH, 0]])
def test_the_first_order_of_the_predicted_change_is_that_of_the_mean_loss(lengths):
    model, data = Sequence(), batches(lengths)
    found, before, step = moments(model, data)["long"], mean_loss(model, data), 1e-5
    constant = np.array([0.3, -0.2, 0.1])
    predicted = [found.change((1 + s) * np.eye(D), s * constant) for s in (step, -step)]
    original = model.long.weight.detach().clone()
    measured = []
    for s in (step, -step):
        with torch.no_grad():
            model.long.weight.copy_((1 + s) * original + s * torch.from_numpy(constant))
        measured.append(mean_loss(model, data) - before)
    assert predicted[0] - predicted[1] == pytest.approx(measured[0] - measured[1], rel=1e-6)
    assert abs(measured[0]) > 1e-8


def test_curvatures_add_up_over_the_uses_of_an_example():
    """The logit's gradient is the same by every vector; a batch without the sequence has none by its vectors."""
    model, data = Sequence(), batches([LENGTH, 0, LENGTH])
    found = moments(model, data)
    weight = model.weight.detach().numpy()
    with torch.no_grad():
        spread = [(p * (1 - p)).mean().item() for p in (model(ids).sigmoid() for ids, _ in data)]
    outer = np.outer(weight, weight)
    np.testing.assert_allclose(found["one"].curvature, np.mean(spread) * outer, rtol=1e-9)
    np.testing.assert_allclose(found["long"].curvature, LENGTH * (spread[0] + spread[2]) / 3 * outer, rtol=1e-9)
    uses = model.long.weight.detach()[torch.cat([ids[:, 1:].flatten() for ids, _ in data])].numpy()
    assert found["long"].count == len(uses) == 2 * BATCH * LENGTH
    np.testing.assert_allclose(found["long"].covariance, np.cov(uses.T, bias=True), rtol=1e-9)
    np.testing.assert_allclose(found["long"].mean, uses.mean(0), rtol=1e-9)
