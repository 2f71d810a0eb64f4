"""The road to a served model: budgets in bytes in serving, rounded tables in the export, measured as served."""

import shutil

import numpy as np
import pytest
import torch
from conftest import tiny_config, tiny_frame
from safetensors.torch import load_file

from autodim import artifact
from autodim.config.schema import BudgetConfig
from autodim.dimension.allocation import Allocation
from autodim.embedding.quantise import decode, encode
from autodim.errors import BudgetError, ConfigError, RunError
from autodim.export.weights import load
from autodim.stages.export import write_weights
from autodim.stages.model_folder import load_network
from autodim.stages.predict import predict
from autodim.stages.prepare import open_log
from autodim.stages.prune import check_feasible
from autodim.stages.search import search
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
