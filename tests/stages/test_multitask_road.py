"""The whole road with several labels of several kinds: metrics, roles, gates, predictions, tables, the API."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import autodim
from autodim import artifact
from autodim.config.reader import load_config
from autodim.data.tasks import Task
from autodim.dimension.scores import spearman
from autodim.stages.compare import Grid, Place, compare
from autodim.stages.edits import Edit, edited_aucs, edited_losses
from autodim.stages.export import write_weights
from autodim.stages.model_folder import load_network
from autodim.stages.predict import predict
from autodim.stages.prepare import open_log
from autodim.stages.score import score
from autodim.stages.search import search
from autodim.stages.session import Session
from autodim.stages.sweep import sweep
from autodim.stages.tables import task_table, write_tables
from autodim.training.evaluation import evaluate
from autodim.training.losses import row_losses, task_losses
from autodim.training.progress import Progress

QUIET = Progress("quiet")
CPU = torch.device("cpu")
RATES = {"tables": {"lr": 0.03}, "dense": {"lr": 0.01}}
TRAIN = {"epochs": 4, "batch": 64, "evals_per_epoch": 1, "optimizer": RATES}


def frame(rows: int = 1600) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 30, rows), rng.integers(0, 20, rows)
    click = rng.random(rows) < 0.15 + 0.35 * (user % 2) + 0.35 * (item % 2)
    return pd.DataFrame(
        {
            "user": [f"u{u}" for u in user],
            "item": [f"i{i}" for i in item],
            "age": rng.normal(size=rows),
            "click": click.astype(int),
            "buy": (click & (rng.random(rows) < 0.2 + 0.4 * (item % 2))).astype(int),
            "price": 100 + 20 * (item % 5) + rng.normal(size=rows),
        }
    )


def config(folder: Path, labels: list[object], model: dict[str, object], **more: object):
    path = folder / "log.csv"
    if not path.is_file():
        frame().to_csv(path, index=False)
    return load_config(
        {
            "run": str(folder / "run"), "threads": 1,
            "data": {
                "path": str(path), "labels": labels, "slots": ["user", "item", {"name": "age", "kind": "value"}],
                "split": {"valid": 0.2, "test": 0.2},
            },
            "model": {"width": 6, "init_std": 0.3, **model}, "pretrain": TRAIN, "retrain": TRAIN,
            "prune": {"budget": {"share": 0.5}},
        } | more,
        source="test",
    ).config  # fmt: skip


LABELS: list[object] = [
    "click",
    {"name": "price", "kind": "regression"},
    {"name": "buy", "where": "click", "role": "auxiliary"},
]
SMALL = {"experts": 3, "expert_hidden": [8], "towers": [4]}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    return search(config(folder, LABELS, {"name": "mmoe", "sharing": SMALL}), QUIET)


def test_each_label_has_its_metrics(run):
    results = artifact.read_json(run.folder / "evaluate" / "results.json")
    assert results["labels"] == ["click", "price", "buy"]
    assert [(t["kind"], t["role"]) for t in results["tasks"]] == [
        ("binary", "main"), ("regression", "main"), ("binary", "auxiliary"),
    ]  # fmt: skip
    click, price, buy = results["models"][0]["test"]
    assert click["auc"] > 0.7 and price["auc"] is None and 0.5 < price["r2"] < 1 and price["rmse"] < 30
    truth = open_log(run).part("test").labels
    assert price["rows"] == len(truth)
    assert buy["rows"] == int((truth[:, 0] == 1).sum()) < len(truth)  # its sample space
    history = artifact.read_json(run.folder / "pretrain" / "history.json")
    assert set(history[0]["tasks"]) == {"click", "price", "buy"}
    assert history[0]["score"] == history[0]["valid_auc"] == history[0]["tasks"]["click"]["auc"]
    assert "price: test RMSE" in (run.folder / "report.html").read_text()


def test_gates_stand_beside_the_metrics(run):
    gates = artifact.read_json(run.folder / "evaluate" / "gates.json")
    assert set(gates) == {"uniform", "cut", "retrained"}
    for used in gates.values():
        assert [g["task"] for g in used] == ["click", "price", "buy"]
        assert all(sum(g["mean"]) == pytest.approx(1, abs=1e-5) and len(g["spread"]) == 3 for g in used)


def test_predictions_are_the_main_tasks_in_their_units(run):
    rows = frame()
    found = predict(run.folder, rows, CPU)
    assert list(found.columns) == ["click", "price"]
    assert found["click"].between(0, 1).all()
    assert 80 < found["price"].mean() < 180
    assert spearman(found["price"].to_numpy(), rows["price"].to_numpy()) > 0.7
    everything = predict(run.folder, rows, CPU, auxiliary=True)
    assert list(everything.columns) == ["click", "price", "buy"]
    pd.testing.assert_frame_equal(everything[["click", "price"]], found)


def test_the_exported_model_leaves_out_what_is_the_auxiliary_tasks_own(run, tmp_path):
    write_weights(run.folder, tmp_path / "small.safetensors")
    names = {n.removeprefix("dense/") for n in load_file(tmp_path / "small.safetensors") if n.startswith("dense/")}
    network, _ = load_network(run.stage("retrain") / "model")
    own = {id(p) for p in network.model.own_parameters()[2]}  # type: ignore[operator]
    left_out = {n for n, p in network.model.named_parameters() if id(p) in own}
    assert left_out and names == {n for n, _ in network.model.named_parameters()} - left_out


def test_the_saliency_is_that_of_the_main_tasks(run):
    """Against a brute sum: the gradient of the summed losses of click and price by a dimension's mask."""
    log = open_log(run)
    network, _ = load_network(run.stage("pretrain") / "model")
    part = log.part("valid")
    found = score(network, part, Session(CPU), tasks=log.tasks)
    batch = part.batch(slice(0, len(part)), CPU)
    network.eval()
    lookup = network.tables.lookup(batch, learn=True)
    logits = network.logits(lookup, batch)
    click = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0], batch.labels[:, 0], reduction="sum")
    price = log.tasks[1]
    total = click + (logits[:, 1] - (batch.labels[:, 1] - price.mean) / price.std).square().sum()
    (gradient,) = torch.autograd.grad(total, [lookup.leaves[0]])
    expected = (gradient * lookup.leaves[0].detach()).sum(0).double()  # S x D
    for slot, row in zip(("user", "item"), expected, strict=True):
        torch.testing.assert_close(found[f"g/{slot}"], row, rtol=1e-3, atol=1e-3)


