"""The road to a served model: budgets in bytes in serving, rounded tables in the export, measured as served."""

import shutil

import numpy as np
import pytest
import torch
from conftest import tiny_config, tiny_frame
from safetensors.torch import load_file

from autodim import artifact
from autodim.config.schema import BudgetConfig, QualityConfig
from autodim.dimension.allocation import Allocation
from autodim.embedding.quantise import decode, encode
from autodim.errors import BudgetError, ConfigError, RunError
from autodim.export.weights import load
from autodim.report import numbers
from autodim.report.rows import results_rows, tiles
from autodim.stages import quality
from autodim.stages.compare import Grid, Place, compare
from autodim.stages.differences import differences
from autodim.stages.export import write_weights
from autodim.stages.model_folder import load_network
from autodim.stages.predict import predict
from autodim.stages.prepare import open_log, prepare
from autodim.stages.prune import check_feasible
from autodim.stages.report import report_data
from autodim.stages.search import search
from autodim.stages.serve import round_tables
from autodim.stages.session import Session
from autodim.stages.sweep import sweep
from autodim.training.bounds import lost
from autodim.training.evaluation import predict as predict_logits
from autodim.training.metrics import evaluate_logits
from autodim.training.progress import Progress

QUIET, CPU = Progress("quiet"), torch.device("cpu")
EMBEDDING = ("tables/", "scales/", "offsets/", "projections/", "biases/")


@pytest.fixture(scope="module")
def run(tiny_log, tmp_path_factory):
    settings = ("prune.strategy=spectral", "prune.precision=auto", "prune.budget={unit: serving_bytes, share: 0.2}")
    return search(tiny_config(tiny_log, tmp_path_factory.mktemp("runs") / "run", *settings), QUIET)


def allocation_of(run):
    return Allocation.from_yaml((run.folder / "widths.yaml").read_text())


def test_what_was_paid_is_what_the_file_holds(run, tmp_path):
    found = allocation_of(run)
    assert found.unit == "serving_bytes" and found.served_rounded and found.spent <= found.asked
    write_weights(run.folder, tmp_path / "w.safetensors")
    tensors = load_file(tmp_path / "w.safetensors")
    assert sum(t.nbytes for n, t in tensors.items() if n.startswith(EMBEDDING)) == found.spent
    kinds = {"fp32": torch.float32, "fp16": torch.float16, "int8": torch.uint8}
    for e in found.entries:
        if e.width:
            assert tensors[f"tables/{e.table}"].dtype == kinds[e.precision]


def test_the_served_model_is_measured_and_shown(run):
    models = artifact.read_json(run.folder / "evaluate" / "results.json")["models"]
    assert [m["name"] for m in models] == ["uniform", "cut", "retrained", "served"]
    retrained, served = models[2:]
    assert served["serve_bytes"] == allocation_of(run).spent < retrained["serve_bytes"]
    assert served["test"][0]["logloss"] != retrained["test"][0]["logloss"]  # it was really rounded
    assert abs(served["test"][0]["auc"] - retrained["test"][0]["auc"]) < 0.01
    html = (run.folder / "report.html").read_text()
    assert "served in" in html and "exact allocation" in html


def test_predicting_with_the_exported_file_is_the_served_model(run, tmp_path):
    frame = tiny_frame(200, seed=5)
    plain = predict(run.folder, frame, CPU)
    served = predict(run.folder, frame, CPU, "served")
    assert not np.array_equal(plain, served) and np.allclose(plain, served, atol=0.05)
    write_weights(run.folder, tmp_path / "w.safetensors")
    assert np.array_equal(predict(run.folder, frame, CPU, weights=tmp_path / "w.safetensors"), served)
    write_weights(run.folder, tmp_path / "full.safetensors", "fp32")
    assert np.array_equal(predict(run.folder, frame, CPU, weights=tmp_path / "full.safetensors"), plain)


def test_all_tables_in_int8_on_request(run, tmp_path):
    write_weights(run.folder, tmp_path / "w.safetensors", "int8")
    tensors, about = load(tmp_path / "w.safetensors")
    stored = load_file(tmp_path / "w.safetensors")
    network, _ = load_network(run.stage("retrain") / "model")
    assert about["format"] == 2
    for e in allocation_of(run).entries:
        if e.width:
            weight = network.tables.read(e.table)["weight"].numpy()
            codes, scales, offsets = encode(weight)
            assert np.array_equal(stored[f"tables/{e.table}"], codes)
            assert np.array_equal(tensors[f"tables/{e.table}"], decode(codes, scales, offsets))


def test_what_does_not_fit_is_refused(run, tmp_path):
    frame = tiny_frame(5)
    (tmp_path / "x.safetensors").write_bytes(b"no")
    with pytest.raises(RunError, match="cannot be read as exported weights"):
        predict(run.folder, frame, CPU, weights=tmp_path / "x.safetensors")
    with pytest.raises(ConfigError, match="leave that out"):
        predict(run.folder, frame, CPU, "cut", weights=tmp_path / "x.safetensors")


