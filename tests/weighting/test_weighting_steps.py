"""Weightings in the step protocol: with second passes and clippers, by example, and resumed to the bit."""

from __future__ import annotations

import itertools

import pytest
import torch
from towers import NUMERIC, SLOTS, TABLES, B, batch, network, stepper, task_gradients

from autodim.config.schema import TrainConfig, WeightingConfig
from autodim.data.columns import Columns
from autodim.errors import ConfigError
from autodim.optim.helen import Helen
from autodim.optim.norm_clip import NormClip
from autodim.optim.sam import SAM
from autodim.training.interrupt import Interrupted
from autodim.training.loop import Training
from autodim.training.progress import Progress
from autodim.training.step import Stateful, Step
from autodim.weighting import LOSSES, SOLVERS, WEIGHTINGS
from autodim.weighting.build import build_weighting
from autodim.weighting.capture import Captured, shared_modules
from autodim.weighting.paperec import paperec_weights, slot_ids

TASKS = ("x", "y", "z")
OPTIONS = {
    "static": {"weights": {"x": 2.0}},
    "decayed": {"weights": {"y": 2.0}, "decay": {"x": 0.5}},
    "dwa": {"window_steps": 2},
    "pe_ltr": {"floor": {"x": 0.2, "z": 0.1}},
    "paperec": {"floor": {"x": 0.1}, "lr": 0.05},
}
QUIET = Progress("quiet")


def build(name, net, **more):
    config = WeightingConfig(name=name, **{**OPTIONS.get(name, {}), **more})
    return build_weighting(config, net, TASKS, steps_per_epoch=5)


@pytest.mark.parametrize("name", WEIGHTINGS)
@pytest.mark.parametrize("perturbation", [SAM, Helen])
def test_a_radius_of_zero_changes_nothing(name, perturbation):
    """The second pass at the same place gives the first one's update: its weights are the first's."""
    found = []
    for second in (None, perturbation(0.0)):
        net = network()
        step = stepper(net, build(name, net), second)
        for k in range(2):
            step(batch(seed=k), k)
        found.append(net.state())
    for key, value in found[0].items():
        torch.testing.assert_close(found[1][key], value, rtol=1e-4, atol=1e-5, msg=key)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_second_pass_reuses_the_weights_and_teaches_nothing(name):
    net = network()
    weighting = build(name, net)
    step = stepper(net, weighting)
    step(batch(seed=0), 0)
    lookup = net.tables.lookup(batch(seed=1), learn=True)
    targets = [*lookup.leaves, *step.dense]
    weighting.gradients(step._losses(lookup, batch(seed=1), None), targets, lookup)
    kept = {k: v.clone() for k, v in weighting.state().items()} if isinstance(weighting, Stateful) else {}
    weights = weighting.weights.clone()
    moved = [(leaf.detach() + 0.3).requires_grad_() for leaf in lookup.leaves]
    torch.manual_seed(99)
    found = weighting.gradients(step._losses(lookup, batch(seed=1), moved), moved, lookup, again=True)  # leaves alone
    assert torch.equal(weighting.weights, weights)
    for key, value in weighting.state().items():
        torch.testing.assert_close(value, kept[key], rtol=0, atol=0, equal_nan=True)
    if name not in ("paperec", "uniform"):
        losses = step._losses(lookup, batch(seed=1), moved)
        expected = torch.autograd.grad((losses * weights.to(losses)).sum(), moved, allow_unused=True)
        for one, two in zip(found, expected, strict=True):
            torch.testing.assert_close(one, two)


def test_sam_moves_by_the_weighted_gradient():
    """A second pass under a gradient weighting against weights that are really moved."""
    net, example = network(double=True), batch(double=True)
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    weighting = build("pcgrad", net)
    step = stepper(net, weighting, SAM(0.3), lr=1.0)
    step(example, 5)
    update = {n: before[n] - p.detach() for n, p in net.named_parameters()}
    names = {id(p): n for n, p in net.named_parameters()}
    owner = {names[id(p)]: t for t, mine in enumerate(net.model.own_parameters()) for p in mine}

    def direction(grads):
        return {
            n: grads[owner[n]][n] if n in owner else sum(a * g[n] for a, g in zip(w, grads, strict=True))
            for n in before
        }

    w = weighting.weights.tolist()
    with torch.no_grad():
        for n, p in net.named_parameters():
            p.copy_(before[n])
    first = direction(task_gradients(net, example))
    norm = torch.stack([g.square().sum() for g in first.values()]).sum().sqrt()
    with torch.no_grad():
        for n, p in net.named_parameters():
            p.add_(first[n] * 0.3 / norm)
    for n, expected in direction(task_gradients(net, example)).items():
        torch.testing.assert_close(update[n], expected, rtol=1e-6, atol=1e-8, msg=n)


