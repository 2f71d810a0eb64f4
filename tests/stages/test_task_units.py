"""Labels that some rows lack, tasks that weigh, logs that take turns: what is predicted has the measured one's unit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from autodim.config.reader import load_config
from autodim.config.schema import BudgetConfig
from autodim.stages import refit as refitting
from autodim.stages.cutter import Cutter
from autodim.stages.edits import Edit, edited_losses
from autodim.stages.importance import importance
from autodim.stages.prepare import prepare
from autodim.stages.pretrain import pretrain
from autodim.stages.run import Run
from autodim.stages.score import score
from autodim.stages.session import Session
from autodim.stages.sweep import Measure
from autodim.training.evaluation import evaluate
from autodim.training.progress import Progress

WIDTH = 6
CPU = Session(torch.device("cpu"), Progress("quiet"))


def frame(rows: int = 2500) -> pd.DataFrame:
    """Everybody may click; what is bought is known of every tenth row."""
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 30, rows), rng.integers(0, 20, rows)
    click = rng.random(rows) < 0.15 + 0.35 * (user % 2) + 0.35 * (item % 2)
    buy = np.where(rng.random(rows) < 0.2, 1 - click, click).astype(object)
    buy[rng.random(rows) < 0.9] = None
    ids = {"user": [f"u{u}" for u in user], "item": [f"i{i}" for i in item]}
    return pd.DataFrame(ids | {"click": click.astype(int), "buy": buy})


def alone(folder: Path) -> dict[str, Any]:
    frame().to_csv(folder / "log.csv", index=False)
    return {"path": str(folder / "log.csv"), "labels": ["buy"]}


def together(folder: Path) -> dict[str, Any]:
    return alone(folder) | {"labels": ["click", "buy"]}


def apart(folder: Path) -> dict[str, Any]:
    """Two logs: 1,900 rows with clicks, 600 with purchases known of a tenth."""
    found = frame()
    found[:1900].drop(columns="buy").to_csv(folder / "shown.csv", index=False)
    found[1900:].drop(columns="click").to_csv(folder / "sold.csv", index=False)
    logs = [{"path": str(folder / f"{n}.csv"), "labels": [t]} for n, t in (("shown", "click"), ("sold", "buy"))]
    return {"logs": logs, "labels": ["click", "buy"]}


CASES = {
    "alone": (alone, {}),
    "alone, some rows": (alone, {"rows": 300}),
    "together": (together, {}),
    "weighed, some rows": (together, {"rows": 300, "tasks": {"weights": {"buy": 5}}}),
    "apart": (apart, {"tasks": {"weights": {"buy": 2}}}),
}


@pytest.fixture(scope="module", params=list(CASES))
def cutter(request, tmp_path_factory) -> Cutter:
    data, prune = CASES[request.param]
    folder = tmp_path_factory.mktemp("units")
    section = data(folder)
    several = len(section["labels"]) > 1
    model = {"name": "mmoe", "sharing": {"experts": 2, "expert_hidden": [8], "towers": [4]}}
    training = {
        "epochs": 4,
        "batch": 64,
        "evals_per_epoch": 1,
        "optimizer": {"tables": {"lr": 0.05}, "dense": {"lr": 0.01}},
    }
    config = load_config(
        {
            "run": str(folder / "run"),
            "threads": 1,
            "data": section | {"slots": ["user", "item"], "split": {"by": "random", "valid": 0.4, "test": 0.1}},
            "model": {"width": WIDTH, "init_std": 0.3} | (model if several else {"name": "dnn", "hidden": [8]}),
            "pretrain": training,
            "prune": {"budget": {"share": 0.5}, "strategy": "spectral"} | prune,
        },
        source="test",
    ).config
    run = Run(folder / "run", config)
    log = prepare(run, CPU)
    pretrain(run, log, CPU)
    return Cutter(run, log, CPU)


def test_the_first_order_of_what_is_predicted_is_that_of_what_is_measured(cutter):
    """All vectors a little moved: the moments' slope against that of the measured losses."""
    log, settings, step = cutter.log, cutter.run.config.prune, 1e-4  # few rows cross a kink of the ReLU
    factors = importance(cutter.run.config, log)
    generator = torch.Generator().manual_seed(0)
    matrix, constant = torch.randn(WIDTH, WIDTH, generator=generator), torch.randn(WIDTH, generator=generator) / 2
    moves = [(torch.eye(WIDTH) + s * matrix, s * constant) for s in (step, -step)]
    edits: list[Edit] = [dict.fromkeys(range(len(log.slots)), move) for move in moves]
    rows = log.part("valid")
    losses = edited_losses(cutter.network, rows, edits, CPU, "test", settings.rows, log.tasks, factors)
    measured = float(losses[0] - losses[1])
    up, down = (
        sum(m.change(a.double().numpy(), c.double().numpy()) for m in moments(cutter).values()) for a, c in moves
    )
    assert abs(measured) > 2e-6
    assert up - down == pytest.approx(measured, rel=0.01)


