"""From a config to a rule, and what a rule keeps."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest
import torch
from small_network import network
from torch import Tensor, nn

from autodim.config.schema import (
    ClipConfig,
    DenseOptimizerConfig,
    OptimizerConfig,
    PerturbConfig,
    ScheduleConfig,
    TableOptimizerConfig,
)
from autodim.errors import ConfigError
from autodim.optim import build_dense_optimizer, build_table_optimizer, state_numbers
from autodim.optim.build import build_clipper, build_perturbation, build_rules
from autodim.optim.methods import CLIPPERS, DENSE_OPTIMIZERS, PERTURBATIONS, TABLE_OPTIMIZERS, UNFUSED
from autodim.optim.schedule import SCHEDULES


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


@pytest.mark.parametrize(("mode", "relative", "absolute"), [("paper", 0.5, 1e-2), ("tfrs", 0.1, 1e-7)])
@pytest.mark.parametrize("name", UNFUSED)
def test_clippy_takes_the_configs_mode(name, mode, relative, absolute):
    config = DenseOptimizerConfig.model_validate({"name": name, "mode": mode})
    group = build_dense_optimizer(config, [nn.Parameter(torch.ones(3))]).param_groups[0]
    assert (group["relative"], group["absolute"]) == (relative, absolute)


def test_every_stabiliser_of_the_config_is_built_with_its_numbers():
    for section, table in ((PerturbConfig, PERTURBATIONS), (ClipConfig, CLIPPERS), (ScheduleConfig, SCHEDULES)):
        assert set(get_args(section.model_fields["name"].annotation)) == set(table)
    for name, rho in (("helen", 0.05), ("sam", 0.05), ("asam", 0.5)):
        default = build_perturbation(PerturbConfig.model_validate({"name": name}))
        assert type(default) is PERTURBATIONS[name] and default.rho == rho
        assert build_perturbation(PerturbConfig.model_validate({"name": name, "rho": 0.0})).rho == 0
    options = {"xi": 0.1, "norm_scope": "row", "frequency": "ema", "decay": 0.5, "dense": "none"}
    helen = build_perturbation(PerturbConfig.model_validate({"name": "helen", **options}))
    assert (helen.xi, helen.norm_scope, helen.frequency.decay, helen.dense) == (0.1, "row", 0.5, "none")
    assert build_perturbation(PerturbConfig.model_validate({"name": "asam", "eta": 0.2})).eta == 0.2
    net = network()
    agc = build_clipper(ClipConfig.model_validate({"name": "agc", "clip": 0.2, "eps": 0.1}), net)
    assert (agc.max_share, agc.eps, agc.exclude) == (0.2, 0.1, {id(p) for p in net.model.head()})
    assert build_clipper(ClipConfig.model_validate({"name": "norm", "max_norm": 3.0}), net).max_norm == 3
    rows = {"name": "cowclip", "ratio": 2.0, "zeta": 1e-3, "form": "released", "l2": 0.1}
    cow = build_clipper(ClipConfig.model_validate(rows), net)
    assert (cow.ratio, cow.zeta, cow.form, cow.l2) == (2, 1e-3, "released", 0.1)
    with pytest.raises(ConfigError, match="max_norm"):
        build_clipper(ClipConfig.model_validate({"name": "norm"}), net)
    with pytest.raises(ConfigError, match="counts"):
        build_perturbation(PerturbConfig.model_validate({"name": "helen", "frequency": "global"}))


def test_l2_factors_reach_whatever_adds_l2():
    net = network()
    tables = net.tables.table_parameters()
    scales = [torch.full((len(t),), 1.0 + k) for k, t in enumerate(tables)]
    clip = {"clip": [{"name": "cowclip", "l2": 0.1}]}
    (cow,) = build_rules(OptimizerConfig.model_validate(clip), net, l2_scales=scales).clippers
    assert all(cow.l2_scale[t] is s for t, s in zip(tables, scales, strict=True))
    rules = build_rules(OptimizerConfig.model_validate({"tables": {"l2": 0.1}}), net, l2_scales=scales)
    assert all(g["l2_scale"] is s for g, s in zip(rules.optimizers[0].param_groups, scales, strict=True))


def test_a_warmup_as_long_as_the_training_by_rounding_still_reaches_a_last_step():
    rules = build_rules(
        OptimizerConfig.model_validate({"schedule": {"name": "cosine", "warmup": 0.99}}), network(), steps_per_epoch=3
    )
    assert len(rules.schedules) == 2
    assert rules.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3 / 3)


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


def test_scale_batch_is_cowclips_rule():
    net = network()
    section = {"tables": {"lr": 0.1, "l2": 0.0}, "dense": {"lr": 0.2}, "clip": [{"name": "cowclip", "l2": 0.01}]}
    rules = build_rules(OptimizerConfig(**section, scale_batch=4), net, epochs=3, steps_per_epoch=5)
    assert rules.clippers[0].l2 == pytest.approx(0.04)
    rates = []
    for _ in range(7):
        rates.append([o.param_groups[0]["lr"] for o in rules.optimizers])
        for optimizer in rules.optimizers:
            optimizer.step()
        for schedule in rules.schedules:
            schedule.step()
    assert {r[0] for r in rates} == {0.1}  # the tables' rate stays
    assert [r[1] for r in rates] == pytest.approx([0.4 * min(1, (k + 1) / 6) for k in range(7)])  # one epoch of warm-up
    plain = build_rules(OptimizerConfig(tables={"l2": 0.5}, scale_batch=4), network())
    assert plain.optimizers[0].param_groups[0]["l2"] == 2.0
    assert not build_rules(OptimizerConfig(**section), network()).schedules


def test_scale_batch_keeps_a_schedule_and_warms_the_dense_part_only():
    net = network()
    config = OptimizerConfig(tables={"lr": 1.0}, dense={"lr": 1.0}, schedule={"name": "linear"}, scale_batch=4)
    rules = build_rules(config, net, epochs=4, steps_per_epoch=5)
    assert len(rules.schedules) == 2
    assert rules.optimizers[0].param_groups[0]["lr"] == 1.0
    assert rules.optimizers[1].param_groups[0]["lr"] == pytest.approx(2.0 / 6)