def test_the_api_has_a_row_a_label(run):
    metrics = autodim.open_run(run.folder).metrics
    assert list(metrics["label"]) == ["click", "price", "buy"] * 3
    assert metrics["rmse"].notna().tolist() == [False, True, False] * 3


def test_a_sweep_and_a_comparison_work_with_several_labels(run, tmp_path):
    rows = sweep(run.config, ["sseds", "mask_auc"], [0.5], QUIET)
    assert rows[2].auc is not None
    assert rows[1].auc is not None and rows[1].auc_half is not None and math.isfinite(rows[1].measured or math.nan)
    grid = Grid(("spectral",), (0.5,), (0,))
    compared = compare(run.config, Place(tmp_path / "grid", run.folder), grid, QUIET)
    assert {r["strategy"] for r in compared} == {"uncut", "spectral"}
    assert all(set(r["tasks"]) == {"click", "price", "buy"} for r in compared)
    table = task_table(compared)
    assert "| click | price | buy |" in table and table.count("\n| ") == 3
    assert table in write_tables(tmp_path / "grid", compared).read_text()


@pytest.mark.parametrize("name", ["esmm", "ple", "snr", "shared_bottom", "omoe", "single"])
def test_every_architecture_walks_the_road(name, tmp_path):
    labels = ["click", {"name": "buy", "where": "click", "outside": "zero"}]
    sharing = {k: v for k, v in SMALL.items() if not (name == "ple" and k == "experts")}
    if name in ("esmm", "single", "shared_bottom"):
        sharing = {"towers": [4]} if name == "shared_bottom" else {}
    hidden = {"hidden": [16]} if name in ("esmm", "single", "shared_bottom") else {}
    done = search(config(tmp_path, labels, {"name": name, "sharing": sharing, **hidden}), QUIET)
    results = artifact.read_json(done.folder / "evaluate" / "results.json")
    assert [m["name"] for m in results["models"]] == ["uniform", "cut", "retrained"]
    for model in results["models"][::2]:
        assert all(t["auc"] > 0.6 and t["rows"] == results["rows"]["test"] for t in model["test"]), (name, model)
    assert (done.folder / "evaluate" / "gates.json").is_file() == (name in ("ple", "snr", "omoe"))
    if name == "esmm":
        found = predict(done.folder, frame(), CPU)
        assert (found["buy"] <= found["click"]).all()  # pCTCVR = pCTR pCVR


def test_an_edited_network_is_judged_by_its_main_tasks(run):
    """A slot's mask: loss and score against the evaluation of the whole network with that slot's vectors zero."""
    log = open_log(run)
    network, _ = load_network(run.stage("pretrain") / "model")
    part = log.part("valid")
    mask: Edit = {0: (torch.zeros(6, 6), torch.zeros(6))}
    losses = edited_losses(network, part, [{}, mask], Session(CPU), "x", tasks=log.tasks)
    scores = edited_aucs(network, part, [{}, mask], Session(CPU), "x", tasks=log.tasks)
    for k in (0, 1):
        if k:
            with torch.no_grad():
                network.tables.read("user")["weight"].zero_()
        click, price, _ = evaluate(network, part, CPU, log.tasks)
        assert float(losses[k]) == pytest.approx(click.logloss + price.error, rel=1e-4)
        assert scores[k] == pytest.approx((click.auc + price.r2) / 2, rel=1e-4)


@pytest.mark.parametrize("tasks", [(), (Task("a"), Task("b", "regression", "main", 1.0, 2.0))])
def test_row_losses_are_what_a_step_averages(tasks):
    logits, labels = torch.randn(5, 2), torch.tensor([[0.0, 1], [1, 0], [math.nan, 1], [0, math.nan], [1, 1]])
    values, known = row_losses(logits, labels, tasks)
    means = [values[known[:, t], t].mean().item() for t in range(2)]
    assert task_losses(logits, labels, True, tasks).tolist() == pytest.approx(means, rel=1e-5)


def test_a_regression_as_the_only_label_walks_the_road(tmp_path):
    done = search(config(tmp_path, [{"name": "price", "kind": "regression"}], {"name": "dnn", "hidden": [16]}), QUIET)
    results = artifact.read_json(done.folder / "evaluate" / "results.json")
    assert results["models"][2]["test"][0]["r2"] > 0.5
    assert "not been evaluated" not in (done.folder / "report.html").read_text()
    rows = sweep(done.config, ["spectral"], [0.5], QUIET)
    assert rows[1].auc is None and rows[1].measured is not None
    compared = compare(done.config, Place(tmp_path / "grid", done.folder), Grid(("sseds",), (0.5,), (0,)), QUIET)
    write_tables(tmp_path / "grid", compared)
