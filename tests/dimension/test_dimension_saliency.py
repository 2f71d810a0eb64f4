"""The scores are what they claim: derivatives by a mask, summed over examples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from autodim.dimension.oracle import mask_exact
from autodim.dimension.saliency import Saliency, saliency
from autodim.dimension.scores import Scores, by_table, normalise, spearman
from autodim.errors import ConfigError, TrainingError

ROWS, D, B = (7, 11, 5), 4, 24


class Small(nn.Module):
    """Slot vectors -> FM term and a small deep part, in float64; `alpha` masks the dimensions."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.tables = nn.ModuleList(nn.Embedding(n, D) for n in ROWS)
        self.deep = nn.Sequential(nn.Linear(3 * D, 6), nn.Dropout(0.5), nn.ReLU(), nn.Linear(6, 1))
        self.alpha = None
        self.double()

    def forward(self, ids):
        v = torch.stack([t(ids[:, i]) for i, t in enumerate(self.tables)], 1)  # B x S x D
        if self.alpha is not None:
            v = v * self.alpha
        fm = 0.5 * (v.sum(1).square() - v.square().sum(1)).sum(1)
        return fm + self.deep(v.flatten(1)).squeeze(1)


def batches(size=B, total=B):
    generator = torch.Generator().manual_seed(1)
    ids = torch.stack([torch.randint(n, (total,), generator=generator) for n in ROWS], 1)
    labels = torch.randint(2, (total,), generator=generator).double()
    return [(ids[i : i + size], labels[i : i + size]) for i in range(0, total, size)]


def loss(model, batch, reduction="mean"):
    return nn.functional.binary_cross_entropy_with_logits(model(batch[0]), batch[1], reduction=reduction)


def total_loss(model, batch):
    return loss(model, batch, "sum")


def named(model):
    return dict(zip("abc", model.tables, strict=True))


def by_mask(model, data):
    """The definition: d (summed loss) / d alpha at alpha = 1."""
    model.eval()
    model.alpha = torch.ones(3, D, dtype=torch.float64, requires_grad=True)
    (g,) = torch.autograd.grad(sum(total_loss(model, b) for b in data), model.alpha)
    model.alpha = None
    return g.numpy()


def test_equals_the_derivative_by_an_explicit_mask():
    model = Small()
    found = saliency(model, loss, batches(), named(model))
    np.testing.assert_allclose(np.stack(found.values), by_mask(model, batches()), rtol=1e-10, atol=1e-14)
    assert found.names == ("a", "b", "c") and found.examples == B
    assert sum(s.sum() for s in found.normalised) == pytest.approx(1)


def test_the_sum_over_examples_is_the_sum_of_single_examples():
    model = Small()
    whole = saliency(model, total_loss, batches(), named(model), reduction="sum")
    singles = [saliency(model, total_loss, [b], named(model), reduction="sum") for b in batches(1)]
    np.testing.assert_allclose(np.stack(whole.values), sum(np.stack(s.values) for s in singles), rtol=1e-10)


@pytest.mark.parametrize("size", [1, 5, 7, 24])
def test_batch_size_does_not_matter(size):
    """Also where the last batch is smaller and the loss is a mean."""
    model = Small()
    found = saliency(model, loss, batches(size), named(model))
    np.testing.assert_allclose(np.stack(found.values), by_mask(model, batches()), rtol=1e-9, atol=1e-13)


def test_a_weight_replaces_the_batch_size():
    model = Small()
    found = saliency(model, loss, batches(8), named(model), weight=lambda b: 3 * len(b[1]))
    np.testing.assert_allclose(np.stack(found.values), 3 * by_mask(model, batches()), rtol=1e-9)


def test_the_one_shot_score_is_the_limit_of_the_oracle():
    model = Small().eval()
    (data,) = batches()

    def masked(mask):
        model.alpha = torch.from_numpy(mask)
        with torch.no_grad():
            return float(total_loss(model, data))

    exact = mask_exact(masked, 3, D, epsilon=1e-6) / 1e-6
    model.alpha = None
    np.testing.assert_allclose(exact, by_mask(model, [data]), rtol=1e-4, atol=1e-5)


def test_the_oracle_on_a_sum_is_the_sum():
    weights = np.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(mask_exact(lambda mask: float((weights * mask).sum()), 2, 3), weights)


