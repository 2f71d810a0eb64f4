"""From a config to a rule, and what a rule keeps."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from autodim.config.schema import DenseOptimizerConfig, TableOptimizerConfig
from autodim.optim import build_dense_optimizer, build_table_optimizer, state_numbers
from autodim.optim.methods import DENSE_OPTIMIZERS, TABLE_OPTIMIZERS, UNFUSED


def test_every_name_of_the_config_has_a_rule():
    assert set(get_args(TableOptimizerConfig.model_fields["name"].annotation)) == set(TABLE_OPTIMIZERS)
    assert set(get_args(DenseOptimizerConfig.model_fields["name"].annotation)) == set(DENSE_OPTIMIZERS)


@pytest.mark.parametrize("name", TABLE_OPTIMIZERS)
def test_state_numbers_tell_the_state_that_is_really_kept(name):
    rows, width = 50, 7
    table = nn.Parameter(torch.zeros(rows, width))
    optimizer = build_table_optimizer(
        TableOptimizerConfig.model_validate({"name": name, "lr": 0.3, "l2": 0.2}), [table]
    )
    assert optimizer.param_groups[0]["lr"] == 0.3 and optimizer.param_groups[0]["l2"] == 0.2
    table.grad = torch.ones(rows, width)
    optimizer.step()
    kept = sum(v.numel() for v in optimizer.state[table].values() if isinstance(v, Tensor))
    per_number, per_row = state_numbers(name)
    assert kept == rows * width * per_number + rows * per_row


@pytest.mark.parametrize("name", DENSE_OPTIMIZERS)
def test_dense_rules_take_the_configs_numbers_and_empty_weights(name):
    config = DenseOptimizerConfig.model_validate({"name": name, "lr": 0.3, "weight_decay": 0.2})
    weight, empty = nn.Parameter(torch.ones(3)), nn.Parameter(torch.empty(4, 0))  # a model without numeric columns
    optimizer = build_dense_optimizer(config, [weight, empty])
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.3, 0.2)
    assert name in UNFUSED or group["fused"]
    weight.grad, empty.grad = torch.ones(3), torch.empty(4, 0)
    optimizer.step()
    assert (weight < 1).all()


@pytest.mark.parametrize("name", [n for n in DENSE_OPTIMIZERS if n not in UNFUSED])
def test_fused_dense_rules_equal_the_plain_loop(name):
    config = DenseOptimizerConfig.model_validate({"name": name, "lr": 0.1, "weight_decay": 0.2})
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(40, generator=generator)
    mine, other = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    rule = build_dense_optimizer(config, [mine])
    plain = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "adagrad": torch.optim.Adagrad,
        "sgd": torch.optim.SGD,
    }
    reference = plain[name]([other], lr=0.1, weight_decay=0.2, foreach=False)
    for _ in range(5):
        mine.grad = torch.randn(40, generator=generator)
        other.grad = mine.grad.clone()
        rule.step()
        reference.step()
    torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_a_model_without_tables_gets_a_rule_that_does_nothing():
    optimizer = build_table_optimizer(TableOptimizerConfig(), [])
    optimizer.step()
    assert optimizer.state_dict()["state"] == {}


def test_costs_are_known_without_loading_torch():
    code = (
        "import sys; from autodim.optim import state_numbers; print(state_numbers('adagrad'), 'torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "(1, 0) False"