@pytest.mark.parametrize("name", ["pcgrad", "pe_ltr", "gradnorm", "paperec"])
def test_a_clipper_bounds_what_a_weighting_gives(name):
    net = network()
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    stepper(net, build(name, net), clippers=(NormClip(0.01),), lr=1.0)(batch(), 0)
    moved = torch.cat([(p.detach() - before[n]).flatten() for n, p in net.named_parameters()]).norm()
    assert float(moved) == pytest.approx(0.01, rel=1e-3)


# ---- by example


def test_paperec_weights_keep_floors_and_leave_absent_tasks_out():
    scores = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 0, 0]]).bool()
    floors = torch.tensor([0.2, 0.1, 0.3])
    w = paperec_weights(scores, floors, present)
    torch.testing.assert_close(w.sum(1), torch.tensor([1.0, 1.0, 1.0, 0.0]))
    assert (w[present] >= floors.expand(4, 3)[present]).all() and (w[~present] == 0).all()


def test_paperec_update_is_each_examples_weighted_gradient():
    net, example = network(double=True), batch(double=True)
    weighting = build("paperec", net)
    weighting.adam.value = 0.2 * torch.randn(6, 3, generator=torch.Generator().manual_seed(1))  # not equal weights
    weighting.adam.load_state({k: torch.zeros(6, 3) for k in ("first", "second", "steps")} | {
        "value": weighting.adam.value.clone()})  # fmt: skip
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    stepper(net, weighting, lr=1.0)(example, 0)
    w = weighting.weights.double()
    assert w.std(0).min() > 0.01
    update = {n: before[n] - p.detach() for n, p in net.named_parameters()}
    with torch.no_grad():
        for n, p in net.named_parameters():
            p.copy_(before[n])
    logits = net.logits(net.tables.lookup(example), example)
    each = torch.nn.functional.binary_cross_entropy_with_logits(logits, example.labels, reduction="none") / B
    shared = [p for p in net.model.bottom.parameters()]
    names = {id(p): n for n, p in net.named_parameters()}
    for p, g in zip(shared, torch.autograd.grad((w * each).sum(), shared, retain_graph=True), strict=True):
        torch.testing.assert_close(update[names[id(p)]], g, rtol=1e-5, atol=1e-7)
    for t, mine in enumerate(net.model.own_parameters()):
        for p, g in zip(mine, torch.autograd.grad(each[:, t].sum(), mine, retain_graph=True), strict=True):
            torch.testing.assert_close(update[names[id(p)]], g, rtol=1e-5, atol=1e-7)


def test_paperec_learns_to_shorten_the_gradient_by_group():
    net, example = network(), batch()
    weighting = build("paperec", net, group="a", floor={})
    weighting.adam.lr = 0.5
    step = stepper(net, weighting, lr=1e-12)
    captured = Captured(shared_modules(net.model))
    losses = step._losses(net.tables.lookup(example, learn=True), example, None)
    (out,) = captured.take()
    each = torch.stack([torch.autograd.grad(loss, out, retain_graph=True)[0] for loss in losses], dim=1)  # B x T x H
    lengths = []
    for _ in range(60):
        step(example, 0)
        lengths.append(float(torch.einsum("bt,bth->bh", weighting.weights, each).square().sum()))
    assert lengths[-1] < 0.9 * lengths[0]
    assert torch.equal(slot_ids(net.tables.lookup(example), 0), example.ids[:, 0].long())
    groups = weighting.by_group()
    assert groups.shape == (9, 3)
    same = [weighting.weights[example.ids[:, 0] == k] for k in example.ids[:, 0].unique()]
    assert all(torch.equal(rows, rows[:1].expand_as(rows)) for rows in same)
    found = weighting.read()
    assert found["weight/y/3"] == pytest.approx(float(groups[3, 1]))


# ---- resume


def part(rows: int, seed: int) -> Columns:
    g = torch.Generator().manual_seed(seed)
    ids = torch.stack([torch.randint(0, n, (rows,), generator=g) for n in (9, 11, 6)], 1).int()
    labels = torch.stack([((ids[:, 0] + ids[:, 1]) % k == 0).float() for k in (2, 3, 5)], 1)
    return Columns.from_arrays(ids=ids, numeric=torch.randn(rows, NUMERIC, generator=g), labels=labels,
                               one_hot_slots=("a", "b", "c"))  # fmt: skip


