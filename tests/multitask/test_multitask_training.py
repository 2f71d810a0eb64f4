"""Several tasks through the step and the loop: absent tasks, penalties, regressions, restarts to the bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from autodim.config.schema import ModelConfig, TrainConfig
from autodim.data.columns import Columns
from autodim.data.tasks import Task
from autodim.embedding.layout import Slot, Table, uniform_layout
from autodim.optim.sam import SAM
from autodim.stages.model_folder import build_network
from autodim.stages.pretrain import base_logits
from autodim.stages.score import task_terms
from autodim.training.distill import mixed_labels
from autodim.training.evaluation import evaluate
from autodim.training.gates import gate_use
from autodim.training.history import Point
from autodim.training.interrupt import Interrupted, StopFlag
from autodim.training.loop import Training
from autodim.training.losses import predictions, task_losses
from autodim.training.metrics import evaluate_logits
from autodim.training.network import Network
from autodim.training.progress import Progress
from autodim.training.step import Step

CPU = torch.device("cpu")
NAN = math.nan
MIXED = (Task("click"), Task("price", "regression", "main", 10.0, 4.0))


def network(name: str = "snr", tasks: int = 2, **sharing: object) -> Network:
    config = ModelConfig.model_validate(
        {"name": name, "width": 4, "sharing": {"experts": 3, "expert_hidden": (6,), "towers": (4,)} | sharing}
    )
    layout = uniform_layout([Slot("a", "a"), Slot("b", "b")], [Table("a", 9), Table("b", 7)], 4)
    return build_network(config, layout, 2, tasks, seed=3)


def log(rows: int = 600, regression: bool = False) -> Columns:
    rng = np.random.default_rng(1)
    ids = np.stack([rng.integers(0, 9, rows), rng.integers(0, 7, rows)], 1)
    numeric = rng.normal(size=(rows, 2)).astype(np.float32)
    click = (rng.random(rows) < np.where(ids[:, 0] % 3 == ids[:, 1] % 3, 0.8, 0.2)).astype(np.float32)
    other = 10 + 4 * (numeric[:, 0] + 0.3 * rng.normal(size=rows)) if regression else (ids[:, 1] > 3).astype(float)
    return Columns.from_arrays(ids, numeric, np.stack([click, other], 1).astype(np.float32), one_hot_slots=("a", "b"))


def adam(net: Network, **options: object) -> Step:
    dense = torch.optim.Adam([p for p in net.dense_parameters() if p.requires_grad], lr=1e-2)
    return Step(net, [torch.optim.SGD(net.tables.table_parameters(), lr=0.5), dense], **options)  # type: ignore[arg-type]


def test_losses_are_means_over_each_sample_space():
    logits = torch.tensor([[0.3, 1.0], [-0.2, -0.5], [1.0, 0.25]], dtype=torch.float64)
    labels = torch.tensor([[1.0, 18.0], [NAN, 6.0], [0.0, NAN]])
    bce = [math.log(1 + math.exp(-0.3)), math.log(1 + math.exp(1.0))]
    squares = [(1.0 - 2.0) ** 2, (-0.5 + 1.0) ** 2]
    expected = [sum(bce) / 2, sum(squares) / 2]
    assert task_losses(logits, labels, True, MIXED).tolist() == pytest.approx(expected, rel=1e-6)
    assert task_losses(logits[:1], labels[:1], False, MIXED).tolist() == pytest.approx([bce[0], 1.0], rel=1e-6)
    torch.testing.assert_close(predictions(logits, MIXED)[:, 1], logits[:, 1] * 4 + 10)
    torch.testing.assert_close(predictions(logits, MIXED)[:, 0], logits[:, 0].sigmoid())


@pytest.mark.parametrize("tasks", [(), MIXED])
def test_a_batch_without_a_task_moves_nothing_of_its_own(tasks):
    """Loss 0 and not NaN; finite weights everywhere; the absent task's tower and gate stay as they are."""
    net = network("mmoe")
    step = adam(net, missing=True, tasks=tasks)
    columns = log(64)
    columns.labels[:, 1] = NAN
    own = net.model.own_parameters()  # type: ignore[operator]
    before = [[p.detach().clone() for p in group] for group in own]
    losses = step(columns.batch(slice(0, 64), CPU), 0)
    assert float(losses[1]) == 0.0 and float(losses[0]) > 0
    assert all(p.isfinite().all() for p in net.parameters())
    assert all(torch.equal(p, b) for p, b in zip(own[1], before[1], strict=True))
    assert all(not torch.equal(p, b) for p, b in zip(own[0], before[0], strict=True) if p.numel())


