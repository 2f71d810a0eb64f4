"""Weightings that compare gradients at a shared representation, over all architectures in their default sizes."""

from __future__ import annotations

import pytest
import torch
from towers import NUMERIC, SLOTS, TABLES, batch, stepper

from autodim.config.reader import load_config
from autodim.config.schema import ModelConfig, WeightingConfig
from autodim.embedding.layout import uniform_layout
from autodim.errors import ConfigError
from autodim.multitask import ARCHITECTURES
from autodim.stages.model_folder import build_network
from autodim.training.network import Network
from autodim.training.step import Step
from autodim.weighting.build import build_weighting
from autodim.weighting.capture import Captured, shared_modules

TASKS = ("click", "buy")
SHARED = sorted(set(ARCHITECTURES) - {"single"})
# defaults, and one layer where the default has several
CASES = [(name, {}) for name in SHARED] + [
    ("shared_bottom", {"hidden": (6,)}),
    ("esmm", {"hidden": (6,)}),
    ("snr", {"sharing": {"levels": 1}}),
    ("ple", {"sharing": {"levels": 1}}),
    ("mmoe", {"sharing": {"expert_hidden": (6, 4)}}),
    ("mmoe", {"sharing": {"interaction": "cross"}}),
]
EACH = pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{n}-{o}" for n, o in CASES])


def network(name: str, options: dict[str, object]) -> Network:
    config = ModelConfig.model_validate({"name": name, "width": 4, **options})
    return build_network(config, uniform_layout(SLOTS, TABLES, 4), NUMERIC, 2, seed=3).train()


@EACH
@pytest.mark.parametrize(
    "weighting",
    [
        {"name": "paperec"},
        {"name": "mgda", "mode": "representation"},
        {"name": "pcgrad", "mode": "representation"},
    ],
    ids=lambda w: w["name"],
)
def test_every_architecture_learns_under_them(name, options, weighting):
    net = network(name, options)
    built = build_weighting(WeightingConfig.model_validate(weighting), net, TASKS)
    before = [p.detach().clone() for p in net.model.last_shared()]
    step = stepper(net, built)
    for number in range(3):
        assert torch.isfinite(step(batch(2, seed=number), number)).all()
    assert all(bool((p != old).any()) for p, old in zip(net.model.last_shared(), before, strict=True))
    found = built.read()
    assert all(found[f"weight/{t}"] > 0 for t in TASKS)
    assert found.get("fallback", 0.0) == 0


@EACH
def test_the_last_shared_layer_reaches_every_task_through_the_representation_alone(name, options):
    net, example = network(name, options), batch(2)
    captured = Captured(shared_modules(net.model))
    losses = Step(net, [])._losses(net.tables.lookup(example, learn=True), example, None)
    outputs, weights = captured.take(), net.model.last_shared()
    assert len(outputs) == 1 and len(example) in outputs[0].shape[:2]
    for loss in losses:
        at = torch.autograd.grad(loss, outputs, retain_graph=True)
        through = torch.autograd.grad(outputs, weights, at, retain_graph=True)
        for a, b in zip(through, torch.autograd.grad(loss, weights, retain_graph=True), strict=True):
            assert bool((b != 0).any())
            torch.testing.assert_close(a, b)


def test_omoe_parts_after_its_shared_gate():
    """So that the gate, which belongs to no task, is weighed by what is compared."""
    net, example = network("omoe", {}), batch(2)
    captured = Captured(shared_modules(net.model))
    losses = Step(net, [])._losses(net.tables.lookup(example, learn=True), example, None)
    outputs, gate = captured.take(), [net.model.gate[0].slot_weight]
    at = torch.autograd.grad(losses[0], outputs, retain_graph=True)
    through = torch.autograd.grad(outputs, gate, at, retain_graph=True)
    torch.testing.assert_close(through, torch.autograd.grad(losses[0], gate, retain_graph=True))


@pytest.mark.parametrize("weighting", ["{name: paperec}", "{name: mgda, mode: representation}"])
@pytest.mark.parametrize("interaction", ["none", "cross"])
def test_networks_that_share_tables_alone_are_refused_before_anything_is_read(weighting, interaction):
    text = f"""
run: nowhere
data: {{path: missing.csv, labels: [click, buy], slots: [user, item]}}
model: {{name: single, sharing: {{interaction: {interaction}}}}}
pretrain: {{weighting: {weighting}}}
"""
    with pytest.raises(ConfigError, match="the tasks share tables alone"):
        load_config(text, [], "here")
    net = network("single", {"sharing": {"interaction": interaction}})
    config = WeightingConfig.model_validate({"name": "mgda", "mode": "representation"})
    with pytest.raises(ConfigError, match="no last representation that all tasks share"):
        build_weighting(config, net, TASKS)
