"""Statistics of each task, weighted sums of them, and allocations that serve the worst task."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from autodim.config.schema import BudgetConfig, PruneConfig
from autodim.dimension.allocation import Allocation, read_widths
from autodim.dimension.budget import resolve
from autodim.dimension.moments import Moments
from autodim.dimension.problem import make_problem
from autodim.dimension.spectral_sums import OWN, Spectral
from autodim.dimension.spectral_tensors import task_tensors, to_tensors
from autodim.dimension.statistics import Statistics
from autodim.dimension.strategies import strategy_for
from autodim.dimension.tasks import PER_TASK, losses, relative, slot_worths, task_shares, weighed
from autodim.embedding.layout import CostModel, Slot, Table
from autodim.errors import ConfigError
from autodim.stages.task_scores import by_tasks, split_tasks

D = 4
ROWS = {"user": 40, "item": 30, "zip": 25}


def statistics(tasks=2, seed=0, skew=1.0):
    """Each task with saliencies and curvatures of its own; those of task k are `skew^k` times as large."""
    rng = np.random.default_rng(seed)
    spread = {slot: rng.normal(size=(D, D)) for slot in ROWS}
    covariance = {slot: a.T @ a for slot, a in spread.items()}
    parts = {}
    for k in range(tasks):
        scale = {slot: skew**k * 10 ** rng.uniform(-1.5, 0) for slot in ROWS}
        scores = {slot: scale[slot] * rng.normal(size=D) for slot in ROWS}
        moments = {}
        for slot in ROWS:
            b = rng.normal(size=(D, D))
            gradient, cross = rng.normal(size=D), rng.normal(size=(D, D))
            moments[slot] = Moments(10, np.zeros(D), gradient, covariance[slot], cross, scale[slot] * (b.T @ b))
        parts[f"t{k}"] = Statistics(scores, extra={"spectral": moments})
    return together(parts)


def together(parts):
    first = next(iter(parts.values()))
    return weighed(Statistics(first.scores, extra=first.extra, tasks=parts), {}, signed=True)


def asked(strategy, combine="worst", share=0.5, **more):
    settings = PruneConfig.model_validate(
        {
            "strategy": strategy,
            "budget": BudgetConfig(unit="params", share=share),
            "tasks": {"combine": combine, **more},
        }
    )
    problem = make_problem([Slot(n, n) for n in ROWS], [Table(n, r) for n, r in ROWS.items()], D, settings)
    budget = resolve(settings.budget, problem.cost, problem.uniform)
    return problem, lambda found: strategy_for(strategy, settings)(problem, budget, found)


def batches(tasks, count=3):
    generator = torch.Generator().manual_seed(3)
    for _ in range(count):
        v = torch.randn(50, 2, D, generator=generator)
        j = torch.randn(tasks, 50, 2, D, generator=generator)
        yield (
            v,
            j,
            torch.randn(50, tasks, generator=generator).double(),
            torch.rand(50, tasks, generator=generator).double(),
        )


def test_the_sums_of_the_tasks_are_those_of_all_to_the_last_bit():
    whole, alone = Spectral(["a", "b"]), [Spectral(["a", "b"]) for _ in range(3)]
    for v, j, r, w in batches(3):
        whole.add(v, j, r, w)
        for t, one in enumerate(alone):
            one.add(v, j[t : t + 1], r[:, t : t + 1], w[:, t : t + 1])
    own = [task_tensors(whole, t) for t in range(3)]
    found = to_tensors(whole)
    for name, tensor in by_tasks(own).items():
        if not name.startswith("task"):
            assert torch.equal(tensor, found[name])
    for t, one in enumerate(alone):
        assert all(torch.equal(own[t][name], to_tensors(one)[name]) for name in own[t])
        assert set(own[t]) == {f"spectral.{kind}/{slot}" for kind in OWN for slot in "ab"}


def test_tensors_of_tasks_are_told_apart_again():
    own = [{"g/a/b": torch.tensor([1.0, 2.0])}, {"g/a/b": torch.tensor([0.5, -4.0])}]
    plain, parts = split_tasks({"mean/x": torch.zeros(2)} | by_tasks(own))
    assert plain["g/a/b"].tolist() == [1.5, -2.0] and set(plain) == {"mean/x", "g/a/b"}
    assert [p["g/a/b"].tolist() for p in parts] == [[1.0, 2.0], [0.5, -4.0]] and "mean/x" in parts[1]
    assert split_tasks({"g/a": torch.zeros(1)})[1] == []


def test_weights_are_factors_of_the_losses():
    found = statistics(3)
    parts = list(found.tasks.values())
    mixed = weighed(found, {"t1": 2.5, "t2": 0.0}, signed=True)
    for slot in ROWS:
        np.testing.assert_allclose(mixed.scores[slot], parts[0].scores[slot] + 2.5 * parts[1].scores[slot])
        a, b, m = (s.extra["spectral"][slot] for s in (*parts[:2], mixed))
        np.testing.assert_allclose(m.curvature, a.curvature + 2.5 * b.curvature)
        np.testing.assert_allclose(m.cross, a.cross + 2.5 * b.cross)
        assert np.array_equal(m.covariance, a.covariance)
    apart = weighed(found, {"t2": 0.0}, signed=False)
    np.testing.assert_allclose(apart.scores["user"], abs(parts[0].scores["user"]) + abs(parts[1].scores["user"]))


@pytest.mark.parametrize("strategy", PER_TASK)
@pytest.mark.parametrize("tasks", [2, 3])
def test_the_worst_task_never_loses_more_than_under_the_sum(strategy, tasks):
    better = 0
    for seed in range(6):
        found = statistics(tasks, seed, skew=0.02)
        problem, worst = asked(strategy)
        _, plain = asked(strategy, "sum")
        by_worst, by_sum = (relative(problem, found, a(found)) for a in (worst, plain))
        assert max(by_worst.values()) <= max(by_sum.values())
        better += max(by_worst.values()) < max(by_sum.values())
    assert better >= (0 if strategy == "spectral_uniform" else 4)


@pytest.mark.parametrize("seed", range(8))
def test_two_tasks_come_near_the_best_of_all_cuts(seed):
    """All widths and all kept dimensions, by brute force; the remark's bound lies below them."""
    found = statistics(2, seed, skew=0.05)
    problem, worst = asked("sseds", share=0.6)
    allocation = worst(found)
    reached = max(relative(problem, found, allocation).values())
    totals = [sum(slot_worths(problem, t, "sseds").values()) for t in found.tasks.values()]
    subsets = [s for s in product((False, True), repeat=D)]
    kept, price = {}, {}
    for slot, c in problem.limits.items():
        cost = {int(n): int(k) for n, k in zip(c.nominal, c.costs, strict=True)}
        options = []
        for subset in subsets:
            if sum(subset) in cost:
                gone = [np.abs(t.scores[slot])[~np.array(subset)].sum() / total
                        for t, total in zip(found.tasks.values(), totals, strict=True)]  # fmt: skip
                options.append((cost[sum(subset)], gone))
        kept[slot] = np.array([g for _, g in options])
        price[slot] = np.array([p for p, _ in options])
    a, b, c = ROWS
    spent = price[a][:, None, None] + price[b][None, :, None] + price[c]
    lost = kept[a][:, None, None] + kept[b][None, :, None] + kept[c]
    best = lost.max(-1)[spent <= allocation.asked].min()
    note = next(n for n in allocation.notes if n.startswith("worst task"))
    bound = float(note.split("below ")[1].rstrip(" %)")) / 100
    assert bound - 5e-4 <= best <= reached + 1e-12
    assert reached <= best + 0.12  # the step of a width