def test_the_penalty_enters_the_update_and_no_loss():
    """One SGD step on the connections: minus lr times (gradient of the losses + gradient of the penalty)."""
    results = {}
    for strength in (0.0, 0.5):
        net = network("snr", penalty=strength)
        dense = torch.optim.SGD([p for p in net.dense_parameters() if p.requires_grad], lr=1.0)
        losses = Step(net, [torch.optim.SGD(net.tables.table_parameters(), lr=1.0), dense])(
            log(64).batch(slice(0, 64), CPU), 7
        )
        results[strength] = (losses, {k: v.clone() for k, v in net.state_dict().items()})
    start = network("snr", penalty=0.5)
    assert torch.equal(results[0.0][0], results[0.5][0])
    penalty = start.model.penalty()  # type: ignore[operator]
    named = {k: p for k, p in start.named_parameters() if k.endswith("log_alpha")}
    for (key, _), gradient in zip(named.items(), torch.autograd.grad(penalty, list(named.values())), strict=True):
        assert (gradient > 0).all()
        torch.testing.assert_close(results[0.0][1][key] - results[0.5][1][key], gradient)
    others = [k for k in results[0.0][1] if k not in named]
    assert all(torch.equal(results[0.0][1][k], results[0.5][1][k]) for k in others)


def test_a_strong_penalty_shuts_connections_and_evaluation_agrees():
    net = network("snr", penalty=20.0, levels=1)
    step = adam(net)
    for k in range(400):
        step(log(64).batch(slice(0, 64), CPU), k)
    used = gate_use(net, log(), CPU, [Task("a"), Task("b")])
    assert all(w == 0.0 for gate in used for w in gate.mean)
    assert "is shut" in used[0].warning


def test_both_passes_of_a_perturbed_step_route_alike():
    """With a radius of nothing SAM is the plain step, draws of the connections included."""
    found = []
    for perturbation in (None, SAM(1e-30)):
        net = network("snr", penalty=0.1)
        step = adam(net, perturbation=perturbation)
        for k in range(3):
            step(log(128).batch(slice(0, 128), CPU), k)
        found.append(net.state())
    for key, value in found[0].items():
        torch.testing.assert_close(found[1][key], value, rtol=1e-6, atol=1e-7)


class Stop(StopFlag):
    """Asks to stop after a number of looks."""

    def __init__(self, looks: int):
        super().__init__()
        self.looks = looks

    @property
    def signum(self) -> int | None:
        self.looks -= 1
        return 2 if self.looks < 0 else None

    @signum.setter
    def signum(self, value: int | None) -> None:
        pass


@pytest.mark.parametrize(("name", "tasks"), [("snr", ()), ("snr", MIXED), ("ple", ())])
def test_a_restart_goes_on_to_the_bit(name, tasks, tmp_path):
    config = TrainConfig(batch=100, epochs=3, evals_per_epoch=2, patience=9)
    rows = log(600, regression=bool(tasks))

    def training(folder) -> Training:
        net = network(name)
        return Training(net, adam(net, tasks=tasks), (rows, rows), config, 5, folder)

    straight = training(None)
    expected = straight.run(Progress("quiet"), "x")
    while True:
        again = training(tmp_path / "c")
        try:
            result = again.run(Progress("quiet"), "x", Stop(5))
            break
        except Interrupted:
            continue
    assert result.points == expected.points
    assert [Point.from_json(p.to_json()) for p in result.points] == list(result.points)
    for key, value in straight.network.state().items():
        assert torch.equal(value, again.network.state()[key]), key


def test_regression_metrics_are_in_the_unit_of_the_label():
    logits = torch.tensor([[0.0, 1.0], [0.0, -1.0], [0.0, 0.5], [0.0, 9.0]])
    labels = torch.tensor([[1.0, 12.0], [0.0, 6.0], [1.0, 15.0], [0.0, NAN]])
    click, price = evaluate_logits(logits, labels, MIXED)
    assert click.auc == 0.5 and "rmse" not in click.to_json()
    predicted, truth = np.array([14.0, 6.0, 12.0]), np.array([12.0, 6.0, 15.0])
    misses = predicted - truth
    assert price.rows == 3
    assert price.rmse == pytest.approx(np.sqrt((misses**2).mean()))
    assert price.mae == pytest.approx(np.abs(misses).mean())
    assert price.r2 == price.score == pytest.approx(1 - (misses**2).sum() / ((truth - truth.mean()) ** 2).sum())
    assert price.loss == pytest.approx(float(task_losses(logits, labels, True, MIXED)[1]))
    assert price.to_json()["auc"] is None
    same = evaluate_logits(logits[:1], labels[:1], MIXED)[1]
    assert math.isnan(same.r2) and same.score == -2.0  # labels that do not vary: the error decides
    assert evaluate_logits(logits[3:], labels[3:], MIXED)[1].rows == 0


def test_a_regression_as_the_main_task_stops_the_training():
    rows = log(2000, regression=True)
    rows.labels[:] = rows.labels.flip(1)
    tasks = (Task("price", "regression", "main", 10.0, float(rows.labels[:, 0].std())), Task("click"))
    net = network("mmoe")
    config = TrainConfig(batch=200, epochs=12, evals_per_epoch=1, patience=3)
    result = Training(net, adam(net, tasks=tasks), (rows, rows), config, 1).run(Progress("quiet"), "x")
    assert math.isnan(result.best.valid_auc)
    assert result.best.score == max(p.score for p in result.points) > 0.8
    assert evaluate(net, rows, CPU, tasks)[0].r2 == pytest.approx(result.best.score)


