"""Clippy against published numbers, against torch where no limit binds, and its laws."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import Tensor, nn

from autodim.optim.clippy import MODES, Clippy, ClippyAdagrad, ClippyAdam, ClippyMode, shrink

WIDE = ClippyMode(relative=0.0, absolute=1e9)
RULES = pytest.mark.parametrize("rule", [ClippyAdagrad, ClippyAdam])


@pytest.mark.parametrize(
    ("update", "references", "relative", "absolute", "expected", "scale"),
    [
        (2.0, [4.0], [0.1], 0.02, 0.42, 0.21),
        (-2.0, [4.0], [0.1], 0.0, -0.4, 0.2),
        (-2.0, [0.0], [0.1], 0.0, 0.0, 0.0),
        (2.0, [20.0], [0.1], 0.1, 2.0, 1.0),
        (0.0, [1.0], [0.1], 0.0, 0.0, 1.0),
        (0.0, [0.0], [0.0], 0.0, 0.0, 1.0),
        (2.0, [4.0, -5.0], [0.1, 0.2], 0.02, 1.42, 0.71),
        ([1.0, 1.0], [[1.0, 0.1]], [0.1], 0.01, [0.02, 0.02], 0.02),
        ([1.0, 1.0, 0.0, 0.0], [[1.0, 0.0, 1.0, 0.0]], [0.1], 0.0, [0.0] * 4, 0.0),
    ],
)
def test_shrink(update, references, relative, absolute, expected, scale):
    found, factor = shrink(torch.tensor(update), [torch.tensor(r) for r in references], relative, absolute)
    torch.testing.assert_close(found, torch.tensor(expected))
    assert factor.item() == pytest.approx(scale)


CASE_B = ClippyMode(0.4, 0.1, 0.0, accumulate_first=False, accumulator_relative=0.01)
CASE_C = ClippyMode(0.4, 0.1, 0.0, accumulate_first=False, accumulator_relative=0.01, clip_accumulator=True)
CASE_D = ClippyMode(0.1, 1e-7, 0.0, accumulate_first=True)


@pytest.mark.parametrize(
    ("mode", "lr", "initial", "gradient", "weights", "sums", "sigma"),
    [
        ("tfrs", 0.1, 0.01, [0.1, 0.15], [0.9, 1.85], [0.02, 0.0325], 1.0),
        (CASE_B, 0.2, 0.01, [10.0, 10.0], [0.4, 1.4], [100.01, 100.01], 0.03),
        (CASE_C, 0.2, 0.01, [10.0, 10.0], [0.4, 1.4], [0.10, 0.10], 0.03),
        (CASE_D, 0.1, 0.0, [0.1, 0.15], [0.9, 1.9], [0.01, 0.0225], 1.0),
    ],
    ids=["a", "b", "c", "d"],
)
def test_one_step_of_adagrad(mode, lr, initial, gradient, weights, sums, sigma):
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = ClippyAdagrad([weight], lr=lr, initial=initial, mode=mode)
    weight.grad = torch.tensor(gradient)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor(weights), rtol=1e-5, atol=0)
    torch.testing.assert_close(optimizer.state[weight]["sum"], torch.tensor(sums), rtol=1e-5, atol=0)
    assert optimizer.state[weight]["sigma"].item() == pytest.approx(sigma, rel=1e-5)


def test_the_papers_step_is_shrink_of_adagrads_step():
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(5, 3, generator=generator) * 0.1)
    optimizer = ClippyAdagrad([weight], lr=0.5)
    slow, total = weight.detach().clone(), torch.full((5, 3), 0.1)
    bound = 0
    for _ in range(6):
        weight.grad = torch.randn(5, 3, generator=generator)
        total += weight.grad**2
        update, sigma = shrink(0.5 * weight.grad / total.sqrt(), [slow], [0.5], 1e-2)
        slow = slow - update
        optimizer.step()
        torch.testing.assert_close(weight.detach(), slow)
        torch.testing.assert_close(optimizer.state[weight]["sigma"], sigma)
        bound += sigma.item() < 1
    assert bound > 2


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            lambda p, d: ClippyAdagrad(p, lr=0.1, mode=WIDE, weight_decay=d),
            lambda p, d: torch.optim.Adagrad(p, 0.1, weight_decay=d, initial_accumulator_value=0.1, eps=0.0),
        ),
        (
            lambda p, d: ClippyAdam(p, lr=0.1, mode=WIDE, weight_decay=d),
            lambda p, d: torch.optim.Adam(p, lr=0.1, weight_decay=d),
        ),
    ],
    ids=["adagrad", "adam"],
)
def test_without_a_limit_it_is_torchs_own_rule(ours, theirs, decay):
    generator = torch.Generator().manual_seed(1)
    one = [nn.Parameter(torch.randn(4, 3, generator=generator)), nn.Parameter(torch.randn(3, generator=generator))]
    two = [nn.Parameter(p.detach().clone()) for p in one]
    mine, other = ours(one, decay), theirs(two, decay)
    for _ in range(8):
        for p, q in zip(one, two, strict=True):
            p.grad = torch.randn(p.shape, generator=generator)
            q.grad = p.grad.clone()
        mine.step()
        other.step()
    for p, q in zip(one, two, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-6)


@RULES
@pytest.mark.parametrize("mode", MODES)
def test_no_number_moves_beyond_its_limit(rule, mode):
    generator = torch.Generator().manual_seed(2)
    weight = nn.Parameter(torch.randn(6, 4, generator=generator))
    optimizer = rule([weight], lr=3.0, mode=mode)
    for _ in range(5):
        before = weight.detach().clone()
        weight.grad = 100 * torch.randn(6, 4, generator=generator)
        optimizer.step()
        limit = MODES[mode].relative * before.abs() + MODES[mode].absolute
        moved = (weight.detach() - before).abs()
        assert (moved <= limit * (1 + 1e-4) + 1e-6).all()
        assert (moved / limit).max().item() == pytest.approx(1.0, rel=0.05)  # and one of them reaches it
        assert optimizer.state[weight]["sigma"].item() < 1


@RULES
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_gradient_that_is_not_finite_is_skipped_and_counted(rule, bad):
    generator = torch.Generator().manual_seed(3)
    start = [torch.randn(3, 2, generator=generator), torch.randn(4, generator=generator)]
    mine, twin = [[nn.Parameter(s.clone()) for s in start] for _ in range(2)]
    one, two = rule(mine, lr=0.1), rule(twin, lr=0.1)

    def step(optimizer: Clippy, parameters: list[nn.Parameter], number: int, spoiled: bool) -> None:
        for k, p in enumerate(parameters):
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(10 * number + k))
        if spoiled:
            parameters[0].grad[1, 1] = bad
        optimizer.step()

    # the twin's first parameter never saw the spoiled step; the second parameter took it in both
    for number in range(4):
        before = mine[0].detach().clone()
        step(one, mine, number, spoiled=number in (0, 2))
        if number in (0, 2):
            assert torch.equal(mine[0].detach(), before)
            kept = twin[0].grad
            twin[0].grad = None
            twin[1].grad = mine[1].grad.clone()
            two.step()
            twin[0].grad = kept
        else:
            step(two, twin, number, spoiled=False)
    for p, q in zip(mine, twin, strict=True):
        assert torch.isfinite(p).all()
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)
    assert [one.state[p]["skipped"].item() for p in mine] == [2, 0]


@RULES
def test_zero_gradients_and_zero_weights_are_no_division_by_zero(rule):
    mode = ClippyMode(0.1, 0.0, 0.0)
    weight = nn.Parameter(torch.tensor([0.0, 1.0, 0.0]))
    options = {"initial": 0.0} if rule is ClippyAdagrad else {}
    optimizer = rule([weight], lr=0.1, mode=mode, **options)
    weight.grad = torch.tensor([0.0, 2.0, 0.0])
    optimizer.step()
    assert weight.tolist() == pytest.approx([0.0, 0.9, 0.0], rel=1e-5)
    weight.grad = torch.tensor([1.0, 2.0, 0.0])  # a zero weight with no absolute limit holds the whole tensor
    optimizer.step()
    assert weight.tolist() == pytest.approx([0.0, 0.9, 0.0], rel=1e-5, abs=1e-30)


@RULES
def test_a_restored_rule_continues_to_the_bit(rule):
    generator = torch.Generator().manual_seed(4)
    weight = nn.Parameter(torch.randn(4, 3, generator=generator))
    optimizer = rule([weight], lr=0.3)
    steps = [torch.randn(4, 3, generator=generator) for _ in range(6)]

    def train(optimizer: Clippy, weight: nn.Parameter, grads: list[Tensor]) -> None:
        for g in grads:
            weight.grad = g.clone()
            optimizer.step()

    train(optimizer, weight, steps[:3])
    saved = copy.deepcopy(optimizer.state_dict())
    json.dumps(saved["param_groups"])
    assert all(isinstance(v, Tensor) for s in saved["state"].values() for v in s.values())
    twin = nn.Parameter(weight.detach().clone())
    restored = rule([twin], lr=9.0)
    restored.load_state_dict(saved)
    train(optimizer, weight, steps[3:])
    train(restored, twin, steps[3:])
    assert torch.equal(weight, twin)


@RULES
def test_empty_and_missing_gradients_are_left_alone(rule):
    empty, idle, weight = nn.Parameter(torch.empty(4, 0)), nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = rule([empty, idle, weight])
    empty.grad, weight.grad = torch.empty(4, 0), torch.ones(2)
    optimizer.step()
    assert torch.equal(idle.detach(), torch.ones(2)) and (weight < 1).all()


def test_impossible_options_are_refused():
    weight = nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match="mode must be one of"):
        ClippyAdagrad([weight], mode="google")
    with pytest.raises(ValueError, match="negative"):
        ClippyMode(relative=-0.1)
    with pytest.raises(ValueError, match="accumulate_first"):
        ClippyMode(clip_accumulator=True)
    with pytest.raises(ValueError, match="fused"):
        ClippyAdam([weight], fused=True)
