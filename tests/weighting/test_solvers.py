"""Weights from a Gramian: closed forms, published cases, the exact optimum, and TorchJD's own numbers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from autodim.weighting.gradvac import GradVac, gradvac_weights
from autodim.weighting.mgda import MGDA, mgda_weights
from autodim.weighting.pcgrad import PCGrad, pcgrad_weights
from autodim.weighting.pe_ltr import PELTR, pe_ltr_weights
from autodim.weighting.simplex import least_norm, nearest
from autodim.weighting.solver import cosines, solve_present


def vectors(tasks: int, seed: int, numbers: int = 5) -> torch.Tensor:
    """Gradients that mostly disagree."""
    g = torch.Generator().manual_seed(seed)
    found = torch.randn(tasks, numbers, generator=g, dtype=torch.float64)
    return found - 0.7 * found.mean(0)


def gram(v: torch.Tensor) -> torch.Tensor:
    return v @ v.T


def test_pcgrad_of_two_is_the_closed_form():
    k = torch.tensor([[4.0, -1.0], [-1.0, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(pcgrad_weights(k), torch.tensor([1 + 1 / 4, 1 + 1 / 2], dtype=torch.float64))
    friends = torch.tensor([[4.0, 1.0], [1.0, 2.0]])
    assert pcgrad_weights(friends).tolist() == [1, 1]


@pytest.mark.parametrize("seed", range(5))
def test_pcgrad_is_the_algorithm_on_the_gradients(seed):
    g = vectors(4, seed)
    orders = torch.Generator().manual_seed(seed)
    expected = torch.zeros(5, dtype=torch.float64)
    for i in range(4):
        moved = g[i].clone()
        for j in torch.randperm(4, generator=orders).tolist():
            if j != i and moved @ g[j] < 0:
                moved -= (moved @ g[j]) / (g[j] @ g[j]) * g[j]
        expected += moved
    weights = pcgrad_weights(gram(g), torch.Generator().manual_seed(seed))
    torch.testing.assert_close(weights @ g, expected, rtol=1e-10, atol=1e-12)


def test_gradvac_reaches_its_target_exactly():
    g = vectors(2, 3)
    assert cosines(gram(g))[0] < -0.2
    goal = torch.tensor([[0, 0.6], [-0.2, 0]], dtype=torch.float64)
    for i, j in ((0, 1), (1, 0)):
        alone = torch.full((2, 2), -2.0, dtype=torch.float64)
        alone[i, j] = goal[i, j]
        weights, _ = gradvac_weights(gram(g), alone, beta=0)
        turned = (weights - torch.eye(2, dtype=torch.float64)[j]) @ g  # the other gradient was left alone
        cosine = torch.cosine_similarity(turned, g[j], dim=0)
        torch.testing.assert_close(cosine, goal[i, j], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("tasks", "seed"), [(2, 0), (2, 3), (3, 1), (3, 2)])
def test_gradvac_without_targets_is_pcgrad(tasks, seed):
    k = gram(vectors(tasks, seed))
    zeros = torch.zeros(tasks, tasks)
    if tasks == 2:
        weights, _ = gradvac_weights(k, zeros, beta=0)
        torch.testing.assert_close(weights, pcgrad_weights(k))
        return
    found = {tuple(round(w, 9) for w in gradvac_weights(k, zeros, 0, torch.Generator().manual_seed(s))[0].tolist())
             for s in range(60)}  # fmt: skip
    other = {
        tuple(round(w, 9) for w in pcgrad_weights(k, torch.Generator().manual_seed(s)).tolist()) for s in range(60)
    }
    assert found == other and len(found) > 1  # each order that the one may draw, the other may


def test_gradvac_remembers_the_usual_cosine():
    k = gram(vectors(2, 3))
    _, goal = gradvac_weights(k, torch.full((2, 2), -1.0), beta=0.25)
    cosine = cosines(k)[0]
    assert goal[0, 1].item() == pytest.approx(-0.75 + 0.25 * cosine, abs=1e-12)
    assert goal[1, 0].item() == pytest.approx(-0.75 + 0.25 * cosine, abs=1e-12)


def test_mgda_favours_the_small_gradient():
    weights = mgda_weights(torch.tensor([[1.0, 0.0], [0.0, 0.01]]))
    assert weights[0].item() == pytest.approx(0.0099, abs=1e-5)
    # K12 above the smaller square: all on it
    assert mgda_weights(torch.tensor([[4.0, 2.0], [2.0, 1.5]])).tolist() == [0, 1]


def brute(k: np.ndarray, floors: np.ndarray) -> float:
    """The least value over all sets of tasks at their floor: exact for a convex problem."""
    count, best = len(k), np.inf
    for size in range(1, count + 1):
        for free in itertools.combinations(range(count), size):
            rest = 1 - floors[[i for i in range(count) if i not in free]].sum()
            system = np.ones((size + 1, size + 1))
            system[:size, :size] = k[np.ix_(free, free)]
            system[size, size] = 0
            fixed = floors.copy()
            fixed[list(free)] = 0
            right = np.append(-(k @ fixed)[list(free)], rest)
            w = fixed.copy()
            w[list(free)] = np.linalg.lstsq(system, right, rcond=None)[0][:size]
            if (w >= floors - 1e-9).all() and abs(w.sum() - 1) < 1e-8:
                best = min(best, w @ k @ w)
    return best


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 8), st.integers(0, 10**6), st.integers(1, 9), st.floats(0, 3))
def test_mgda_is_the_exact_optimum(tasks, seed, numbers, spread):
    g = np.random.default_rng(seed).normal(size=(tasks, numbers)) + spread
    g *= np.random.default_rng(seed + 1).choice([0.05, 1, 10], size=(tasks, 1))
    k = g @ g.T
    w = least_norm(k)
    assert (w >= 0).all() and w.sum() == pytest.approx(1)
    assert w @ k @ w <= brute(k, np.zeros(tasks)) + 1e-9 * k.diagonal().max()
    # Karush-Kuhn-Tucker: no task would shorten the mixture
    assert (k @ w).min() >= w @ k @ w - 1e-8 * k.diagonal().max()


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 5), st.integers(0, 10**6))
def test_pe_ltr_exact_is_the_optimum_and_paper_keeps_the_floors(tasks, seed):
    random = np.random.default_rng(seed)
    g = random.normal(size=(tasks, 6)) + 0.5
    floors = random.uniform(0, 0.9 / tasks, tasks)
    k = torch.from_numpy(g @ g.T)
    exact, paper = pe_ltr_weights(k, floors, "exact").numpy(), pe_ltr_weights(k, floors, "paper").numpy()
    for w in (exact, paper):
        assert w.sum() == pytest.approx(1) and (w >= floors - 1e-9).all()
    value = exact @ k.numpy() @ exact
    assert value == pytest.approx(brute(k.numpy(), floors), abs=1e-9)
    assert value <= paper @ k.numpy() @ paper + 1e-9


def test_pe_ltr_agrees_with_a_general_solver():
    g = vectors(3, 5).numpy() + 0.3
    k, floors = g @ g.T, np.array([0.1, 0.2, 0.05])
    found = minimize(
        lambda w: w @ k @ w,
        np.full(3, 1 / 3),
        jac=lambda w: 2 * k @ w,
        bounds=[(c, 1) for c in floors],
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-15},
    )
    np.testing.assert_allclose(pe_ltr_weights(torch.from_numpy(k), floors, "exact").numpy(), found.x, atol=1e-6)


def test_two_steps_of_pe_ltr_are_optimal_for_two_tasks_only():
    two = gram(vectors(2, 1) + 0.4)
    torch.testing.assert_close(pe_ltr_weights(two, [0.2, 0.1], "paper"), pe_ltr_weights(two, [0.2, 0.1], "exact"))
    gaps = []
    for seed in range(20):
        k = gram(vectors(3, seed, 4) + 0.5)
        paper, exact = (pe_ltr_weights(k, [0.0, 0.0, 0.0], s) for s in ("paper", "exact"))
        gaps.append(float(paper @ k @ paper - exact @ k @ exact))
    assert min(gaps) > -1e-12 and max(gaps) > 1e-3


def test_pe_ltr_without_floors_is_mgda():
    k = gram(vectors(4, 8) + 0.5)
    torch.testing.assert_close(pe_ltr_weights(k, [0.0] * 4, "exact"), mgda_weights(k), rtol=0, atol=1e-9)


def test_nearest_point_of_the_simplex():
    np.testing.assert_allclose(nearest(np.array([0.5, 0.5, -3]), 1.0), [0.5, 0.5, 0])
    np.testing.assert_allclose(nearest(np.array([2.0, 1.0]), 0.5), [0.5, 0])
    np.testing.assert_allclose(nearest(np.array([0.3, 0.1]), 1.0), [0.6, 0.4])


# ---- nothing to solve


@pytest.mark.parametrize("solver", [PCGrad(), GradVac(3), MGDA(), PELTR([0.1, 0.2, 0.3])])
def test_an_absent_task_is_left_out_and_keeps_its_weight(solver):
    g = vectors(3, 4)
    g[1] = 0
    kept = torch.tensor([0.3, 0.4, 0.5])
    weights, fallback = solve_present(solver, gram(g), kept)
    assert not fallback and weights[1].item() == pytest.approx(0.4)
    again = GradVac(2) if isinstance(solver, GradVac) else PELTR([0.1, 0.3]) if isinstance(solver, PELTR) else solver
    torch.testing.assert_close(weights[[0, 2]], again.solve(gram(g[[0, 2]]), [0, 1], None))


@pytest.mark.parametrize(("solver", "alone", "all_three"), [(PCGrad(), 1.0, 1.0), (MGDA(), 1.0, 1 / 3)])
def test_fewer_than_two_gradients_fall_back_to_equal_weights(solver, alone, all_three):
    kept = torch.tensor([0.3, 0.4, 0.5])
    one = torch.diag(torch.tensor([0.0, 2.0, 0.0], dtype=torch.float64))
    weights, fallback = solve_present(solver, one, kept)
    assert fallback and weights.tolist() == pytest.approx([0.3, alone, 0.5])
    weights, fallback = solve_present(solver, torch.zeros(3, 3, dtype=torch.float64), kept)
    assert fallback and weights.tolist() == pytest.approx([0.3, 0.4, 0.5])
    weights, fallback = solve_present(solver, torch.full((3, 3), torch.nan), kept)
    assert fallback and weights.tolist() == pytest.approx([all_three] * 3)


def test_equal_gradients_have_weights():
    g = torch.ones(3, 4, dtype=torch.float64)
    assert mgda_weights(gram(g)).sum().item() == pytest.approx(1)
    assert pcgrad_weights(gram(g)).tolist() == [1, 1, 1]
    torch.testing.assert_close(pe_ltr_weights(gram(g), [0.1, 0.1, 0.1]).sum(), torch.tensor(1.0, dtype=torch.float64))


# ---- TorchJD, an independent implementation


@pytest.mark.parametrize("tasks", [2, 3, 5])
def test_pcgrad_and_gradvac_agree_with_torchjd(tasks):
    aggregation = pytest.importorskip("torchjd.aggregation")
    theirs = aggregation.GradVac(beta=0.01, eps=0.0).gramian_weighting
    goal = torch.zeros(tasks, tasks, dtype=torch.float64)
    for seed in range(8):
        k = gram(vectors(tasks, seed))
        torch.manual_seed(seed)
        expected = aggregation.PCGrad().gramian_weighting(k)
        found = pcgrad_weights(k, torch.Generator().manual_seed(seed))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
        torch.manual_seed(seed)
        expected = theirs(k)
        found, goal = gradvac_weights(k, goal, 0.01, torch.Generator().manual_seed(seed))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
