"""Soft thresholds and prefix widths: gradients, masks, what is drawn."""

import pytest
import torch

from autodim.embedding.layout import Slot, Table, uniform_layout
from autodim.embedding.tables import Tables
from autodim.training.prefix import PrefixNetwork, prefix_masks
from autodim.training.soft_threshold import ThresholdNetwork, extra_columns, soft_threshold

SLOTS = [Slot("a", "x"), Slot("b", "y"), Slot("c", "x")]
TABLES = [Table("x", 9), Table("y", 5)]


class Reader(torch.nn.Module):
    """Hands the slot vectors out."""

    def forward(self, vectors, linear, numeric):
        return vectors.stack()


class Rows:
    """A batch of ids."""

    def __init__(self, ids):
        self.ids, self.bags, self.numeric, self.grouped = ids, {}, None, {}

    def __len__(self):
        return len(self.ids)


def batch(rows=6):
    g = torch.Generator().manual_seed(0)
    return Rows(torch.stack([torch.randint(0, n, (rows,), generator=g) for n in (9, 5, 9)], 1))


def tables(width):
    found = Tables(uniform_layout(SLOTS, TABLES, width))
    found.initialise(1.0, torch.Generator().manual_seed(1))
    return found


def test_the_thresholds_gradient_is_that_of_finite_differences():
    g = torch.Generator().manual_seed(2)
    v = torch.randn(40, 3, generator=g, dtype=torch.float64).requires_grad_()
    for shape in ((1,), (3,), (40, 1), (40, 3)):
        s = torch.randn(shape, generator=g, dtype=torch.float64).sub(0.5).requires_grad_()
        assert torch.autograd.gradcheck(soft_threshold, (v, s), eps=1e-7, atol=1e-5)
    out = soft_threshold(v, torch.tensor(0.0, dtype=torch.float64))
    kept = v.abs() > 0.5
    torch.testing.assert_close(out[kept], v[kept] - 0.5 * v[kept].sign())
    assert kept.any() and not out[~kept].any()


@pytest.mark.parametrize("granularity", ["global", "dimension", "feature", "feature_dimension"])
def test_each_granularity_reaches_the_model_and_the_margins(granularity):
    network = ThresholdNetwork(tables(4 + extra_columns(granularity, 4)), Reader(), 4, granularity, -1.0)
    weight = network.tables.groups[0].weight
    with torch.no_grad():
        weight[:, 4:] = torch.linspace(-2, 2, weight[:, 4:].numel()).view_as(weight[:, 4:])
        if network.threshold is not None:
            network.threshold.copy_(torch.linspace(-1, 1, network.threshold.numel()))
    seen = network(batch())
    margins = network.margins("x")
    for k, slot in ((0, "a"), (2, "c")):
        ids = batch().ids[:, k]
        kept = margins[ids].clamp(min=0)
        torch.testing.assert_close(seen[:, k].abs(), kept, msg=slot)
    assert len(network.dense_parameters()) == (granularity in ("global", "dimension"))


def test_prefix_masks():
    assert prefix_masks(torch.tensor([0, 2, 3]), 3).tolist() == [[0, 0, 0], [1, 1, 0], [1, 1, 1]]


def test_the_supernet_draws_by_the_steps_seed_and_shows_all_in_evaluation():
    network = PrefixNetwork(tables(8), Reader())
    full = network.eval()(batch())
    network.train()
    seen = []
    for seed in range(300):
        torch.manual_seed(seed)
        one = network(batch())
        torch.manual_seed(seed)
        assert torch.equal(one, network(batch()))
        shown = one[:5] != 0
        widths = shown.any(0).sum(1)
        assert widths[0] == widths[2]  # one table
        torch.testing.assert_close(one, full * prefix_masks(widths, 8))
        seen.append(widths.tolist())
    first = [w[0] for w in seen]
    assert set(first) == set(range(9)) and {w[1] for w in seen} == set(range(9))
    assert any(a != b for a, b, _ in seen)
