"""Weightings by losses: pinned cases, closed forms, automatic differentiation, TorchJD."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from towers import batch, network, stepper

from autodim.optim.norm_clip import NormClip
from autodim.optim.sam import SAM
from autodim.weighting.adam import SmallAdam
from autodim.weighting.build import base_rate_losses
from autodim.weighting.dwa import DWA, dwa_weights
from autodim.weighting.gradnorm import GradNorm, gradnorm_gradient
from autodim.weighting.scalar import Decayed, Static, Uniform
from autodim.weighting.uncertainty import Uncertainty, uncertainty_total, uncertainty_weights

TASKS = ("x", "y", "z")


def state_after(weighting, steps=3, perturbation=None, clippers=()):
    net = network()
    step = stepper(net, weighting, perturbation, clippers)
    losses = [step(batch(seed=k), k) for k in range(steps)]
    return {**net.state(), "losses": torch.stack(losses)}


@pytest.mark.parametrize("perturbation", [None, SAM(0.1)])
@pytest.mark.parametrize("clippers", [(), (NormClip(0.5),)])
def test_uniform_is_the_plain_sum_to_the_bit(perturbation, clippers):
    plain = state_after(None, perturbation=perturbation, clippers=clippers)
    for name, tensor in state_after(Uniform(TASKS), perturbation=perturbation, clippers=clippers).items():
        assert torch.equal(tensor, plain[name]), name


def test_static_weights_scale_the_losses():
    net, example = network(double=True), batch(double=True)
    lookup = net.tables.lookup(example, learn=True)
    step = stepper(net)
    losses = step._losses(lookup, example, None)
    targets = [*lookup.leaves, *step.dense]
    found = Static(TASKS, [2.0, 0.0, 0.5]).gradients(losses, targets, lookup)
    losses = step._losses(lookup, example, None)
    expected = torch.autograd.grad(2 * losses[0] + 0.5 * losses[2], targets, allow_unused=True)
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, torch.zeros_like(one) if two is None else two)


def test_decayed_weights_fall_once_an_epoch():
    weighting = Decayed(("x", "y"), [1.0, 2.0], [0.5, 1.0], steps_per_epoch=2)
    found = [weighting.weigh(torch.ones(2)).tolist() for _ in range(5)]
    assert found == [[1, 2], [1, 2], [0.5, 2], [0.5, 2], [0.25, 2]]
    again = Decayed(("x", "y"), [1.0, 2.0], [0.5, 1.0], steps_per_epoch=2)
    again.load_state(weighting.state())
    assert again.weigh(torch.ones(2)).tolist() == [0.25, 2]


# ---- dynamic weight average


@pytest.mark.parametrize(("ratios", "expected"), [((0.9, 1.0), (0.975, 1.025)), ((0.5, 1.0), (0.876, 1.124))])
def test_dwa_worked_cases(ratios, expected):
    found = dwa_weights(torch.tensor(ratios), torch.ones(2))
    assert found.tolist() == pytest.approx(expected, abs=5e-4)


def test_dwa_weighs_after_two_windows_by_their_means():
    weighting = DWA(("x", "y"), window=2)
    steps = [(1.0, 2.0), (3.0, 2.0), (1.0, 1.0), (0.0, 2.0), (9.0, 9.0), (9.0, 9.0), (1.0, 1.0)]
    found = [weighting.weigh(torch.tensor(s)).tolist() for s in steps]
    assert found[:4] == [[1, 1]] * 4
    # x: absent once in the second window, so its mean there is 1
    expected = dwa_weights(torch.tensor([1.0, 1.5]), torch.tensor([2.0, 2.0])).tolist()
    assert found[4] == pytest.approx(expected) and found[5] == pytest.approx(expected)
    expected = dwa_weights(torch.tensor([9.0, 9.0]), torch.tensor([1.0, 1.5])).tolist()
    assert found[6] == pytest.approx(expected)


def test_dwa_and_uncertainty_agree_with_torchjd():
    theirs = pytest.importorskip("torchjd.scalarization")
    g = torch.Generator().manual_seed(0)
    dwa, ours = theirs.DWA(2.0), DWA(TASKS, window=3)
    for epoch in range(5):
        for _ in range(3):
            losses = torch.rand(3, generator=g, dtype=torch.float64) + 0.1
            expected = dwa(losses)
            found = (ours.weigh(losses) * losses).sum()
            assert abs(float(found - expected)) < (1e-9 if epoch else 1e-12)
        dwa.step()
    uw = theirs.UW((3,)).double()
    s = torch.randn(3, generator=g, dtype=torch.float64)
    (parameter,) = uw.parameters()
    losses = torch.rand(3, generator=g, dtype=torch.float64)
    with torch.no_grad():
        parameter.copy_(s)
    uw(losses).backward()
    mine = s.clone().requires_grad_()
    total = uncertainty_total(losses, mine, torch.tensor([True] * 3))
    total.backward()
    torch.testing.assert_close(total, uw(losses), rtol=0, atol=1e-9)
    torch.testing.assert_close(mine.grad, parameter.grad, rtol=0, atol=1e-9)


# ---- uncertainty


def test_uncertainty_forms_and_its_own_optimizer():
    regression = torch.tensor([False, True])
    s = torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)
    losses = torch.tensor([0.7, 0.4], dtype=torch.float64)
    total = uncertainty_total(losses, s, regression)
    by_hand = torch.exp(-s[0]) * 0.7 + s[0] / 2 + torch.exp(-s[1]) * 0.4 / 2 + s[1] / 2
    torch.testing.assert_close(total, by_hand)
    (gradient,) = torch.autograd.grad(total, s)
    torch.testing.assert_close(gradient, 0.5 - uncertainty_weights(s.detach(), regression) * losses)
    # the step is Adam on that gradient, from s = 0
    weighting = Uncertainty(("x", "y"), lr=0.1, regression=[False, True])
    reference = nn.Parameter(torch.zeros(2))
    adam = torch.optim.Adam([reference], lr=0.1)
    for number in range(4):
        values = torch.tensor([0.7 + number, 0.4])
        torch.testing.assert_close(weighting.weigh(values), uncertainty_weights(reference.detach(), regression))
        adam.zero_grad()
        uncertainty_total(values, reference, regression).backward()
        adam.step()
    torch.testing.assert_close(weighting.adam.value, reference.detach())


def test_uncertainty_settles_at_the_optimum_and_the_cap_bounds_it():
    losses = torch.tensor([0.3, 0.005])
    free, bound = Uncertainty(("x", "y"), 0.05), Uncertainty(("x", "y"), 0.05, cap=4.0)
    for _ in range(3000):
        weights, capped = free.weigh(losses), bound.weigh(losses)
    # e^-s L + s / 2 is least at e^-s = 1 / (2 L): 60 times the weight
    torch.testing.assert_close(weights, 0.5 / losses, rtol=1e-3, atol=0)
    assert float(weights[1] / weights[0]) == pytest.approx(60, rel=2e-3)
    assert float(capped[1] / capped[0]) == pytest.approx(4)


def test_an_absent_task_keeps_its_s():
    weighting = Uncertainty(("x", "y"), 0.1)
    weighting.weigh(torch.tensor([1.0, 1.0]))
    before = weighting.adam.value.clone()
    weighting.weigh(torch.tensor([1.0, 0.0]))
    assert weighting.adam.value[1] == before[1] and weighting.adam.value[0] != before[0]


def test_small_adam_is_adam():
    g = torch.Generator().manual_seed(0)
    reference = nn.Parameter(torch.randn(5, generator=g))
    ours = SmallAdam(reference.detach().clone(), 0.03)
    adam = torch.optim.Adam([reference], lr=0.03)
    for _ in range(20):
        reference.grad = torch.randn(5, generator=g)
        ours.step(reference.grad)
        adam.step()
    torch.testing.assert_close(ours.value, reference.detach())


# ---- GradNorm


def test_gradnorm_gradient_is_that_of_double_backward():
    net, example = network(double=True), batch(double=True)
    logits = net.logits(net.tables.lookup(example, learn=True), example)  # the step's own losses are in float32
    losses = nn.functional.binary_cross_entropy_with_logits(logits, example.labels, reduction="none").mean(0)
    shared = net.model.last_shared()
    weights = torch.tensor([0.5, 1.7, 0.8], dtype=torch.float64, requires_grad=True)
    start = torch.tensor([0.9, 0.5, 0.7], dtype=torch.float64)
    lengths, norms = [], []
    for t in range(3):
        (g,) = torch.autograd.grad(weights[t] * losses[t], shared, create_graph=True)
        lengths.append(g.norm())
        norms.append((g / weights[t]).norm().detach())
    ratios = losses.detach() / start
    goal = (torch.stack(lengths).mean() * (ratios / ratios.mean()) ** 1.5).detach()
    expected = torch.autograd.grad((torch.stack(lengths) - goal).abs().sum(), weights)[0]
    found = gradnorm_gradient(weights.detach(), torch.stack(norms), ratios, 1.5)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    assert (found < 0).any() and (found > 0).any()


def test_gradnorm_brings_lengths_together_and_keeps_the_sum():
    weight = nn.Parameter(torch.ones(4))
    weighting = GradNorm(("x", "y"), [weight], alpha=0.0, lr=0.01)
    big, small = torch.tensor([8.0, 0, 0, 0]), torch.tensor([0, 1.0, 0, 0])
    for _ in range(600):
        losses = torch.stack([(weight * big).sum(), (weight * small).sum()])
        weighting.gradients(losses, [weight], None)
        assert float(weighting.adam.value.sum()) == pytest.approx(2, abs=1e-5) and (weighting.adam.value > 0).all()
    w = weighting.adam.value
    assert float(8 * w[0] / w[1]) == pytest.approx(1, abs=0.25)  # equal lengths up to the rate's step


def test_gradnorm_starts_from_base_rates_and_skips_the_absent():
    labels = torch.tensor([[1.0, 0.0], [0.0, torch.nan], [1.0, 0.0], [0.0, 1.0]])
    start = base_rate_losses(labels)
    assert start.tolist() == pytest.approx([0.6931472, 0.6365142], abs=1e-6)
    weight = nn.Parameter(torch.ones(2))
    weighting = GradNorm(("x", "y"), [weight], start=start)
    weighting.gradients(torch.stack([weight[0] * 3, weight[1] * 0]), [weight], None)
    assert torch.equal(weighting.start, start)
    first = GradNorm(("x", "y"), [weight])
    first.gradients(torch.stack([weight[0] * 3, weight[1] * 0]), [weight], None)
    assert first.start.tolist() == [3, 0]  # y has not been seen yet
    first.gradients(torch.stack([weight[0] * 2, weight[1] * 5]), [weight], None)
    assert first.start.tolist() == [3, 5]
