"""GradVac by group of parameters: against dense gradients, against one group, with second passes and restarts."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from towers import batch, network, stepper, task_gradients

from autodim.config.check import check
from autodim.config.schema import Config, WeightingConfig
from autodim.optim.sam import SAM
from autodim.training.network import Network
from autodim.weighting.build import build_weighting
from autodim.weighting.gradients import GradientWeighting
from autodim.weighting.gradvac import GradVac
from autodim.weighting.groups import GroupedWeighting, shared_layers

TASKS = ("x", "y", "z")


def by_layer(net: Network, tasks: int = 3, beta: float = 0.01) -> GroupedWeighting:
    found = build_weighting(WeightingConfig(name="gradvac", groups="layer", beta=beta), net, TASKS[:tasks])
    assert isinstance(found, GroupedWeighting)
    return found


def group_names(net: Network) -> list[list[str]]:
    """By hand: the embedding side; then each module of the bottom."""
    names = [n for n, _ in net.named_parameters()]
    modules = list(dict.fromkeys(n.rpartition(".")[0] for n in names if n.startswith("model.bottom.")))
    layers = [[n for n in names if n.rpartition(".")[0] == m] for m in modules]
    return [[n for n in names if not n.startswith("model.")], *layers]


def projected(gradients: list[Tensor], generator: torch.Generator) -> Tensor:
    """PCGrad of T flat gradients, as in its paper."""
    total = torch.zeros_like(gradients[0])
    count = len(gradients)
    for i in range(count):
        mine, others = gradients[i].clone(), [j for j in range(count) if j != i]
        order = torch.randperm(count - 1, generator=generator).tolist() if count > 2 else range(count - 1)
        for j in (others[k] for k in order):
            product = mine @ gradients[j]
            if product < 0:
                mine -= product / gradients[j].square().sum() * gradients[j]
        total += mine
    return total


@pytest.mark.parametrize("tasks", [2, 3])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_without_targets_it_is_pcgrad_of_each_groups_dense_gradients(tasks, seed):
    net, example = network(tasks, seed, double=True), batch(tasks, seed, double=True)
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    dense = task_gradients(net, example)
    groups = group_names(net)
    assert len(groups) == 3 and all(groups)
    weighting = by_layer(net, tasks, beta=0.0)
    stepper(net, weighting, lr=1.0)(example, 5)
    update = {n: before[n] - p.detach() for n, p in net.named_parameters()}
    generator = torch.Generator().manual_seed(5)
    for names in groups:
        expected = projected([torch.cat([g[n].flatten() for n in names]) for g in dense], generator)
        torch.testing.assert_close(torch.cat([update[n].flatten() for n in names]), expected, rtol=1e-10, atol=1e-12)
    for t in range(tasks):
        for n in (n for n in update if n.startswith(f"model.towers.{t}.")):
            torch.testing.assert_close(update[n], dense[t][n], rtol=1e-10, atol=1e-12)


def test_one_group_is_the_whole_model():
    found = []
    for grouped in (False, True):
        net = network()
        own = net.model.own_parameters()  # type: ignore[operator]
        one = GradVac(3, 0.1)
        weighting = GroupedWeighting([one], [], TASKS, own) if grouped else GradientWeighting(one, TASKS, own)
        step = stepper(net, weighting)
        for k in range(4):
            step(batch(seed=k), k)
        found.append((net.state(), weighting.read()))
    assert found[0][1] == found[1][1]
    assert all(torch.equal(value, found[1][0][name]) for name, value in found[0][0].items())


def test_groups_have_weights_of_their_own():
    net = network()
    weighting = by_layer(net)
    stepper(net, weighting)(batch(), 0)
    assert weighting.by_group.shape == (3, 3) and len({tuple(row) for row in weighting.by_group.tolist()}) == 3
    torch.testing.assert_close(weighting.weights, weighting.by_group.mean(0))
    targets = [solver.targets for solver in weighting.solvers]  # type: ignore[attr-defined]
    assert not any(torch.equal(a, b) for a, b in itertools.pairwise(targets))


def test_cosines_are_of_everything_shared():
    gauges = []
    for groups in ("model", "layer"):
        net = network()
        weighting = build_weighting(WeightingConfig(name="gradvac", groups=groups), net, TASKS)
        stepper(net, weighting)(batch(), 0)
        gauges.append(weighting.read())  # type: ignore[union-attr]
    for name in ("cosine", "cosine/x/y", "conflict", "loss/z"):
        assert gauges[0][name] == pytest.approx(gauges[1][name], rel=1e-6)
    assert gauges[1]["fallback"] == 0


@pytest.mark.parametrize("radius", [0.0, 0.3])
def test_a_second_pass_uses_the_weights_of_each_group(radius):
    """SAM's update is the groups' mix of the dense gradients at the perturbed place."""
    net, example = network(double=True), batch(double=True)
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    weighting = by_layer(net)
    step = stepper(net, weighting, SAM(radius), lr=1.0)
    step(example, 5)
    update = {n: before[n] - p.detach() for n, p in net.named_parameters()}
    groups = group_names(net)

    def direction() -> dict[str, Tensor]:
        dense = task_gradients(net, example)
        mixed = {
            n: sum(w * g[n] for w, g in zip(weights, dense, strict=True))
            for names, weights in zip(groups, weighting.by_group.tolist(), strict=True)
            for n in names
        }
        return {n: mixed[n] if n in mixed else dense[int(n.split(".")[2])][n] for n in before}  # type: ignore[misc]

    with torch.no_grad():
        for n, p in net.named_parameters():
            p.copy_(before[n])
    first = direction()
    norm = torch.stack([g.square().sum() for g in first.values()]).sum().sqrt()
    with torch.no_grad():
        for n, p in net.named_parameters():
            p.add_(first[n] * radius / norm)
    for n, expected in direction().items():
        torch.testing.assert_close(update[n], expected, rtol=1e-6, atol=1e-8, msg=n)


def test_a_restart_goes_on_to_the_bit():
    straight, broken = network(), network()
    one, other = by_layer(straight), by_layer(broken)
    steps = stepper(straight, one), stepper(broken, other)
    for k in range(3):
        steps[0](batch(seed=k), k)
        steps[1](batch(seed=k), k)
    again = by_layer(broken)
    again.load_state({k: v.clone() for k, v in other.state().items()})
    steps[1].weighting = again
    for k in range(3, 6):
        steps[0](batch(seed=k), k)
        steps[1](batch(seed=k), k)
    assert all(torch.equal(v, broken.state()[k]) for k, v in straight.state().items())
    assert all(torch.equal(v, again.state()[k]) or v.isnan().any() for k, v in one.state().items())


def test_layers_are_modules_without_what_is_a_tasks_own():
    net = network()
    own = net.model.own_parameters()  # type: ignore[operator]
    names = {id(p): n for n, p in net.named_parameters()}
    found = [[names[id(p)] for p in layer] for layer in shared_layers(net.model, own)]
    assert found == group_names(net)[1:]


def test_settings_that_do_not_go_with_groups_are_refused():
    def problems(**weighting: Any) -> list[str]:
        data = {"path": "x.csv", "labels": ["click", "like"], "slots": ["user"]}
        return [p.text for p in check(Config(**{"data": data, "pretrain": {"weighting": weighting}}))]

    assert problems(name="gradvac", groups="layer") == []
    assert any("expected mode: exact" in text for text in problems(name="gradvac", groups="layer", mode="trunk"))
    assert any("in every step" in text for text in problems(name="gradvac", groups="layer", every=3))
    assert any("only with gradvac" in text for text in problems(name="pcgrad", groups="layer"))
