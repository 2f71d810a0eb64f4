"""Laws of the spectral statistics, the factorisation and the two strategies that cut by them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from autodim.config.schema import BudgetConfig, PruneConfig
from autodim.dimension.budget import resolve
from autodim.dimension.factor import factorise, worth
from autodim.dimension.moments import Moments, Sums
from autodim.dimension.problem import make_problem
from autodim.dimension.saliency import Saliency
from autodim.dimension.spectral import logit_terms, spectral
from autodim.dimension.spectral_sums import Spectral
from autodim.dimension.spectral_tensors import from_tensors, to_tensors
from autodim.dimension.statistics import Statistics, stability
from autodim.dimension.strategies import STRATEGIES
from autodim.embedding.layout import CostModel, Slot, Table
from autodim.errors import ConfigError, RunError, TrainingError

D, ROWS, B = 4, (7, 11), 256


class Small(nn.Module):
    """Two slots -> inner product and a linear part, float64: a logit that bends."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.tables = nn.ModuleList(nn.Embedding(n, D) for n in ROWS)
        self.weight = nn.Linear(2 * D, 1)
        self.double()

    def forward(self, ids):
        v = torch.stack([t(ids[:, i]) for i, t in enumerate(self.tables)], 1)
        return (v[:, 0] * v[:, 1]).sum(1) + self.weight(v.flatten(1)).squeeze(1)


def batch(size=B, seed=1):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.stack([torch.randint(n, (size,), generator=generator) for n in ROWS], 1)
    return ids, torch.randint(2, (size,), generator=generator).double()


def found_moments(model, batches, **settings):
    slots = {"a": model.tables[0], "b": model.tables[1]}
    return spectral(model, lambda m, b: m(b[0]), lambda b: b[1], batches, slots, **settings)


def random_moments(seed=0, common=D, rank=None):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(rank or common, common)), rng.normal(size=(common, common))
    cross = rng.normal(size=(common, common))
    return Moments(100, rng.normal(size=common), rng.normal(size=common), a.T @ a, cross, b.T @ b)