def test_nothing_of_the_model_changes():
    model = Small()
    model.train()
    model.deep[1].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    next(model.parameters()).grad = kept = torch.ones_like(next(model.parameters()))
    with torch.no_grad():
        saliency(model, loss, batches(), named(model))
    assert model.training and model.deep.training and not model.deep[1].training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert next(model.parameters()).grad is kept and torch.equal(kept, torch.ones_like(kept))
    assert all(p.grad is None for p in list(model.parameters())[1:])
    assert not any(m._forward_hooks for m in model.modules())


def test_modes_and_hooks_come_back_after_an_error():
    model = Small().train()
    with pytest.raises(ZeroDivisionError):
        saliency(model, lambda m, b: 1 / 0, batches(), named(model))
    assert model.training and not any(m._forward_hooks for m in model.modules())


def test_frozen_tables_are_scored_all_the_same():
    model = Small()
    expected = by_mask(model, batches())
    model.requires_grad_(False)
    found = saliency(model, loss, batches(), named(model))
    np.testing.assert_allclose(np.stack(found.values), expected, rtol=1e-9)


def test_outputs_changed_in_place_are_scored_as_they_came_out():
    class Inplace(Small):
        def forward(self, ids):
            v = [t(ids[:, i]).mul_(2).relu_() for i, t in enumerate(self.tables)]
            return torch.cat(v, 1).square().sum(1)

    model = Inplace()
    found = saliency(model, total_loss, batches(), named(model), reduction="sum")
    v = [t(batches()[0][0][:, i]).detach().requires_grad_() for i, t in enumerate(model.tables)]
    logits = torch.cat([(2 * x).relu() for x in v], 1).square().sum(1)
    value = nn.functional.binary_cross_entropy_with_logits(logits, batches()[0][1], reduction="sum")
    expected = [(x * g).sum(0).detach().numpy() for x, g in zip(v, torch.autograd.grad(value, v), strict=True)]
    np.testing.assert_allclose(np.stack(found.values), np.stack(expected), rtol=1e-9)


def test_one_module_for_all_slots():
    class Stacked(nn.Module):
        def __init__(self, small):
            super().__init__()
            self.small, self.stack = small, nn.Identity()

        def forward(self, ids):
            v = self.stack(torch.stack([t(ids[:, i]) for i, t in enumerate(self.small.tables)], 1))
            return 0.5 * (v.sum(1).square() - v.square().sum(1)).sum(1) + self.small.deep(v.flatten(1)).squeeze(1)

    small = Small()
    model = Stacked(small)
    found = saliency(model, loss, batches(5), (model.stack, ["a", "b", "c"]))
    np.testing.assert_allclose(np.stack(found.values), by_mask(small, batches()), rtol=1e-9)
    with pytest.raises(ConfigError, match="expected slot vectors B x 2 x D"):
        saliency(model, loss, batches(), (model.stack, ["a", "b"]))


