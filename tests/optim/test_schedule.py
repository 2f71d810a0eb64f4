"""Learning-rate schedules: their values, and an exact restart."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from autodim.optim.schedule import SCHEDULES, make_schedule


def optimizer(lr: float = 2.0) -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=lr)


def rates(name: str, steps: int, warmup: int = 0, floor: float = 0.0) -> list[float]:
    rule = optimizer()
    schedule = make_schedule(name, rule, steps, warmup, floor)
    out = []
    for _ in range(steps):
        out.append(rule.param_groups[0]["lr"])
        rule.step()
        schedule.step()
    return out


@pytest.mark.parametrize(
    ("name", "warmup", "floor", "expected"),
    [
        ("constant", 0, 0.0, [2, 2, 2, 2, 2]),
        ("constant", 3, 0.0, [0.5, 1, 1.5, 2, 2]),
        ("linear", 0, 0.0, [2, 1.5, 1, 0.5, 0]),
        ("linear", 2, 0.5, [2 / 3, 4 / 3, 2, 1.5, 1]),
        ("cosine", 0, 0.0, [2, 1 + 0.5**0.5, 1, 1 - 0.5**0.5, 0]),
        ("cosine", 0, 1.0, [2, 2, 2, 2, 2]),
    ],
)
def test_rates_by_hand(name, warmup, floor, expected):
    assert rates(name, 5, warmup, floor) == pytest.approx(expected)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_restart_continues_exactly(name):
    whole = rates(name, 9, 3, 0.1)
    one = optimizer()
    schedule = make_schedule(name, one, 9, 3, 0.1)
    for _ in range(5):
        one.step()
        schedule.step()
    saved = json.loads(json.dumps([one.state_dict(), schedule.state_dict()]))
    two = optimizer(lr=7.0)
    restored = make_schedule(name, two, 9, 3, 0.1)
    two.load_state_dict(saved[0])
    restored.load_state_dict(saved[1])
    for expected in whole[5:]:
        assert two.param_groups[0]["lr"] == expected
        two.step()
        restored.step()


def test_groups_keep_their_proportion():
    rule = torch.optim.SGD([{"params": [nn.Parameter(torch.ones(1))], "lr": r} for r in (1.0, 4.0)], lr=1.0)
    schedule = make_schedule("linear", rule, 5)
    rule.step()
    schedule.step()
    assert [g["lr"] for g in rule.param_groups] == pytest.approx([0.75, 3.0])


def test_impossible_options_are_refused():
    with pytest.raises(ValueError, match="constant, linear, cosine"):
        make_schedule("exponential", optimizer(), 5)
    for arguments in ((0, 0, 0.0), (5, 5, 0.0), (5, 0, 1.5)):
        with pytest.raises(ValueError, match="found steps="):
            make_schedule("linear", optimizer(), *arguments)