def plain_network():
    from towers import D, Towers

    from autodim.embedding.layout import Layout, uniform_layout
    from autodim.embedding.tables import Tables
    from autodim.training.network import Network

    slots = tuple(s for s in SLOTS if not s.multi)
    tables = tuple(t for t in TABLES if t.name in ("a", "b", "c"))
    layout: Layout = uniform_layout(slots, tables, D)
    torch.manual_seed(0)
    made = Tables(layout, linear=True)
    made.initialise(0.3, torch.Generator().manual_seed(0))

    class Three(Towers):
        def __init__(self):
            super().__init__(3)
            from autodim.models.mlp import Mlp

            self.bottom = Mlp(3, D, NUMERIC, hidden=(7,), outputs=6, dropout=0.2)

    return Network(made, Three())


def training(folder, name, **more):
    net = plain_network()
    step = stepper(net, build(name, net, **more))
    config = TrainConfig(batch=32, epochs=2, evals_per_epoch=2)
    return Training(net, step, (part(150, 0), part(80, 1)), config, 3, folder)


class StopAfter:
    def __init__(self, steps):
        self.left = steps

    @property
    def signum(self):
        self.left -= 1
        return 15 if self.left < 0 else None


CASES = [*((n, {}) for n in WEIGHTINGS), ("gradvac", {"every": 2}), ("mgda", {"mode": "representation"}),
         ("paperec", {"group": "a"})]  # fmt: skip


@pytest.mark.parametrize(("name", "more"), CASES, ids=[f"{n}{'-'.join(m)}" for n, m in CASES])
def test_resumed_equals_uninterrupted_to_the_bit(tmp_path, name, more):
    whole = training(tmp_path / "whole", name, **more)
    expected = whole.run(QUIET, "whole")
    stops = itertools.cycle((3, 1, 5))
    for _ in range(50):
        again = training(tmp_path / "again", name, **more)
        try:
            found = again.run(QUIET, "again", StopAfter(next(stops)))
        except Interrupted:
            continue
        break
    assert [p.to_json() for p in found.points] == [p.to_json() for p in expected.points]
    for key, tensor in whole.network.state().items():
        assert torch.equal(tensor, again.network.state()[key]), key
    gauges = expected.points[-1].optimizer
    assert all(gauges[f"weight/{t}"] == gauges[f"weight/{t}"] and gauges[f"loss/{t}"] > 0 for t in TASKS)
    assert ("conflict" in gauges) == (name in SOLVERS)


@pytest.mark.parametrize("name", ["decayed", "uncertainty", "dwa", "gradnorm", "gradvac", "paperec"])
def test_the_resume_really_needs_the_state(tmp_path, name):
    whole = training(None, name).run(QUIET, "whole")
    first = training(tmp_path / "run", name)
    with pytest.raises(Interrupted):
        first.run(QUIET, "first", StopAfter(8))
    forgetful = training(tmp_path / "run", name)
    forgetful.step.weighting.load_state = lambda tensors: None
    found = forgetful.run(QUIET, "again").points
    assert [p.to_json() for p in found] != [p.to_json() for p in whole.points]


# ---- building


def test_every_name_of_the_config_builds():
    assert set(WEIGHTINGS) == set(WeightingConfig.model_fields["name"].annotation.__args__)
    net = network()
    for name in WEIGHTINGS:
        kind = type(build(name, net))
        assert kind is LOSSES[name] if name in LOSSES else kind is not None
    assert build_weighting(WeightingConfig(), net, ["x"]) is None


@pytest.mark.parametrize(
    ("config", "tasks", "message"),
    [
        ({"name": "pcgrad"}, ["x"], "there is one task"),
        ({"name": "static", "weights": {"w": 1}}, TASKS, "no task 'w'"),
        ({"name": "paperec", "group": "tags"}, TASKS, "no slot 'tags' with one id a row"),
        ({"name": "gradnorm", "initial": "base_rate"}, TASKS, "base_losses"),
    ],
)
def test_what_cannot_be_built_is_refused(config, tasks, message):
    with pytest.raises(ConfigError, match=message):
        build_weighting(WeightingConfig(**config), network(), tasks)


def test_a_model_without_towers_has_no_shared_representation():
    from autodim.config.schema import ModelConfig
    from autodim.embedding.layout import uniform_layout
    from autodim.stages.model_folder import build_network

    net = build_network(ModelConfig(name="dnn", width=4, hidden=(5,)), uniform_layout(SLOTS, TABLES, 4), 2, 3, 0)
    for config in (WeightingConfig(name="mgda", mode="representation"), WeightingConfig(name="paperec")):
        with pytest.raises(ConfigError, match="no last representation"):
            build_weighting(config, net, TASKS)
    step = Step(net, [], build_weighting(WeightingConfig(name="gradnorm"), net, TASKS))
    step(batch(), 0)  # GradNorm measures at the last layer, which all tasks share