def test_widths_may_differ_and_a_module_may_be_used_twice():
    class Bags(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.one, self.two = nn.Embedding(9, 3), nn.EmbeddingBag(9, 5)
            self.head = nn.Linear(11, 1)

        def forward(self, ids):
            return self.head(torch.cat([self.one(ids[:, 0]), self.one(ids[:, 1]), self.two(ids)], 1)).squeeze(1)

    model = Bags()
    ids = torch.randint(9, (6, 2), generator=torch.Generator().manual_seed(2))
    found = saliency(model, lambda m, b: m(b).sum(), [ids], {"one": model.one, "two": model.two}, reduction="sum")
    assert [v.shape for v in found.values] == [(3,), (5,)] and found.examples == 6
    w = model.head.weight[0].detach().double()
    v = model.one.weight.detach().double()
    expected = (v[ids[:, 0]] * w[:3] + v[ids[:, 1]] * w[3:6]).sum(0)
    np.testing.assert_allclose(found["one"], expected.numpy(), rtol=1e-5, atol=1e-6)


def test_wrong_uses_say_what_is_wrong():
    model = Small()
    with pytest.raises(ConfigError, match="not part of the model"):
        saliency(model, loss, batches(), {"a": nn.Embedding(3, 2)})
    with pytest.raises(ConfigError, match="must be a scalar"):
        saliency(model, lambda m, b: m(b[0]), batches(), named(model))
    with pytest.raises(TrainingError, match="no batch was scored for a"):
        saliency(model, loss, [], named(model))
    with pytest.raises(TrainingError, match="does not depend"):
        saliency(model, lambda m, b: torch.ones((), requires_grad=True) * len(m(b[0])), batches(), named(model))


def test_numbers_that_are_not_finite_name_their_slot():
    model = Small()
    with torch.no_grad():
        model.tables[1].weight[3, 2] = float("inf")
    with pytest.raises(TrainingError, match="not finite"):
        saliency(model, loss, batches(), named(model))
    found = Saliency(["a", "b"])
    v = torch.ones(4, 2, 3)
    v[1, 1, 2] = float("nan")
    found.add(v, torch.ones(4, 2, 3))
    with pytest.raises(TrainingError, match="scores of b are not finite"):
        found.scores()


# --- the accumulator ---


def test_the_accumulator_sums_signed_in_float64():
    generator = torch.Generator().manual_seed(0)
    v, g = torch.randn(5000, 3, 4, generator=generator), torch.randn(5000, 3, 4, generator=generator)
    found = Saliency("abc")
    for part in torch.arange(5000).split(700):
        found.add(v[part], g[part])
    expected = (v.double() * g.double()).sum(0).numpy()
    np.testing.assert_allclose(found.signed(), expected, rtol=1e-12)
    np.testing.assert_allclose(found.scores(), np.abs(expected) / np.abs(expected).sum(), rtol=1e-12)
    assert found.examples == 5000 and found.batches == 8


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_accumulator_stays_on_its_device_and_agrees():
    v, g = torch.randn(40_000, 3, 4), torch.randn(40_000, 3, 4)
    here, there = Saliency("abc"), Saliency("abc")
    here.add(v, g)
    there.add(v.cuda(), g.cuda())
    np.testing.assert_allclose(here.signed(), there.signed(), rtol=1e-10)


def test_opposite_batches_cancel():
    """Signed sums: what one batch wants and the next does not is noise, not importance."""
    found = Saliency(["a"])
    v = torch.ones(2, 1, 2)
    found.add(v, torch.tensor([[[1.0, 1.0]], [[1.0, 1.0]]]))
    found.add(v, torch.tensor([[[-1.0, 1.0]], [[-1.0, 1.0]]]))
    assert found.signed().tolist() == [[0.0, 4.0]]
    assert found.halves().tolist() == [[[2.0, 2.0]], [[-2.0, 2.0]]]


def test_halves_are_disjoint_and_sum_to_the_whole():
    model = Small()
    found = saliency(model, loss, batches(4), named(model))
    even = saliency(model, loss, batches(4)[::2], named(model))
    for h, e, v in zip(found.halves, even.values, found.values, strict=True):
        np.testing.assert_allclose(h[0], e, rtol=1e-10)
        np.testing.assert_allclose(h.sum(0), v, rtol=1e-10)


def test_shared_tables_add_their_slots_signed():
    found = Saliency("abc")
    found.add(torch.ones(1, 3, 2), torch.tensor([[[1.0, 2.0], [-1.0, 5.0], [4.0, 4.0]]]))
    whole, first, second = found.by_table({"a": "t", "b": "t", "c": "c"})
    assert {k: v.tolist() for k, v in whole.items()} == {"t": [0.0, 7.0], "c": [4.0, 4.0]}
    assert first["t"].tolist() == [0.0, 7.0] and second["t"].tolist() == [0.0, 0.0]
    values = {"a": np.array([1.0]), "b": np.array([-3.0])}
    assert by_table(values, {"a": "t", "b": "t"})["t"].tolist() == [-2.0] and values["a"].tolist() == [1.0]


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="B x 2 x D"):
        Saliency("ab").add(torch.ones(3, 1, 2), torch.ones(3, 1, 2))
    with pytest.raises(TrainingError, match="no batch"):
        Saliency("ab").signed()


# --- Scores ---


def test_scores_as_a_frame():
    scores = Scores(("a", "b"), (np.array([1.0, -3.0]), np.array([0.0])))
    frame = scores.to_frame()
    assert frame["slot"].tolist() == ["a", "a", "b"] and frame["dimension"].tolist() == [0, 1, 0]
    assert frame["signed"].tolist() == [1, -3, 0] and frame["score"].tolist() == [0.25, 0.75, 0.0]
    assert scores.spearman is None


def test_normalise_of_zeros_is_zeros():
    assert normalise([np.zeros(2)])[0].tolist() == [0, 0]


@pytest.mark.parametrize("ties", [False, True])
def test_spearman_agrees_with_scipy(ties):
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=50), rng.normal(size=50)
    if ties:
        a, b = a.round(), (a + b).round()
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert spearman(a, np.ones(50)) is None
