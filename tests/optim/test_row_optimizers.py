"""Rules for tables against torch's own rules, and the laws of rows."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import Tensor, nn

from autodim.optim.adagrad import Adagrad
from autodim.optim.lazy_adam import LazyAdam
from autodim.optim.methods import TABLE_OPTIMIZERS
from autodim.optim.rowwise_adagrad import RowwiseAdagrad
from autodim.optim.sgd import SGD

N, W, STEPS = 20, 4, 6
RULES = pytest.mark.parametrize("name", TABLE_OPTIMIZERS)


def table(width: int = W, seed: int = 0) -> nn.Parameter:
    return nn.Parameter(torch.randn(N, width, generator=torch.Generator().manual_seed(seed)))


def batch(step: int, width: int = W, count: int = 7) -> tuple[Tensor, Tensor]:
    """Unique ascending rows of a step and their gradient."""
    generator = torch.Generator().manual_seed(100 + step)
    rows = torch.randperm(N, generator=generator)[:count].sort().values
    return rows, torch.randn(count, width, generator=generator)


def sparse(rows: Tensor, values: Tensor, unique: bool = True) -> Tensor:
    size = (N, *values.shape[1:])
    return torch.sparse_coo_tensor(rows[None], values, size, is_coalesced=unique, check_invariants=False)


def train(optimizer: torch.optim.Optimizer, weight: nn.Parameter, steps: range) -> None:
    for step in steps:
        weight.grad = sparse(*batch(step, weight.shape[1]))
        optimizer.step()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda p: Adagrad(p, lr=0.1), lambda p: torch.optim.Adagrad(p, lr=0.1)),
        (
            lambda p: Adagrad(p, lr=0.1, initial=0.1),
            lambda p: torch.optim.Adagrad(p, 0.1, initial_accumulator_value=0.1),
        ),
        (lambda p: LazyAdam(p, lr=0.1), lambda p: torch.optim.SparseAdam(p, lr=0.1)),
        (lambda p: SGD(p, lr=0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
    ],
    ids=["adagrad", "adagrad_initial", "lazy_adam", "sgd"],
)
def test_sparse_steps_equal_torch(ours, theirs):
    mine, other = table(), table()
    train(ours([mine]), mine, range(STEPS))
    train(theirs([other]), other, range(STEPS))
    torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dense", [False, True], ids=["all_rows_sparse", "dense"])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda p: LazyAdam(p, lr=0.1, l2=0.3), lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.3)),
        (lambda p: Adagrad(p, lr=0.1, l2=0.3), lambda p: torch.optim.Adagrad(p, lr=0.1, weight_decay=0.3)),
        (lambda p: SGD(p, lr=0.1, l2=0.3), lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.3)),
    ],
    ids=["lazy_adam", "adagrad", "sgd"],
)
def test_when_every_row_is_in_every_batch_the_dense_rule_results(ours, theirs, dense):
    mine, other = table(), table()
    rule, reference = ours([mine]), theirs([other])
    for step in range(STEPS):
        rows, values = batch(step, count=N)
        mine.grad = values.clone() if dense else sparse(rows, values)
        other.grad = values.clone()
        rule.step()
        reference.step()
        if dense:
            assert torch.equal(mine.grad, values)  # a gradient is read, never changed
    torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-6)


def test_lazy_adam_keeps_the_papers_place_of_epsilon():
    # one step from zero moments: lr g / (|g| + eps), so |g| = eps moves half of lr; SparseAdam moves 0.03 of it
    weight = nn.Parameter(torch.zeros(N, 1))
    optimizer = LazyAdam([weight], lr=1.0, eps=1e-8)
    weight.grad = sparse(torch.tensor([3]), torch.tensor([[1e-8]]))
    optimizer.step()
    assert weight[3].item() == pytest.approx(-0.5, rel=1e-4)


def test_lazy_adam_moments_wait_with_their_row():
    weight = table()
    optimizer = LazyAdam([weight], lr=0.1)
    train(optimizer, weight, range(1))
    rows, _ = batch(0)
    before = optimizer.state[weight]["exp_avg"][rows].clone()
    others = torch.tensor([r for r in range(N) if r not in set(rows.tolist())])
    weight.grad = sparse(others, torch.ones(len(others), W))
    optimizer.step()
    assert torch.equal(optimizer.state[weight]["exp_avg"][rows], before)
    assert optimizer.state[weight]["step"] == 2 and type(optimizer.state[weight]["step"]) is int


def test_rowwise_adagrad_by_hand():
    weight = nn.Parameter(torch.tensor([[1.0, 2.0], [5.0, 5.0]]))
    optimizer = RowwiseAdagrad([weight], lr=0.5)
    for _ in range(2):
        weight.grad = torch.sparse_coo_tensor(torch.tensor([[0]]), torch.tensor([[3.0, 4.0]]), (2, 2))
        optimizer.step()
    # mean of squares 12.5 a step: 1 - .5 * 3 (1/sqrt(12.5) + 1/sqrt(25)), likewise 2 - .5 * 4 (..)
    shrink = 0.5 * (12.5**-0.5 + 25**-0.5)
    torch.testing.assert_close(weight.data, torch.tensor([[1 - 3 * shrink, 2 - 4 * shrink], [5.0, 5.0]]))
    assert optimizer.state[weight]["sum"].tolist() == pytest.approx([25.0, 0.0], rel=1e-6)


def test_rowwise_adagrad_of_width_one_is_adagrad():
    mine, other = table(1), table(1)
    train(RowwiseAdagrad([mine], lr=0.1, eps=1e-10), mine, range(STEPS))
    train(Adagrad([other], lr=0.1), other, range(STEPS))
    torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-6)


@RULES
def test_rows_outside_the_batch_stay_to_the_bit(name):
    weight = table()
    start = weight.detach().clone()
    optimizer = TABLE_OPTIMIZERS[name]([weight], lr=0.1, l2=0.5)
    rows = torch.tensor([2, 3, 11])
    for _ in range(STEPS):
        weight.grad = sparse(rows, torch.ones(3, W))
        optimizer.step()
    moved = (weight.detach() != start).all(dim=1)
    assert moved.nonzero().flatten().tolist() == rows.tolist()
    untouched = ~moved
    assert torch.equal(weight.detach()[untouched].view(torch.int32), start[untouched].view(torch.int32))
    for value in optimizer.state[weight].values():
        if isinstance(value, Tensor):
            assert not value[untouched].any()


@RULES
def test_repeated_rows_are_summed_before_the_rule_sees_them(name):
    mine, other = table(), table()
    one, two = TABLE_OPTIMIZERS[name]([mine], lr=0.1), TABLE_OPTIMIZERS[name]([other], lr=0.1)
    ids = torch.tensor([5, 1, 5, 5, 8, 1])
    values = torch.randn(6, W, generator=torch.Generator().manual_seed(4))
    for _ in range(2):
        mine.grad = sparse(ids, values, unique=False)
        one.step()
        total = torch.zeros(N, W).index_add_(0, ids, values)
        rows = torch.tensor([1, 5, 8])
        other.grad = sparse(rows, total[rows])
        two.step()
    torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-6)


@RULES
def test_trains_a_sparse_embedding_of_torch(name):
    embedding = nn.Embedding(N, W, sparse=True)
    optimizer = TABLE_OPTIMIZERS[name](embedding.parameters(), lr=0.05)
    ids = torch.tensor([1, 4, 4, 9])
    first = embedding(ids).square().sum().item()
    for _ in range(50):
        optimizer.zero_grad()
        embedding(ids).square().sum().backward()
        optimizer.step()
    assert embedding(ids).square().sum().item() < 0.9 * first


@RULES
@pytest.mark.parametrize("width", [W, 1])
def test_a_restored_rule_continues_to_the_bit(name, width):
    weight = table(width)
    optimizer = TABLE_OPTIMIZERS[name]([weight], lr=0.1, l2=0.01)
    train(optimizer, weight, range(3))
    saved = optimizer.state_dict()
    tensors = [v for s in saved["state"].values() for v in s.values() if isinstance(v, Tensor)]
    numbers = [{k: v for k, v in s.items() if not isinstance(v, Tensor)} for s in saved["state"].values()]
    json.dumps([numbers, saved["param_groups"]])  # everything that is no tensor is JSON
    assert all(t.shape[0] == N for t in tensors)
    twin = nn.Parameter(weight.detach().clone())
    restored = TABLE_OPTIMIZERS[name]([twin], lr=9.0)
    restored.load_state_dict(copy.deepcopy(saved))  # torch would share the tensors; a file does not
    train(optimizer, weight, range(3, STEPS))
    train(restored, twin, range(3, STEPS))
    assert torch.equal(weight, twin)


@RULES
def test_an_empty_gradient_moves_nothing(name):
    weight = table()
    start = weight.detach().clone()
    optimizer = TABLE_OPTIMIZERS[name]([weight], lr=0.1, l2=0.5)
    weight.grad = sparse(torch.zeros(0, dtype=torch.long), torch.zeros(0, W))
    optimizer.step()
    weight.grad = None
    optimizer.step()
    assert torch.equal(weight.detach(), start)


@RULES
def test_a_step_is_the_same_for_one_dimensional_tables(name):
    wide, flat = table(1), nn.Parameter(table(1).detach().flatten())
    one, two = TABLE_OPTIMIZERS[name]([wide], lr=0.1), TABLE_OPTIMIZERS[name]([flat], lr=0.1)
    for step in range(3):
        rows, values = batch(step, 1)
        wide.grad, flat.grad = sparse(rows, values), sparse(rows, values.flatten())
        one.step()
        two.step()
    torch.testing.assert_close(wide.detach().flatten(), flat.detach(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("scaled", [True, False], ids=["expectation", "plain"])
def test_lazy_l2_pulls_as_the_dense_penalty_in_expectation(scaled):
    # row k is in a batch with probability p_k; the mean pull of one step must be lr l2 w_k (plain: p_k times that)
    present = torch.linspace(0.1, 1.0, N)
    generator = torch.Generator().manual_seed(7)
    weight = nn.Parameter(torch.ones(N, 1))
    optimizer = SGD([weight], lr=1.0, l2=0.25, l2_scale=1 / present if scaled else None)
    draws, pull = 4000, torch.zeros(N)
    for _ in range(draws):
        rows = (torch.rand(N, generator=generator) < present).nonzero().flatten()
        with torch.no_grad():
            weight.fill_(1.0)
        weight.grad = sparse(rows, torch.zeros(len(rows), 1))
        optimizer.step()
        pull += 1 - weight.detach().flatten()
    expected = torch.full((N,), 0.25) if scaled else 0.25 * present
    # standard error of the mean at p = .1: .25 * 3 / sqrt(4000) = .012
    torch.testing.assert_close(pull / draws, expected, rtol=0, atol=0.05)
    assert pull[-1].item() / draws == pytest.approx(0.25, rel=1e-5)  # p = 1: no chance in it


def test_groups_have_options_of_their_own():
    one, two = table(seed=1), table(seed=1)
    optimizer = SGD([{"params": [one]}, {"params": [two], "lr": 0.2}], lr=0.1)
    start = one.detach().clone()
    one.grad, two.grad = torch.ones(N, W), torch.ones(N, W)
    optimizer.step()
    torch.testing.assert_close(one.detach(), start - 0.1)
    torch.testing.assert_close(two.detach(), start - 0.2)


def test_impossible_options_and_gradients_are_refused():
    with pytest.raises(ValueError, match="lr must be positive"):
        SGD([table()], lr=0.0)
    with pytest.raises(ValueError, match="betas"):
        LazyAdam([table()], betas=(0.9, 1.0))
    weight = table()
    weight.grad = torch.eye(N, W).to_sparse()  # two sparse dimensions
    with pytest.raises(ValueError, match="whole rows"):
        SGD([weight], lr=0.1).step()


@RULES
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_steps_on_the_gpu_equal_those_on_the_cpu(name):
    weight, twin = table(), nn.Parameter(table().detach().cuda())
    one, two = TABLE_OPTIMIZERS[name]([weight], lr=0.1, l2=0.1), TABLE_OPTIMIZERS[name]([twin], lr=0.1, l2=0.1)
    for step in range(STEPS):
        weight.grad = sparse(*batch(step))
        twin.grad = weight.grad.cuda()
        one.step()
        two.step()
    torch.testing.assert_close(twin.detach().cpu(), weight.detach(), rtol=1e-5, atol=1e-6)
    assert all(v.is_cuda for v in two.state[twin].values() if isinstance(v, Tensor))
