"""The sparse Gramian is the dense one; what a gradient weighting returns is `sum w_t g_t` of what is shared, and the
plain gradient of what is not."""

from __future__ import annotations

import pytest
import torch
from towers import batch, network, stepper, task_gradients

from autodim.training.step import Step
from autodim.weighting.capture import Captured, shared_modules
from autodim.weighting.gradients import GradientWeighting
from autodim.weighting.gramian import gramian, mix
from autodim.weighting.mgda import MGDA
from autodim.weighting.pcgrad import PCGrad, pcgrad_weights
from autodim.weighting.pe_ltr import PELTR
from autodim.weighting.solver import Solver

TASKS = ("x", "y", "z")


class Watched(Solver):
    """Keeps the Gramian that it is asked about; weights .5, 2, -1 for whoever is there."""

    seen = torch.zeros(0)

    def solve(self, gramian, tasks, generator):
        self.seen = gramian
        return torch.tensor([0.5, 2.0, -1.0], dtype=torch.float64)[list(tasks)]


def weighting(net, solver, **options):
    return GradientWeighting(solver, TASKS, net.model.own_parameters(), **options)


def applied(net, weight, example, seed=0, perturbation=None, missing=False):
    """Dense update directions of one step by name, and the step's own weights unchanged."""
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    step = stepper(net, weight, perturbation, lr=1.0, missing=missing)
    step(example, seed)
    after = {n: before[n] - p.detach() for n, p in net.named_parameters()}
    with torch.no_grad():
        for n, p in net.named_parameters():
            p.copy_(before[n])
    return after


def owners(net):
    names = {id(p): n for n, p in net.named_parameters()}
    return {names[id(p)]: t for t, mine in enumerate(net.model.own_parameters()) for p in mine}


def dense_gramian(grads, keep):
    flat = torch.stack([torch.cat([g.flatten() for n, g in one.items() if keep(n)]) for one in grads])
    return flat @ flat.T


def test_sparse_gramian_equals_the_dense_one():
    net, example = network(double=True), batch(double=True)
    watched = Watched()
    applied(net, weighting(net, watched), example)
    mine = owners(net)
    expected = dense_gramian(task_gradients(net, example), lambda n: n not in mine)
    torch.testing.assert_close(watched.seen, expected, rtol=1e-10, atol=1e-12)
    # the sum matters: repeated ids make the tables' share of the Gramian another than that of the looked-up vectors
    lookup = net.tables.lookup(example, learn=True)
    assert all(len(g.unique.rows) < len(g.rows) for g in lookup.groups)


def test_trunk_mode_leaves_the_tables_out():
    net, example = network(double=True), batch(double=True)
    watched = Watched()
    applied(net, weighting(net, watched, mode="trunk"), example)
    mine = {*owners(net), *(n for n, p in net.named_parameters() if any(p is t for t in net.tables.table_parameters()))}
    expected = dense_gramian(task_gradients(net, example), lambda n: n not in mine)
    torch.testing.assert_close(watched.seen, expected, rtol=1e-10, atol=1e-12)


def test_representation_mode_compares_the_last_shared_output():
    net, example = network(double=True), batch(double=True)
    watched = Watched()
    captured = Captured(shared_modules(net.model))
    applied(net, weighting(net, watched, mode="representation", representation=captured), example)
    kept = Captured(shared_modules(net.model))
    step = Step(net, [])
    losses = step._losses(net.tables.lookup(example, learn=True), example, None)
    (out,) = kept.take()
    assert out.shape == (len(example), 6)
    flat = torch.stack([torch.autograd.grad(loss, out, retain_graph=True)[0].flatten() for loss in losses])
    torch.testing.assert_close(watched.seen, flat @ flat.T, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mode", ["exact", "trunk", "representation"])
@pytest.mark.parametrize("scale_own", [False, True])
def test_the_update_is_the_weighted_sum_and_own_parameters_stay_plain(mode, scale_own):
    net, example = network(double=True), batch(double=True)
    captured = Captured(shared_modules(net.model)) if mode == "representation" else None
    weight = weighting(net, Watched(), mode=mode, scale_own=scale_own, representation=captured)
    update = applied(net, weight, example)
    grads, mine, w = task_gradients(net, example), owners(net), [0.5, 2.0, -1.0]
    assert {0, 1, 2} == set(mine.values())
    for name, found in update.items():
        if name in mine:
            expected = grads[mine[name]][name] * (w[mine[name]] if scale_own else 1)
        else:
            expected = sum(a * g[name] for a, g in zip(w, grads, strict=True))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11, msg=name)