def moments(cutter):
    return cutter.statistics.extra["spectral"]


def test_scores_are_those_of_the_same_loss(cutter):
    """SSEDS's signed scores a row are the diagonal of the moments: v times the gradient of the mean losses."""
    for slot, one in moments(cutter).items():
        np.testing.assert_allclose(
            cutter.statistics.scores[slot] / cutter.statistics.rows, one.saliency, rtol=1e-9, atol=1e-12
        )


def test_a_sweep_measures_the_sum_that_is_predicted(cutter):
    """By the metrics of each task, weighed."""
    log, factors = cutter.log, importance(cutter.run.config, cutter.log)
    rows = log.part("valid")
    row = Measure(cutter, rows).cut("spectral", 0.5)
    made = cutter.cut("spectral", cutter.run.config.prune.budget)
    both = [evaluate(network, rows, torch.device("cpu"), log.tasks) for network in (made.network, cutter.network)]
    expected = sum(factors[t.name] * (a.loss - b.loss) for t, a, b in zip(log.tasks, *both, strict=True))
    assert row.measured == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_a_refit_descends_the_loss_that_judges_it(cutter, monkeypatch):
    """Without the uncut model in the labels the right side of its equations is minus the slope of the judge's loss, in
    chunks of which some have no label of a task."""
    monkeypatch.setattr(refitting, "MIX", 0.0)
    monkeypatch.setattr(refitting, "CHUNK", 15)
    log, rows, network = cutter.log, cutter.log.part("valid"), cutter.cut("spectral", BudgetConfig(share=0.5)).network
    index = torch.arange(3, 603)
    count = refitting._Count(log.tasks, rows, importance(cutter.run.config, log))
    _, pull = refitting._equations(network, cutter.network, rows, CPU, index, count)
    numbers = network.tables.dense_parameters()
    before = [p.detach().clone() for p in numbers]
    found = []
    for step in (5e-4, -5e-4):
        refitting._move(numbers, before, step * pull / pull.norm())
        found.append(refitting._loss(network, rows, CPU, index, count))
    slope = (found[0] - found[1]) / 1e-3
    assert slope * len(index) == pytest.approx(-float(pull.norm()), rel=0.02)


def test_blocks_of_a_table_share_its_gradient(cutter):
    """Each row of a one-hot slot is held by one block, so that the blocks' gradients add up, of each task too."""
    spans = {"user": ((0, 9), (9, cutter.network.tables.read("user")["weight"].shape[0]))}
    rows = cutter.log.part("valid")
    found = score(cutter.network, rows, CPU, spans=spans, tasks=cutter.log.tasks)
    several = len(cutter.log.tasks) > 1
    for before in ("", *(f"task{t}/" for t in range(2) if several)):
        whole = found[f"{before}spectral.gradients/user"]
        parts = [found[f"{before}block.gradients/user[{a}:{b}]"] for a, b in spans["user"]]
        torch.testing.assert_close(sum(parts), whole, rtol=1e-4, atol=1e-4)
        assert whole.abs().max() > 0.1


def test_what_a_task_counts_is_its_weight_and_its_share_of_the_turns(cutter):
    config, log = cutter.run.config, cutter.log
    weights = config.prune.tasks.weights
    logs = log.logs("train")
    batches = [-(-(one.stop - one.start) // 64) for one in logs]
    for how in ("by_size", "equal", "never"):
        found = importance(
            config.model_copy(update={"pretrain": config.pretrain.model_copy(update={"alternate": how})}), log
        )
        shares = {"by_size": [n / sum(batches) for n in batches], "equal": [0.5, 0.5], "never": [1.0, 1.0]}[how]
        expected = {t.name: weights.get(t.name, 1.0) * (shares[k] if logs else 1.0) for k, t in enumerate(log.tasks)}
        assert found == pytest.approx(expected)
