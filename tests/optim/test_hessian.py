"""The Hessian view against torch's full Hessian."""

from __future__ import annotations

import pytest
import torch
from small_network import batch, network
from torch import Tensor

from autodim.optim.hessian import pearson, row_blocks, slot_curvature, spearman
from autodim.training.losses import task_losses


def full_hessian(net, batches, table: str) -> Tensor:
    """n w x n w Hessian of the mean loss by a whole table, through plain indexing."""
    block = net.tables.layout.blocks_of(table)[0]
    group = net.tables.group_of(block)
    position = group.positions.index(next(i for i, s in enumerate(net.tables.layout.slots) if s.table == table))
    number = [g for g in net.tables.groups if g.weight is not None].index(group)
    net.eval()

    def loss(weight: Tensor) -> Tensor:
        total = torch.zeros(())
        for example in batches:
            lookup = net.tables.lookup(example)
            leaves = list(lookup.leaves)
            column = [s.name for s in net.tables.layout.slots if not s.multi].index(table)
            parts = list(leaves[number].unbind(1))
            parts[position] = weight[example.ids[:, column].long()]
            leaves[number] = torch.stack(parts, dim=1)
            total = total + task_losses(net.logits(lookup, example, leaves), example.labels).sum() * len(example)
        return total / sum(len(b) for b in batches)

    weight = group.weight.detach()[group.rows_of(block)].clone()
    size = weight.numel()
    return torch.autograd.functional.hessian(loss, weight).reshape(size, size)


@pytest.mark.parametrize(("uniform", "width"), [(True, 4), (False, 2)], ids=["uniform", "projected"])
def test_blocks_are_those_of_the_full_hessian(uniform, width):
    net, batches = network(uniform=uniform), [batch(0), batch(1)]
    blocks, gradients, counts = row_blocks(net, iter(batches), "a")
    full = full_hessian(net, batches, "a").view(9, width, 9, width)
    expected = torch.stack([full[k, :, k] for k in range(9)])
    torch.testing.assert_close(blocks.float(), expected, rtol=1e-4, atol=1e-6)
    assert expected.abs().max() > 1e-2
    for i in range(9):  # the identity that makes w products enough
        for k in range(9):
            assert i == k or not full[i, :, k].any()
    assert counts.sum() == sum(len(b) for b in batches)
    found = slot_curvature(net, batches, "a")
    torch.testing.assert_close(found.top.float(), torch.linalg.eigvalsh(expected)[:, -1], rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found.gradient_norm, gradients.norm(dim=1))


def test_the_networks_mode_comes_back():
    net = network()
    row_blocks(net, [batch()], "a")
    assert net.training and all(m.training for m in net.modules())


@pytest.mark.parametrize(("slot", "why"), [("tags", "multi"), ("b", "shares"), ("c", "width 0"), ("x", "no slot")])
def test_slots_for_which_it_does_not_hold_are_refused(slot, why):
    with pytest.raises(ValueError, match=why):
        row_blocks(network(), [batch()], slot)


def test_correlations_equal_scipys():
    stats = pytest.importorskip("scipy.stats")
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 6, (40,), generator=generator).float()  # with ties
    y = x + 3 * torch.randn(40, generator=generator)
    assert pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert pearson(x[:1], y[:1]) != pearson(x[:1], y[:1])