def test_steps_in_between_use_the_last_solution():
    net = network(double=True)
    weight = weighting(net, PCGrad(), every=3)
    for number in range(4):
        example = batch(seed=number, double=True)
        update = applied(net, weight, example, seed=7)
        if number % 3 == 0:
            k = dense_gramian(task_gradients(net, example), lambda n: n not in owners(net))
            solution = pcgrad_weights(k, torch.Generator().manual_seed(7))
        torch.testing.assert_close(weight.weights, solution, rtol=1e-9, atol=1e-12)
        grads = task_gradients(net, example)
        name = next(n for n in update if n.startswith("model.bottom") and update[n].ndim > 1)
        expected = sum(a * g[name] for a, g in zip(solution.tolist(), grads, strict=True))
        torch.testing.assert_close(update[name], expected, rtol=1e-9, atol=1e-11)
    found = weight.read()
    assert found["fallback"] == 0 and 0 <= found["conflict"] <= 1 and -1 <= found["cosine"] <= 1
    assert set(found) >= {"weight/x", "loss/y", "cosine/x/z", "conflict/y/z"}


@pytest.mark.parametrize("solver", [PCGrad(), MGDA(), PELTR([0.2, 0.2, 0.2])])
def test_an_absent_task_moves_nothing_and_joins_no_solution(solver):
    net, example = network(double=True), batch(double=True)
    labels = example.labels.clone()
    labels[:, 1] = torch.nan
    example = type(example)(example.ids, example.numeric, labels, example.bags)
    weight = weighting(net, solver)
    update = applied(net, weight, example, seed=3, missing=True)
    for name, task in owners(net).items():
        assert bool((update[name] == 0).all()) == (task == 1), name
    assert all(bool(torch.isfinite(u).all()) for u in update.values())
    found = weight.read()
    assert found["fallback"] == 0
    assert found["loss/y"] != found["loss/y"] and found["cosine/x/y"] != found["cosine/x/y"]  # NaN: never known
    assert found["cosine"] == found["cosine/x/z"]


def test_one_task_alone_in_a_batch_is_trained_plainly_and_counted():
    net, example = network(double=True), batch(double=True)
    labels = example.labels.clone()
    labels[:, 1:] = torch.nan
    example = type(example)(example.ids, example.numeric, labels, example.bags)
    weight = weighting(net, MGDA())
    update, plain = (applied(net, w, example, missing=True) for w in (weight, None))
    for name in update:
        torch.testing.assert_close(update[name], plain[name], rtol=1e-12, atol=1e-14)
    assert weight.read()["fallback"] == 1


def test_gramian_and_mixture_of_tensors_that_tasks_lack():
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([3.0])
    found = gramian([[a, None, None], [2 * a, b, None]])
    assert found.tolist() == [[5, 10], [10, 29]] and found.dtype == torch.float64
    mixed = mix([[a, None, None], [2 * a, b, None]], [0.5, 2.0])
    assert mixed[0].tolist() == [4.5, 9.0] and mixed[1].tolist() == [6.0] and mixed[2] is None
    assert a.tolist() == [1, 2]
    big = torch.randn(200_003, generator=torch.Generator().manual_seed(0))
    exact = big.double() @ big.double()
    assert gramian([[big], [big]])[0, 1].item() == pytest.approx(exact.item(), rel=1e-12)