def test_constants_that_do_not_fit_are_found_before_any_training(run):
    """A spectral cut keeps D numbers for every slot; a budget below them is refused by the first check."""
    log, prune = open_log(run), run.config.prune
    constants = len(log.slots) * run.config.model.width * 4
    for amount in (constants - 1, constants):
        wish = prune.model_copy(
            update={"budget": BudgetConfig(unit="serving_bytes", amount=amount), "precision": "int8"}
        )
        config = run.config.model_copy(update={"prune": wish})
        if amount == constants:
            with pytest.raises(BudgetError, match="affords no dimension"):
                check_feasible(config, log)
            continue
        with pytest.raises(BudgetError, match=f"at least {constants} serving_bytes") as error:
            check_feasible(config, log)
        assert "the constant that a spectral cut keeps" in str(error.value)


def test_uniform_int8_walks_the_road(run, tmp_path):
    config = run.config.model_copy(
        update={"prune": run.config.prune.model_copy(update={"strategy": "uniform_int8", "precision": "fp32"})}
    )
    shutil.copytree(run.folder, tmp_path / "run")
    other = search(config.model_copy(update={"run": str(tmp_path / "run")}), QUIET)
    models = artifact.read_json(other.folder / "evaluate" / "results.json")["models"]
    found = allocation_of(other)
    assert models[-1]["name"] == "served" and models[-1]["precision"] == "int8"
    assert models[-1]["serve_bytes"] == found.spent <= found.asked


# ---- whatever is judged is the served model


def changed(run, folder, **prune):
    """The run's config in another folder, with other settings of the cut."""
    config = run.config.model_copy(update={"prune": run.config.prune.model_copy(update=prune)})
    return config.model_copy(update={"run": str(folder)})


def figures(folder, log, part="test"):
    """Metrics of a finished retrain's model in float32 and with its tables rounded."""
    found = []
    for served in (False, True):
        network, _ = load_network(folder / "model")
        if served:
            round_tables(network, Allocation.from_yaml((folder / "widths.yaml").read_text()))
        found.append(predict_logits(network, log.part(part), CPU))
    return found


@pytest.mark.parametrize("measure", ["cut", "retrained"])
def test_a_budget_by_quality_judges_the_served_model(run, tmp_path, measure, monkeypatch):
    monkeypatch.setitem(quality.FINE, "retrained", 4.0)  # two retrains are enough here
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    budget = BudgetConfig(unit="serving_bytes", max_loss_increase=0.15)
    asked = QualityConfig(measure=measure)
    wish = changed(run, folder, precision="int8", budget=budget, quality=asked)
    if measure == "cut":
        wish = wish.model_copy(update={"retrain": wish.retrain.model_copy(update={"mode": "none"})})
    done = search(wish, QUIET)
    log = prepare(done, Session(CPU, QUIET))
    record = artifact.read_json(done.stage("prune") / "quality.json")
    chosen = next(one for one in record["tries"] if one["spent"] == record["spent"])
    uncut = load_network(done.stage("pretrain") / "model")[0]
    results = artifact.read_json(done.folder / "evaluate" / "results.json")
    for part, told in (("confirm", chosen["confirmed"]), ("test", results["quality"]["lost"])):
        base, labels = predict_logits(uncut, log.part(part), CPU), log.part(part).labels
        plain, served = (
            [x.to_json() for x in lost(s, base, labels)] for s in figures(done.stage("retrain"), log, part)
        )
        assert told == served and told != plain


def test_a_sweep_s_retrained_points_are_served_models(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    wish = changed(run, folder, precision="int8")
    rows = sweep(wish, ["spectral"], [0.15], QUIET, modes=("warm",))
    log = open_log(run)
    labels = log.part("test").labels
    plain, served = (
        evaluate_logits(scores, labels)[0].logloss
        for scores in figures(folder / "sweep" / "spectral-0.15-warm" / "retrain", log)
    )
    assert rows[1].logloss == served != plain


def test_a_comparison_is_one_of_served_models(run, tmp_path):
    place = Place(tmp_path / "cmp", run.folder)
    grid = Grid(("uniform_int8", "spectral"), (0.25,), (0,))
    config = changed(run, tmp_path / "cmp", precision="fp32", strategy="uniform_int8")
    rows = compare(config, place, grid, QUIET)
    log = open_log(run)
    labels = log.part("test").labels
    folder = tmp_path / "cmp" / "seed-0" / "uniform_int8-0.25"
    plain, served = figures(folder / "retrain", log)
    row = next(r for r in rows if r["strategy"] == "uniform_int8")
    assert row["logloss"] == evaluate_logits(served, labels)[0].logloss != evaluate_logits(plain, labels)[0].logloss
    found = differences(config, place, grid, rows, "uncut", QUIET)
    uncut = predict_logits(load_network(run.stage("pretrain") / "model")[0], log.part("test"), CPU)
    one = next(d for d in found[0.25] if d.name == "uniform_int8")
    assert one.loss.mean == lost(served, uncut, labels)[0].loss != lost(plain, uncut, labels)[0].loss


def test_the_report_is_about_the_served_model(run):
    data = report_data(run)
    models = {m["name"]: m for m in artifact.read_json(run.folder / "evaluate" / "results.json")["models"]}
    assert data.product.auc == models["served"]["test"][0]["auc"] and data.product.role == "served"
    assert [r.ours for r in results_rows(data.results)] == [False, False, False, True]
    memory = next(t for t in tiles(data) if t.name == "Memory with optimizer")
    assert memory.value == numbers.size(models["retrained"]["train_bytes"])
