"""Optimizer state in another basis: a momentum turns exactly, squares through squared coefficients, steps stay sane."""

import pytest
import torch

from autodim.data.batch import Batch
from autodim.embedding.layout import Block, Layout, Slot, Table
from autodim.embedding.migrate_state import carry_dense_state, carry_state, turned
from autodim.embedding.tables import Tables
from autodim.optim.lazy_adam import LazyAdam
from autodim.optim.rowwise_adagrad import RowwiseAdagrad
from autodim.training.seeds import generator

N, D = 40, 6
KEEP = {"a": torch.arange(N)}


def tables_of(width, projection=None, weight=None, linear=False, bias=False):
    block = Block("a", 0, N, width, projected=projection is not None, bias=bias)
    made = Tables(Layout(D, (Slot("a", "a"),), (Table("a", N),), (block,)), linear)
    with torch.no_grad():
        if projection is not None:
            made.groups[0].projection[0] = projection
        if weight is not None:
            made.groups[0].weight.copy_(weight)
    return made


def random(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed, str(shape)))


def gradients_of(projection, slopes):
    """What rows read through a projection get: G P^T."""
    return slopes if projection is None else slopes @ projection.T


@pytest.mark.parametrize("case", ["whole to narrow", "narrower, within the old rows", "narrow to whole and back"])
def test_a_turned_momentum_is_the_momentum_at_the_new_projection(case):
    """Two parametrisations of the same vectors, the same gradients of the vectors: exp_avg turned is exp_avg there."""
    old = None if case == "whole to narrow" else random(4, D)
    new = random(3, D, seed=1) if case == "whole to narrow" else random(3, 4, seed=1) @ random(4, D)
    if case == "narrow to whole and back":
        new = None
    slopes = [random(N, D, seed=10 + k) for k in range(4)]
    momenta = []
    for p in (old, new):
        total = 0
        for g in slopes:
            total = 0.9 * total + 0.1 * gradients_of(p, g)
        momenta.append(total)
    widths = [D if p is None else len(p) for p in (old, new)]
    one, other = (tables_of(w, p) for w, p in zip(widths, (old, new), strict=True))
    found = carry_state(one, other, KEEP, {0: {"exp_avg": momenta[0], "step": 7}})[0]
    assert found["step"] == 7
    if new is None:  # what the old rows do not know stays zero: the known part comes back
        back = carry_state(other, one, KEEP, {0: {"exp_avg": found["exp_avg"]}})[0]["exp_avg"]
        torch.testing.assert_close(back, momenta[0], rtol=1e-4, atol=1e-5)
    else:
        torch.testing.assert_close(found["exp_avg"], momenta[1], rtol=1e-4, atol=1e-5)


def test_kept_axes_keep_their_state_to_the_bit():
    """A selection, and a projection that only gets more rows."""
    state = {"exp_avg": random(N, D), "exp_avg_sq": random(N, D).square()}
    narrow = tables_of(3, torch.eye(D)[[1, 2, 5]])
    found = carry_state(tables_of(D), narrow, KEEP, {0: state})[0]
    assert all(torch.equal(found[k], state[k][:, [1, 2, 5]]) for k in state)
    p = random(3, D)
    more = tables_of(5, torch.cat([p, random(2, D, seed=3)]))
    own = {k: v[:, :3] for k, v in state.items()}
    found = carry_state(tables_of(3, p), more, KEEP, {0: own})[0]
    assert all(torch.equal(found[k][:, :3], own[k]) for k in own)
    assert bool((found["exp_avg_sq"][:, 3:] > 0).all())


def test_squares_turn_exactly_where_columns_are_uncorrelated():
    """Mean squares of independent columns, against the mean squares of the gradients at the new projection."""
    old, new = random(4, D), random(3, 4, seed=1) @ random(4, D)
    linear, squares = turned(old, new)
    own = torch.randn(200_000, 4, generator=generator(5)).double() * torch.tensor([1.0, 0.1, 3.0, 0.5])
    torch.testing.assert_close(own.square().mean(0) @ squares, (own @ linear).square().mean(0), rtol=0.02, atol=1e-6)


def test_what_the_old_rows_do_not_know_is_as_large_as_what_they_know():
    """Even gradients in all D directions: a narrow table's squares, made whole, are the whole table's."""
    basis = torch.linalg.qr(random(D, D))[0]
    slopes = torch.randn(100_000, D, generator=generator(6)).double()
    p = basis[:3] * 2
    _, squares = turned(p, None)
    seen = gradients_of(p.double(), slopes).square().mean(0)
    torch.testing.assert_close(seen @ squares, slopes.square().mean(0), rtol=0.05, atol=0)


def test_row_wise_state_goes_whole_and_new_rows_start_as_the_others():
    maps = {"a": torch.tensor([0, 3, -1, 1])}
    new = Tables(Layout(D, (Slot("a", "a"),), (Table("a", 4),), (Block("a", 0, 4, 2, projected=True),)), linear=True)
    with torch.no_grad():
        new.groups[0].projection[0] = torch.eye(D)[:2]
    sums = torch.arange(float(N))
    found = carry_state(tables_of(D, linear=True), new, maps, {0: {"sum": sums}, 1: {"sum": sums}})
    assert found[0]["sum"].tolist() == [0, 3, 2, 1] == found[1]["sum"].tolist()