def planted():
    """`zip` serves only the second task, whose losses are a hundredth of the first's."""
    a = {"user": np.full(D, 1.0), "item": np.full(D, 0.8), "zip": np.zeros(D)}
    b = {"user": np.full(D, 0.002), "item": np.full(D, 0.001), "zip": np.full(D, 0.01)}

    def task(scores):
        moments = {
            s: Moments(10, np.zeros(D), np.zeros(D), np.eye(D), np.zeros((D, D)), np.diag(v)) for s, v in scores.items()
        }
        return Statistics(scores, extra={"spectral": moments})

    return together({"click": task(a), "buy": task(b)})


@pytest.mark.parametrize("strategy", ["sseds", "spectral"])
def test_a_slot_that_only_a_small_task_needs_is_kept_for_the_worst_task_and_lost_by_the_sum(strategy):
    found = planted()
    _, plain = asked(strategy, "sum", share=0.7)
    problem, worst = asked(strategy, share=0.7)
    assert plain(found).widths["zip"] == 0
    allocation = worst(found)
    assert allocation.widths["zip"] > 0
    assert allocation.spent <= allocation.asked
    shares = task_shares(problem, found, allocation)
    assert shares["tasks"] == ["click", "buy"] and shares["slots"]["zip"] == pytest.approx([0, 10 / 13])
    assert np.sum(list(shares["slots"].values()), 0) == pytest.approx([1, 1])
    assert shares["lost"] == pytest.approx(list(relative(problem, found, allocation).values()))
    heavy = asked(strategy, "worst", share=0.7, weights={"buy": 0.0})[1](found)
    assert heavy.widths["zip"] == 0  # a task of weight 0 has no say


def test_what_a_spectral_cut_loses_is_what_its_factors_predict():
    found = statistics(2, 5)
    problem, worst = asked("spectral")
    allocation = worst(found)
    basis = weighed(found, dict(allocation.task_weights), signed=True)
    mixed = sum(dict(allocation.task_weights)[n] * lost for n, lost in losses(problem, found, allocation).items())
    lambdas = 0.0
    for e in allocation.entries:
        from autodim.dimension.factor import factorise

        if e.projected or not e.width:
            lambdas += factorise({e.table: basis.extra["spectral"][e.table]}, 1e-6).lambdas[e.width :].sum()
    assert mixed == pytest.approx(lambdas, rel=1e-4)


def test_one_task_is_allocated_as_ever():
    found = statistics(1)
    alone = Statistics(found.scores, extra=found.extra)
    for strategy in PER_TASK:
        assert asked(strategy)[1](alone) == asked(strategy, "sum")[1](alone)


def test_the_weights_of_a_cut_stand_in_its_widths_file(tmp_path):
    problem, worst = asked("spectral", share=0.7)
    allocation = worst(planted())
    assert dict(allocation.task_weights).keys() == {"click", "buy"}
    text = allocation.to_yaml()
    assert Allocation.from_yaml(text).task_weights == allocation.task_weights
    path = tmp_path / "widths.yaml"
    path.write_text(text)
    cost = CostModel("params", D, bias=True)
    assert read_widths(path, problem.slots, problem.tables, D, cost).task_weights == allocation.task_weights
    with pytest.raises(ConfigError, match=r"task_weights: expected pairs \[task, factor\]"):
        Allocation.from_yaml(text.replace("task_weights: [[", "task_weights: [[1, "))
