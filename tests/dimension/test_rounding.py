"""Width against precision: the predicted price of rounding is the measured one; a free choice never predicts worse."""

from __future__ import annotations

import numpy as np
import pytest

from autodim.config.schema import BudgetConfig, PruneConfig
from autodim.dimension.allocation import Allocation, read_widths
from autodim.dimension.budget import resolve
from autodim.dimension.factor import factorise
from autodim.dimension.moments import Moments
from autodim.dimension.problem import make_problem
from autodim.dimension.rounding import scored_losses, spectral_losses
from autodim.dimension.statistics import Statistics
from autodim.dimension.strategies import STRATEGIES
from autodim.embedding.layout import Slot, Table
from autodim.embedding.precision import PRECISIONS
from autodim.embedding.quantise import rounded
from autodim.errors import ConfigError, RunError

D = 8
ROWS = {"user": 3000, "item": 700, "kind": 5}
SLOTS, TABLES = [Slot(n, n) for n in ROWS], [Table(n, r) for n, r in ROWS.items()]


def moments(seed):
    """A slot with vectors of falling spread and a curvature of its own, as a trained one has."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(D, D)) * 0.9 ** np.arange(D)
    vectors = rng.normal(size=(4000, D)) @ mix + rng.normal(size=D)
    root = rng.normal(size=(D, D)) * 0.3
    mean, zero = vectors.mean(0), np.zeros((D, D))
    return vectors, Moments(4000, mean, np.zeros(D), np.cov(vectors.T, bias=True), zero, root @ root.T)


VECTORS, MOMENTS = {}, {}
for number, name in enumerate(ROWS):
    VECTORS[name], MOMENTS[name] = moments(number)
STATISTICS = Statistics(
    scores={n: np.diag(m.covariance) * np.diag(m.curvature) for n, m in MOMENTS.items()},
    extra={"spectral": MOMENTS, "rows": VECTORS},
)


def problem(share=0.1, **settings):
    config = PruneConfig(budget=BudgetConfig(unit="serving_bytes", share=share), **settings)
    found = make_problem(SLOTS, TABLES, D, config)
    return found, resolve(config.budget, found.cost, found.uniform)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("width", [2, 5, D])
def test_the_predicted_price_of_rounding_is_the_measured_one(precision, width):
    """1/2 E[e H e^T] over the rows, with e what rounding really moves a vector by; in lambdas, twice that."""
    asked, _ = problem(precision="auto")
    factors = {n: factorise({n: m}) for n, m in MOMENTS.items()}
    losses = spectral_losses(asked, STATISTICS, factors, 1.0)
    for name, f in factors.items():
        whole = width == D
        table = VECTORS[name] if whole else VECTORS[name] @ f.encoder(width)
        error = rounded(table.astype(np.float32), precision).astype(np.float64) - table
        moved = error if whole else error @ f.decoder(width)
        measured = np.einsum("nd,de,ne->n", moved, MOMENTS[name].curvature, moved).mean()
        assert losses[name][precision][width] == pytest.approx(measured, rel=0.15)
        assert losses[name]["fp32"][width] == 0 and losses[name][precision][0] == 0


def test_a_score_loses_the_share_of_the_variance_that_rounding_takes():
    asked, _ = problem(precision="auto")
    order = {n: np.arange(D)[::-1] for n in ROWS}
    losses = scored_losses(asked, STATISTICS, STATISTICS.scores, order)
    z = VECTORS["user"][:, order["user"]][:, :3]
    error = rounded(z.astype(np.float32), "int8") - z
    expected = (STATISTICS.scores["user"][::-1][:3] * np.square(error).mean(0) / z.var(0)).sum()
    assert losses["user"]["int8"][3] == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("strategy", ["spectral", "sseds"])
@pytest.mark.parametrize("share", [0.03, 0.08, 0.2, 0.5])
def test_choosing_the_precision_never_predicts_a_higher_loss_than_one_for_all(strategy, share):
    asked, budget = problem(share, precision="auto", strategy=strategy)
    free = STRATEGIES[strategy](asked, budget, STATISTICS)
    assert free.spent <= free.asked and free.rule == "exact"
    if strategy == "spectral":
        factors = {n: factorise({n: m}) for n, m in MOMENTS.items()}
        losses, worths = spectral_losses(asked, STATISTICS, factors, 1.0), {n: f.lambdas for n, f in factors.items()}
    else:
        order = {n: np.argsort(-s, kind="stable") for n, s in STATISTICS.scores.items()}
        losses = scored_losses(asked, STATISTICS, STATISTICS.scores, order)
        worths = {n: STATISTICS.scores[n][order[n]] for n in ROWS}

    def gain(allocation):
        return sum(worths[e.table][: e.width].sum() - losses[e.table][e.precision][e.width] for e in allocation.entries)

    for precision in PRECISIONS:
        one = STRATEGIES[strategy](*problem(share, precision=precision, strategy=strategy), STATISTICS)
        assert {e.precision for e in one.entries if e.width} <= {precision}
        assert one.asked == free.asked and one.spent <= one.asked
        assert gain(free) >= gain(one) * (1 - 1e-9)


def test_small_budgets_go_to_fewer_bits_and_large_ones_to_exact_numbers():
    small = STRATEGIES["spectral"](*problem(0.3, precision="auto"), STATISTICS)
    assert small.widths["user"] > 4 and {e.precision for e in small.entries if e.rows > 100} == {"int8"}
    large = STRATEGIES["spectral"](*problem(1.0, precision="auto"), STATISTICS)
    assert all(e.width == D and e.precision == "fp32" for e in large.entries)


def test_uniform_int8_is_the_largest_width_that_fits():
    asked, budget = problem(0.25, strategy="uniform_int8")
    found = STRATEGIES["uniform_int8"](asked, budget, None)
    ids = sum(ROWS.values())
    assert found.widths == dict.fromkeys(ROWS, 4)  # 25 % of 8 x 4 bytes a row: 4 numbers and 4 bytes
    assert found.spent == ids * 8 <= budget.amount == ids * 8
    assert {e.precision for e in found.entries} == {"int8"} and found.common == 4


def test_widths_files_keep_precisions(tmp_path):
    asked, budget = problem(0.3, precision="auto")
    found = STRATEGIES["spectral"](asked, budget, STATISTICS)
    assert len({e.precision for e in found.entries}) > 1
    text = found.to_yaml()
    assert Allocation.from_yaml(text).to_yaml() == text and "rule: exact" in text
    (tmp_path / "w.yaml").write_text(text)
    again = read_widths(tmp_path / "w.yaml", SLOTS, TABLES, D, asked.cost)
    assert again.spent == found.spent and again.to_yaml() == text
    (tmp_path / "w.yaml").write_text(text.replace("precision: int8", "precision: int4"))
    with pytest.raises(ConfigError, match=r"found 'int4', expected one of fp32, fp16, int8"):
        read_widths(tmp_path / "w.yaml", SLOTS, TABLES, D, asked.cost)


def test_without_sampled_rows_nothing_is_guessed():
    asked, budget = problem(precision="auto")
    with pytest.raises(RunError, match="needs sampled rows"):
        STRATEGIES["sseds"](asked, budget, Statistics(scores=STATISTICS.scores))