def test_row_wise_state_is_the_mean_square_at_the_new_scale():
    """A projection twice as large: gradients are twice, their mean squares four times as large."""
    p = random(3, D)
    found = carry_state(tables_of(3, p), tables_of(3, 2 * p), KEEP, {0: {"sum": torch.ones(N)}})[0]["sum"]
    assert found[0] > 1 and torch.equal(found, found[:1].expand(N))
    basis = torch.linalg.qr(random(D, D))[0][:3]
    found = carry_state(tables_of(3, basis), tables_of(3, 2 * basis), KEEP, {0: {"sum": torch.ones(N)}})[0]["sum"]
    torch.testing.assert_close(found, torch.full((N,), 4.0))


def test_a_projection_s_state_turns_with_its_table():
    """E' = E K: the gradient of P' is K^T that of P, so its momentum is; rows that are new start at the mean."""
    p, a = random(4, D), random(D, 3, seed=2)
    weight, slopes = random(N, 4), [random(N, D, seed=20 + k) for k in range(3)]
    momenta = []
    for e in (weight, weight @ p @ a):
        total = 0
        for g in slopes:
            total = 0.9 * total + 0.1 * e.T @ g
        momenta.append(total)
    old, new = tables_of(4, p, weight), tables_of(3, random(3, D), weight @ p @ a)
    block = new.layout.blocks[0]
    state = {0: {"exp_avg": momenta[0][None], "exp_avg_sq": momenta[0][None].square(), "step": torch.tensor(5.0)}}
    found = carry_dense_state(old, new, state, {block: a})[0]
    torch.testing.assert_close(found["exp_avg"][0], momenta[1], rtol=1e-4, atol=1e-4)
    assert found["step"] == 5 and bool((found["exp_avg_sq"] > 0).all())
    wider = tables_of(5, torch.cat([p, random(1, D)]))
    grown = carry_dense_state(old, wider, state, {})[0]
    assert torch.equal(grown["exp_avg"][0, :4], momenta[0]) and not grown["exp_avg"][0, 4].any()
    torch.testing.assert_close(grown["exp_avg_sq"][0, 4], momenta[0].square().mean().expand(D))
    assert carry_dense_state(tables_of(D), wider, {}, {}) == {}  # nothing is known: it starts fresh


def test_biases_keep_their_state():
    old, new = tables_of(3, random(3, D), bias=True), tables_of(2, random(2, D), bias=True)
    place = [p is old.bias for p in old.dense_parameters()].index(True)
    state = {place: {"exp_avg": random(1, D), "exp_avg_sq": random(1, D).square()}}
    found = carry_dense_state(old, new, state, {})[place]
    assert all(torch.equal(found[k], state[place][k]) for k in found)


def step(tables, optimizer, ids, target):
    lookup = tables.lookup(Batch(ids, torch.zeros(len(ids), 0), torch.zeros(len(ids), 1)), learn=True)
    vectors = lookup.inputs()[0].stack()[:, 0]
    loss = (vectors - target[ids[:, 0]]).square().sum() / len(ids)
    lookup.assign(torch.autograd.grad(loss, lookup.leaves))
    optimizer.step()
    return float(loss.detach())


@pytest.mark.parametrize("rule", [LazyAdam, RowwiseAdagrad])
@pytest.mark.parametrize("width", [3, 5, D])
def test_the_first_step_after_a_migration_is_as_long_as_the_step_that_was_due(rule, width):
    """Trained at width 4, moved to another width: the vectors move as far as they would have without the move."""
    source, target = generator(1), random(N, D)
    old = tables_of(4, random(4, D))
    old.initialise(0.1, generator(2))
    with torch.no_grad():
        old.groups[0].projection[0] = random(4, D) / 2
    optimizer = rule(old.table_parameters(), lr=0.02)
    for _ in range(60):
        step(old, optimizer, torch.randint(N, (16, 1), generator=source), target)
    vectors = old.groups[0].weight.detach() @ old.groups[0].projection[0].detach()
    if width == 3:
        left, values, right = torch.linalg.svd(vectors, full_matrices=False)
        size = float(old.groups[0].projection.detach().norm()) / 2  # the usual singular value of the old projection
        new = tables_of(3, right[:3] * size, left[:, :3] * values[:3] / size)
    elif width == 5:
        more = torch.cat([old.groups[0].projection[0].detach(), random(1, D, seed=9) / 2])
        new = tables_of(5, more, torch.cat([old.groups[0].weight.detach(), torch.zeros(N, 1)], 1))
    else:
        new = tables_of(D, None, vectors)
    state = {0: dict(optimizer.state[old.groups[0].weight])}
    other = rule(new.table_parameters(), lr=0.02)
    carried = carry_state(old, new, KEEP, state)
    other.load_state_dict({"state": carried, "param_groups": other.state_dict()["param_groups"]})

    def moved(tables, optimizer):
        def read():
            weight = tables.groups[0].weight.detach()
            p = tables.groups[0].projection
            return weight.clone() if p is None else weight @ p[0].detach()

        before = read()
        losses = [step(tables, optimizer, torch.arange(N)[:, None], target) for _ in range(2)]
        return float((read() - before).norm()), losses

    due, _ = moved(old, optimizer)
    length, losses = moved(new, other)
    assert 0.4 * due < length < 2.5 * due
    assert losses[1] < losses[0]