@pytest.mark.parametrize("curvature", ["gauss_newton", "fisher"])
def test_the_moments_are_the_definitions_example_by_example(curvature):
    model = Small()
    ids, labels = batch(40)
    found = found_moments(model, [(ids[:15], labels[:15]), (ids[15:], labels[15:])], curvature=curvature)
    vs, gs, hs = [], [], []
    for i in range(40):
        v = model.tables[0](ids[i : i + 1, 0]).detach().requires_grad_()
        w = model.tables[1](ids[i : i + 1, 1]).detach()
        z = (v * w).sum() + model.weight(torch.cat([v, w], 1)).squeeze()
        (j,) = torch.autograd.grad(z, v)
        p = float(torch.sigmoid(z.detach()))
        g = (p - float(labels[i])) * j[0]
        vs.append(v.detach()[0]), gs.append(g)
        hs.append(torch.outer(g, g) if curvature == "fisher" else p * (1 - p) * torch.outer(j[0], j[0]))
    v, g = torch.stack(vs).numpy(), torch.stack(gs).numpy()
    m = found["a"]
    np.testing.assert_allclose(m.mean, v.mean(0), rtol=1e-10)
    np.testing.assert_allclose(m.covariance, np.cov(v.T, bias=True), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(m.cross, (v - v.mean(0)).T @ g / 40, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(m.gradient, g.mean(0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(m.curvature, torch.stack(hs).mean(0).numpy(), rtol=1e-9, atol=1e-12)


def test_fisher_equals_gauss_newton_in_expectation_where_the_model_is_right():
    """Labels drawn from the model's own probabilities: E[(p - y)^2 | x] = p (1 - p)."""
    model = Small()
    ids, _ = batch(60_000)
    with torch.no_grad():
        labels = torch.bernoulli(model(ids).sigmoid(), generator=torch.Generator().manual_seed(2))
    exact = found_moments(model, [(ids, labels)])["a"].curvature
    drawn = found_moments(model, [(ids, labels)], curvature="fisher")["a"].curvature
    assert np.abs(drawn - exact).max() < 0.02 * np.abs(exact).max()
    # and where labels are not the model's, the two differ: the test above can fail
    wrong = found_moments(model, [(ids, 1 - labels)], curvature="fisher")["a"].curvature
    assert np.abs(wrong - exact).max() > 0.2 * np.abs(exact).max()


def test_saturated_and_missing_labels_stay_finite():
    logits = torch.tensor([[60.0], [-60.0], [900.0], [0.0]])
    residual, weight = logit_terms(logits, torch.tensor([[1.0], [0.0], [0.0], [torch.nan]]), "gauss_newton")
    assert weight[:2, 0].tolist() == pytest.approx([np.exp(-60.0)] * 2, rel=1e-6)
    assert residual[2] == 1 and residual[3] == 0 and weight[3] == 0
    assert weight.isfinite().all()


def test_tasks_add_up_and_batches_do_not_matter():
    torch.manual_seed(0)
    v, j = torch.randn(50, 2, D).double(), torch.randn(3, 50, 2, D).double()
    residual, weight = torch.randn(50, 3).double(), torch.rand(50, 3).double()
    whole, parts = Spectral(["a", "b"]), Spectral(["a", "b"])
    whole.add(v, j, residual, weight)
    for chunk in (slice(0, 7), slice(7, 30), slice(30, 50)):
        parts.add(v[chunk], j[:, chunk], residual[chunk], weight[chunk])
    singles = []
    for t in range(3):
        single = Spectral(["a", "b"])
        single.add(v, j[t : t + 1], residual[:, t : t + 1], weight[:, t : t + 1])
        singles.append(single.moments()["b"])
    expected, got = whole.moments()["b"], parts.moments()["b"]
    for name in ("mean", "gradient", "covariance", "cross", "curvature"):
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(sum(s.curvature for s in singles), expected.curvature, rtol=1e-9)
    np.testing.assert_allclose(sum(s.cross for s in singles), expected.cross, rtol=1e-9, atol=1e-12)
    everything, first, second = from_tensors(to_tensors(parts))
    np.testing.assert_array_equal(everything["b"].covariance, got.covariance)
    assert first["a"].count == 7 + 20 and second["a"].count == 23


def test_a_tasks_moments_are_those_of_the_examples_that_have_its_label():
    """Of a task that every fifth example has: gradients, cross and curvature as of these alone; those of two tasks add
    up; means and covariances are of all."""

    class Two(Small):
        def forward(self, ids):
            z = super().forward(ids)
            return torch.stack([z, 0.5 - 2 * z], 1)

    def found(labels, model, data):
        slots = {"a": model.tables[0], "b": model.tables[1]}
        return spectral(model, lambda m, b: m(b[0]), labels, data, slots)["a"]

    model, data = Two(), [batch(100), batch(60, seed=2), batch(80, seed=3)]
    rare = torch.full((100,), torch.nan)
    rare[::5] = 0.0
    both = found(lambda b: torch.stack([b[1], b[1] + rare[: len(b[1])]], 1), model, data)
    none = found(lambda b: torch.stack([b[1], b[1] * torch.nan], 1), model, data)
    alone = found(lambda b: torch.stack([b[1] * torch.nan, b[1]], 1), model, [(i[::5], y[::5]) for i, y in data])
    own = np.outer(alone.mean - both.mean, alone.gradient)  # each is about a mean of its own
    for name in ("gradient", "cross", "curvature"):
        extra = getattr(alone, name) + (own if name == "cross" else 0.0)
        np.testing.assert_allclose(getattr(both, name), getattr(none, name) + extra, rtol=1e-9, atol=1e-12)
    assert both.count == 240 and np.array_equal(both.covariance, none.covariance)


def test_float32_products_round_far_below_the_noise_of_the_sample():
    torch.manual_seed(0)
    v, j = 3 + torch.randn(5000, 2, D), torch.randn(1, 5000, 2, D)
    residual, weight = torch.randn(5000, 1), torch.rand(5000, 1)
    single, double = Spectral(["a", "b"]), Spectral(["a", "b"])
    single.add(v, j, residual, weight)
    double.add(v.double(), j.double(), residual.double(), weight.double())
    for name in ("mean", "gradient", "covariance", "cross", "curvature"):
        got, exact = (getattr(s.moments()["a"], name) for s in (single, double))
        assert 0 < np.abs(got - exact).max() < 3e-6, name


def test_far_means_keep_their_digits():
    """Vectors at 1e6 with deviation 1: a raw second moment in float64 would lose 12 of 16 digits."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 1, D)) + 1e6
    part = Spectral(["a"])
    zero = torch.zeros(1, 500, 1, D, dtype=torch.float64)
    part.add(torch.from_numpy(x), zero, torch.zeros(500, 1), torch.zeros(500, 1))
    np.testing.assert_allclose(part.moments()["a"].covariance, np.cov(x[:, 0].T, bias=True), rtol=1e-6, atol=1e-9)


def test_full_rank_is_exact_and_rank_zero_is_the_mean():
    m = random_moments()
    f = factorise({"a": m})
    np.testing.assert_allclose(f.encoder(D) @ f.decoder(D), np.eye(D), atol=1e-9)
    np.testing.assert_allclose(f.bias("a", D), 0, atol=1e-8)
    assert f.change(D) == 0
    np.testing.assert_array_equal(f.bias("a", 0), m.mean)
    assert f.change(0) == pytest.approx(0.5 * np.trace(m.covariance @ m.curvature) - np.trace(m.cross), rel=1e-9)


def test_the_tail_of_the_lambdas_is_the_second_order_change():
    m = random_moments()
    m = Moments(m.count, m.mean, m.gradient * 0, m.covariance, m.cross * 0, m.curvature)
    f = factorise({"a": m}, ridge=1e-12)
    for rank in range(D):
        assert f.change(rank) == pytest.approx(0.5 * f.lambdas[rank:].sum(), rel=1e-6)
    np.testing.assert_allclose(worth(f, {"a": m}), f.lambdas, rtol=1e-6)


def test_no_other_cut_of_the_rank_does_better():
    m = random_moments(3)
    f = factorise({"a": m}, ridge=1e-12)
    m = Moments(m.count, m.mean, m.gradient * 0, m.covariance, m.cross * 0, m.curvature)
    best = 0.5 * f.lambdas[2:].sum()
    rng = np.random.default_rng(0)
    for _ in range(200):
        a = f.encoder(2) + rng.normal(size=(D, 2)) * rng.choice([0.01, 0.3])
        p = f.decoder(2) + rng.normal(size=(2, D)) * rng.choice([0.0, 0.01])
        assert m.change(a @ p, m.mean - m.mean @ a @ p) >= best * (1 - 1e-9)


def test_a_table_of_low_rank_is_cut_without_loss_at_its_rank():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(50, 2)) @ rng.normal(size=(2, D)) + rng.normal(size=D)  # an affine plane
    mean = table.mean(0)
    b = rng.normal(size=(D, D))
    m = Moments(50, mean, np.zeros(D), np.cov(table.T, bias=True), np.zeros((D, D)), b.T @ b)
    f = factorise({"a": m})
    assert (f.lambdas[2:] < 1e-9 * f.lambdas[0]).all()
    np.testing.assert_allclose(table @ f.encoder(2) @ f.decoder(2) + f.bias("a", 2), table, atol=1e-8)
    # the new table varies as much a column as the old one did on average
    np.testing.assert_allclose((table @ f.encoder(2)).std(0), np.sqrt(table.var(0).mean()), rtol=1e-6)


def test_empty_bags_and_sums_of_vectors_are_right():
    """The bias stands outside the pooling: a bag of k ids, k = 0 too, is cut as the pooled vector is."""
    m = random_moments()
    f = factorise({"a": m})
    rng = np.random.default_rng(1)
    table = rng.normal(size=(9, D))
    for ids in ([], [3], [1, 1, 4]):
        pooled = table[ids].sum(0)
        got = (table @ f.encoder(2))[ids].sum(0) @ f.decoder(2) + f.bias("a", 2)
        np.testing.assert_allclose(got, m.mean + (pooled - m.mean) @ f.encoder(2) @ f.decoder(2), atol=1e-9)


def test_the_predicted_change_is_the_measured_one_to_its_order():
    """A linear logit with a squared loss is exactly quadratic: prediction and measurement agree to rounding."""
    rng = np.random.default_rng(0)
    v = rng.normal(size=(3000, D)) @ rng.normal(size=(D, D)) + 1
    w, y = rng.normal(size=D), rng.normal(size=3000)
    r = v @ w - y  # loss r^2 / 2, gradient r w, curvature w w^T
    zero = np.zeros(D)
    g = r[:, None] * w
    sums = Sums(3000, 3000, zero, v.sum(0), g.sum(0), v.T @ v, v.T @ g, 3000 * np.outer(w, w))
    f = factorise({"a": Moments.of(sums)}, ridge=1e-4)
    for rank in range(D):
        cut = v @ f.encoder(rank) @ f.decoder(rank) + f.bias("a", rank)
        measured = ((cut @ w - y) ** 2 - r**2).mean() / 2
        assert f.change(rank) == pytest.approx(measured, rel=1e-8, abs=1e-10)
    # any affine cut: a masked dimension without a bias, as the axis-aligned strategies make it
    mask = np.diag([1.0, 0, 1, 1])
    measured = ((v @ mask @ w - y) ** 2 - r**2).mean() / 2
    assert Moments.of(sums).change(mask, zero) == pytest.approx(measured, rel=1e-8)


def test_the_predicted_change_of_a_logistic_model_is_right_for_small_cuts():
    model = Small()
    ids, labels = batch(20_000)
    m = found_moments(model, [(ids, labels)])["a"]
    step = np.random.default_rng(0).normal(size=(D, D))

    def change(size):
        matrix = np.eye(D) + size * step
        with torch.no_grad():
            before = nn.functional.binary_cross_entropy_with_logits(model(ids), labels)
            kept = model.tables[0].weight.clone()
            model.tables[0].weight.copy_(kept @ torch.from_numpy(matrix))
            after = nn.functional.binary_cross_entropy_with_logits(model(ids), labels)
            model.tables[0].weight.copy_(kept)
        return float(after - before) - m.change(matrix, np.zeros(D))

    # exact to second order but for the covariance of v and H, which H E[] E[] leaves out: the error is of order size^2
    assert abs(change(1e-4)) < 1e-7 and abs(change(1e-3)) < 1e-4


def test_slots_of_one_table_share_the_cut_and_have_a_bias_each():
    first, second = random_moments(1), random_moments(2)
    f = factorise({"a": first, "b": second})
    assert not np.allclose(f.bias("a", 1), f.bias("b", 1))
    np.testing.assert_allclose(f.change(2), sum(
        m.change(f.encoder(2) @ f.decoder(2), f.bias(s, 2)) for s, m in (("a", first), ("b", second))
    ))  # fmt: skip
    # a slot read twice is a slot that matters twice
    twice = factorise({"a": first, "b": first})
    once = factorise({"a": first})
    np.testing.assert_allclose(twice.lambdas, 2 * once.lambdas, rtol=1e-9)
    np.testing.assert_allclose(twice.encoder(2) @ twice.decoder(2), once.encoder(2) @ once.decoder(2), atol=1e-8)
    order = factorise({"b": second, "a": first})
    np.testing.assert_allclose(order.encoders, f.encoders, atol=1e-9)


def test_a_slot_that_the_loss_ignores_is_worth_nothing():
    m = random_moments()
    f = factorise({"a": Moments(m.count, m.mean, m.gradient * 0, m.covariance, m.cross * 0, m.curvature * 0)})
    assert (f.lambdas == 0).all() and f.change(0) == 0
    np.testing.assert_allclose(f.encoder(D) @ f.decoder(D), np.eye(D), atol=1e-9)


def test_a_constant_slot_is_kept_by_its_bias():
    m = random_moments()
    f = factorise({"a": Moments(m.count, m.mean, m.gradient, m.covariance * 0, m.cross * 0, m.curvature)})
    assert (f.lambdas == 0).all() and np.isfinite(f.encoders).all() and np.isfinite(f.decoders).all()
    np.testing.assert_allclose(m.mean @ f.encoder(1) @ f.decoder(1) + f.bias("a", 1), m.mean, atol=1e-9)


def test_a_slot_that_is_constant_but_for_rounding_has_finite_factors():
    m = random_moments()
    noise = 1e-18 * np.diag([1.0, -1.0, *[0.0] * (D - 2)])  # a trace of 0 or less, and a direction above it
    f = factorise({"a": Moments(m.count, m.mean, m.gradient, noise, m.cross * 0, m.curvature)})
    assert (f.lambdas == 0).all() and np.isfinite(f.encoders).all() and np.isfinite(f.decoders).all()


def test_one_module_for_all_slots_and_frozen_weights_give_the_same():
    class Stacked(Small):
        def __init__(self):
            super().__init__()
            self.stack = nn.Identity()

        def forward(self, ids):
            v = self.stack(torch.stack([t(ids[:, i]) for i, t in enumerate(self.tables)], 1))
            return (v[:, 0] * v[:, 1]).sum(1) + self.weight(v.flatten(1)).squeeze(1)

    model = Stacked().requires_grad_(False).train()
    data = [batch(64), batch(30, seed=2)]
    expected = found_moments(model, data)
    got = spectral(model, lambda m, b: m(b[0]), lambda b: b[1], data, (model.stack, ["a", "b"]))
    for name in ("mean", "covariance", "cross", "curvature"):
        np.testing.assert_allclose(getattr(got["b"], name), getattr(expected["b"], name), rtol=1e-9, atol=1e-12)
    assert model.training and model.tables[0].weight.grad is None


def test_misuse_is_told():
    model = Small()
    with pytest.raises(ConfigError, match="not part of the model"):
        spectral(model, lambda m, b: m(b[0]), lambda b: b[1], [batch()], {"a": nn.Embedding(3, D)})
    with pytest.raises(ConfigError, match="B x T"):
        spectral(model, lambda m, b: m(b[0]), lambda b: b[1][:, None], [batch()], {"a": model.tables[0]})
    with pytest.raises(TrainingError, match="no batch"):
        found_moments(model, [])
    ids, labels = batch()
    with torch.no_grad():
        model.tables[1].weight[0, 0] = torch.nan
    with pytest.raises(TrainingError, match="not finite"):
        found_moments(model, [(ids, labels)])


NAMES = {"user": 600, "item": 300, "gender": 2, "age": 7}


def solve(strategy, share=0.3, statistics=None, unit="params", **settings):
    slots = [*(Slot(n, n) for n in NAMES), Slot("last", "item")]
    tables = [Table(n, rows) for n, rows in NAMES.items()]
    budget = BudgetConfig(unit=unit, share=share)
    config = PruneConfig(budget=budget, **settings)
    problem = make_problem(slots, tables, 8, config, cost=CostModel(unit, 8))
    if statistics is None:
        moments = {s.name: random_moments(i, 8) for i, s in enumerate(slots)}
        other = {s.name: random_moments(i + 10, 8) for i, s in enumerate(slots)}
        zeros = {t: np.zeros(8) for t in NAMES}
        extra = {"spectral": moments, "spectral_halves": (moments, other)}
        statistics = Statistics(zeros, zeros, (zeros, zeros), 100, extra)
    return problem, resolve(budget, problem.cost, problem.uniform), statistics


@pytest.mark.parametrize("strategy", ["spectral", "spectral_uniform"])
def test_factored_blocks_pay_for_a_bias_a_slot(strategy):
    problem, budget, statistics = solve(strategy)
    found = STRATEGIES[strategy](problem, budget, statistics)
    assert any(e.projected for e in found.entries)
    for e in found.entries:
        assert e.bias == (e.projected or e.width == 0) and e.kept is None
        bias = 8 * len(e.slots) if e.bias else 0
        assert e.cost == e.rows * e.width + (8 * e.width if e.projected else 0) + bias
        assert list(e.scores) == sorted(e.scores, reverse=True)
        assert e.score == pytest.approx(sum(e.scores[: e.width]), rel=1e-5)
    assert found.spent == found.layout(problem.slots, problem.tables).parameters <= budget.amount


def test_spectral_spends_until_no_step_fits_and_uniform_is_one_width():
    problem, budget, statistics = solve("spectral")
    greedy = STRATEGIES["spectral"](problem, budget, statistics)
    uniform = STRATEGIES["spectral_uniform"](problem, budget, statistics)
    cost = CostModel("params", 8, bias=True)
    for e in greedy.entries:
        if e.width < 8:
            wider = cost.cost(e.table, 0, e.rows, e.width + 1, len(e.slots))
            assert greedy.spent - e.cost + wider > budget.amount
    widths = {e.width for e in uniform.entries if e.projected}
    assert len(widths) == 1
    wider = sum(cost.cost(e.table, 0, e.rows, max(widths) + 1, len(e.slots)) for e in uniform.entries)
    assert wider > budget.amount


def test_stability_compares_what_the_dimensions_are_worth_by_each_half():
    problem, budget, statistics = solve("spectral")
    found = stability(STRATEGIES["spectral"], problem, budget, statistics)
    assert found.spearman < 0.9
    scaled = {s: Moments(m.count, m.mean, m.gradient, m.covariance * f, m.cross, m.curvature) for (s, m), f in zip(
        statistics.extra["spectral"].items(), (1, 1e4, 1, 1, 1), strict=True
    )}  # fmt: skip
    moved = dict(statistics.extra, spectral_halves=(statistics.extra["spectral"], scaled))
    assert stability(STRATEGIES["spectral"], problem, budget, replace(statistics, extra=moved)).width_difference > 0
    same = dict(statistics.extra, spectral_halves=(statistics.extra["spectral"],) * 2)
    agreed = stability(STRATEGIES["spectral"], problem, budget, replace(statistics, extra=same))
    assert agreed.spearman == pytest.approx(1) and agreed.width_difference == 0


def test_without_statistics_the_strategy_says_what_it_needs():
    problem, budget, _ = solve("spectral")
    with pytest.raises(RunError, match="spectral statistics of width 8 for slot user"):
        STRATEGIES["spectral"](problem, budget, None)


def test_a_users_own_model_is_cut_without_the_pipeline():
    """spectral -> allocate -> factorise: the moments alone are enough, saliencies included."""
    from autodim import allocate, factorise, saliency, spectral

    model = Small()
    data = [batch(300), batch(200, seed=3)]
    slots = {"a": model.tables[0], "b": model.tables[1]}
    moments = spectral(model, lambda m, b: m(b[0]), lambda b: b[1], data, slots)
    bce = nn.functional.binary_cross_entropy_with_logits
    scores = saliency(model, lambda m, b: bce(m(b[0]), b[1]), data, slots)
    np.testing.assert_allclose(moments["a"].saliency * 500, scores["a"], rtol=1e-8, atol=1e-10)
    widths = allocate(moments, {"a": 700, "b": 1100}, "60%", strategy="spectral").widths
    assert 0 < sum(widths.values()) < 2 * D
    with torch.no_grad():
        before = bce(model(data[0][0]), data[0][1])
        for name, table in slots.items():
            f = factorise({name: moments[name]})
            a, p, c = (torch.from_numpy(x) for x in (f.encoder(D), f.decoder(D), f.bias(name, D)))
            table.weight.copy_(table.weight @ a @ p + c)
        assert bce(model(data[0][0]), data[0][1]) == pytest.approx(float(before), abs=1e-9)


def test_the_saliency_of_the_moments_is_that_of_sseds():
    g = torch.Generator().manual_seed(5)
    plain, spectral = Saliency(["a", "b"]), Spectral(["a", "b"])
    for rows in (1500, 700, 40):
        vectors = torch.randn(rows, 2, 3, generator=g) + 4
        jacobian = torch.randn(2, rows, 2, 3, generator=g)
        residual = torch.randn(rows, 2, generator=g)
        plain.add(vectors, torch.einsum("tbsd,bt->bsd", jacobian, residual))
        spectral.add(vectors, jacobian, residual, residual.square())
    for half, expected in zip(spectral.halves(), plain.halves(), strict=True):
        for name, values in zip(("a", "b"), expected, strict=True):
            np.testing.assert_allclose(half[name].saliency, values, rtol=1e-5, atol=1e-3)