@pytest.mark.parametrize("select_by", ["first", "mean"])
def test_the_score_is_that_of_the_first_or_the_mean_of_the_main_tasks(select_by):
    rows = log(400)
    rows = Columns.from_arrays(
        rows.ids.numpy(), rows.numeric.numpy(), torch.cat([rows.labels, rows.labels[:, :1]], 1).numpy(),
        one_hot_slots=("a", "b"),
    )  # fmt: skip
    tasks = (Task("a"), Task("b"), Task("c", role="auxiliary"))
    net = network("mmoe", tasks=3)
    config = TrainConfig(batch=200, epochs=1, select_by=select_by)
    point = Training(net, adam(net, tasks=tasks), (rows, rows), config, 1).run(Progress("quiet"), "x").points[0]
    aucs = [point.tasks[name]["auc"] for name in "abc"]
    assert point.score == pytest.approx(aucs[0] if select_by == "first" else (aucs[0] + aucs[1]) / 2)
    assert point.valid_auc == aucs[0]


def test_slopes_and_curvatures_of_scored_tasks_are_those_of_their_losses():
    """By autograd of the summed losses, twice."""
    logits = torch.tensor([[0.3, 1.0], [-0.2, -0.5], [1.0, 0.25]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1.0, 18.0], [NAN, 6.0], [0.0, NAN]])
    slope, weight = task_terms(logits, labels, MIXED, "gauss_newton")

    def total(z: Tensor) -> Tensor:
        known = ~labels.isnan()
        cross = torch.nn.functional.binary_cross_entropy_with_logits(
            z[:, 0], labels[:, 0].nan_to_num().double(), reduction="none"
        )
        square = (z[:, 1] - (labels[:, 1].nan_to_num().double() - 10) / 4).square()
        return (cross * known[:, 0]).sum() + (square * known[:, 1]).sum()

    torch.testing.assert_close(slope.double(), torch.autograd.functional.jacobian(total, logits.detach()))
    hessian = torch.autograd.functional.hessian(total, logits.detach()).view(6, 6)
    torch.testing.assert_close(weight.double(), hessian.diagonal().view(3, 2))
    torch.testing.assert_close(task_terms(logits, labels, MIXED, "fisher")[1].double(), slope.double().square())


def test_a_teachers_number_mixes_into_the_label():
    labels, teacher = torch.tensor([[1.0, 18.0], [0.0, NAN]]), torch.tensor([[0.0, -1.0], [2.0, 1.0]])
    found = mixed_labels(labels, teacher, 0.5, MIXED)
    assert found[0].tolist() == [0.75, 12.0] and math.isnan(found[1, 1])


def test_gates_are_reported_with_mean_spread_and_collapse():
    net = network("mmoe")
    rows = log(300)
    names = [Task("click"), Task("buy")]
    used = gate_use(net, rows, CPU, names)
    assert [(g.task, g.level, len(g.experts), g.warning) for g in used] == [("click", 1, 3, ""), ("buy", 1, 3, "")]
    net.eval()
    vectors, _ = net.tables.lookup(rows.batch(slice(0, 300), CPU)).inputs()
    weights = net.model.gates(vectors, rows.numeric)[1].weights  # type: ignore[operator]
    assert used[1].mean == pytest.approx(weights.mean(0).tolist(), rel=1e-5)
    assert used[1].spread == pytest.approx(weights.std(0, correction=0).tolist(), rel=1e-3)
    with torch.no_grad():
        gate = net.model.gate[0]  # type: ignore[index]
        gate.slot_weight.zero_()
        gate.numeric_weight.zero_()
        gate.numeric_weight[2, 0] = 1e3
    rows.numeric[:, 0] = 1.0
    collapsed = gate_use(net, rows, CPU, names)[0]
    assert collapsed.mean == pytest.approx((0, 0, 1))
    assert "click" in collapsed.warning and "expert 3" in collapsed.warning
    assert gate_use(network("shared_bottom"), rows, CPU, names) == []


@pytest.mark.parametrize("name", ["shared_bottom", "omoe", "mmoe", "snr", "ple"])
def test_towers_begin_at_the_rates_of_their_labels(name):
    tasks = [Task("a", rate=0.25), Task("never", rate=0.0), Task("r", kind="regression", mean=7.5)]
    logits = base_logits(tasks)
    assert logits[0].item() == pytest.approx(math.log(1 / 3))
    assert logits[1].item() < -10 and logits[2].item() == 0

    model = network(name, 3).model
    model.start(logits)
    biases = [p for p in model.head() if p.ndim == 1]
    assert torch.allclose(torch.cat(biases), logits.float(), atol=1e-6)
