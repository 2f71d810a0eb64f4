"""Sweeps with a retrain: resumable, in the report, priced; comparisons of ways of retraining with paired intervals."""

import json

import pytest
import torch
from conftest import tiny_config

from autodim import artifact
from autodim.errors import ConfigError
from autodim.stages.compare import Grid, Place, cell_run, compare, seed_run
from autodim.stages.differences import differences
from autodim.stages.model_folder import load_network
from autodim.stages.prepare import open_log
from autodim.stages.run import Run
from autodim.stages.search import search
from autodim.stages.sweep import sweep
from autodim.stages.tables import write_tables
from autodim.training.bounds import half_width
from autodim.training.evaluation import predict
from autodim.training.metrics import auc_difference
from autodim.training.progress import Progress

QUIET = Progress("quiet")


@pytest.fixture(scope="module")
def run(tiny_log, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep") / "run"
    return search(
        tiny_config(tiny_log, folder, "pretrain.epochs=2", "retrain.epochs=1", "prune.strategy=spectral"), QUIET
    )


def test_a_sweep_with_retrains_is_resumable_and_is_in_the_report(run):
    wanted = {"strategies": ["spectral", "uniform"], "shares": [0.6, 0.3], "modes": ("warm", "distill")}
    rows = sweep(run.config, progress=QUIET, **wanted)
    assert [(r.strategy, r.mode) for r in rows[1::2]] == [
        ("spectral", "warm"), ("spectral", "distill"), ("uniform", "warm"), ("uniform", "distill"),
    ]  # fmt: skip
    before = {p: p.stat().st_mtime_ns for p in run.folder.rglob("*.safetensors")}
    assert sweep(run.config, progress=QUIET, **wanted) == rows
    assert before == {p: p.stat().st_mtime_ns for p in run.folder.rglob("*.safetensors")}
    assert all(r.predicted is None for r in rows) and rows[1].auc != rows[3].auc
    page = (run.folder / "report.html").read_text()
    assert 'id="sweep"' in page and "spectral, distill" in page
    log = open_log(run).part("test")
    point, _ = load_network(run.folder / "sweep" / "spectral-0.6-warm" / "retrain" / "model")
    uncut, _ = load_network(run.stage("pretrain") / "model")
    scores = [predict(n, log, torch.device("cpu"))[:, 0] for n in (point, uncut)]
    change, error = auc_difference(*scores, log.labels[:, 0])
    assert rows[1].auc_change == pytest.approx(change) and rows[1].auc_half == pytest.approx(half_width(error))


def test_a_sweep_of_another_model_is_not_in_the_report(run, tmp_path):
    from autodim.stages.sweep_files import read_sweep

    assert read_sweep(run.folder / "sweep", "another hash") is None and read_sweep(tmp_path, "x") is None


def test_what_a_sweep_costs(run):
    rows = sweep(run.config, ["spectral", "sseds"], [0.6, 0.3], QUIET, cost=True)
    cost = artifact.read_json(run.folder / "sweep" / "cost.json")
    assert cost["cuts"] == len(rows) - 1 == 4 and cost["rows"] == len(open_log(run).part("test"))
    assert cost["seconds"] == pytest.approx(sum(cost[k] for k in ("cut_seconds", "evaluate_seconds", "score_seconds")))
    assert cost["of_an_epoch"] == pytest.approx(cost["seconds"] / cost["epoch_seconds"]) and cost["score_rows"] == 300
    assert all(r.loss_half > 0 for r in rows[1:])
    with pytest.raises(ConfigError, match="spectral_uniform"):
        sweep(run.config, ["uniform"], [0.5], QUIET, modes=("none", "warm"))


def test_ways_of_retraining_are_compared_with_paired_intervals(run):
    grid = Grid(("spectral", "sseds", "uniform"), (0.5,), (0, 1), ("none", "warm"))
    place = Place(run.folder / "compare", run.folder)
    rows = compare(run.config, place, grid, QUIET)
    assert len(rows) == 2 * (1 + 5)  # the native uniform width has no cut of its own
    found = differences(run.config, place, grid, rows, "sseds", QUIET)
    names = {one.name for one in found[0.5]}
    assert names == {"uncut", "spectral, none", "spectral, warm", "sseds, warm", "uniform, warm"}
    one = next(d for d in found[0.5] if d.name == "spectral, warm")
    base = Run(place.folder, run.config, {"prepare": place.run / "data"})
    log = open_log(base).part("test")
    parent = seed_run(base, place, 1)
    cells = [cell_run(parent, "spectral", 0.5, "warm"), cell_run(parent, "sseds", 0.5, "none")]
    scores = [predict(load_network(c.stage("retrain") / "model")[0], log, torch.device("cpu"))[:, 0] for c in cells]
    change, error = auc_difference(*scores, log.labels[:, 0])
    saved = json.loads((place.folder / "differences.json").read_text())
    mine = next(d for d in saved if d["model"] == "spectral, warm")["seeds"][1]
    assert mine["auc"] == pytest.approx(change) and mine["auc_error"] == pytest.approx(error)
    assert one.auc.n == 2 and one.auc.mean == pytest.approx(
        sum(s["auc"] for s in next(d for d in saved if d["model"] == "spectral, warm")["seeds"]) / 2
    )
    told = write_tables(place.folder, rows, found).read_text()
    assert "Differences to sseds, none, paired by seed" in told and "| spectral, warm |" in told
    kept = {p: p.stat().st_mtime_ns for p in place.folder.rglob("*.safetensors")}
    assert differences(run.config, place, grid, rows, "sseds", QUIET) == found
    assert kept == {p: p.stat().st_mtime_ns for p in place.folder.rglob("*.safetensors")}
    with pytest.raises(ConfigError, match="--reference: found 'sseeds'; did you mean"):
        differences(run.config, place, grid, rows, "sseeds", QUIET)
