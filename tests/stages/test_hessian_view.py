"""The Hessian view: slots left out are named, figures are those of the exact blocks, two runs side by side."""

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from conftest import tiny_config
from typer.testing import CliRunner

from autodim.cli import app
from autodim.errors import RunError
from autodim.optim.hessian import slot_curvature
from autodim.report.curvature import binned, panel
from autodim.stages.hessian import open_trained, same_log, short_names, table
from autodim.stages.search import search
from autodim.training.progress import Progress


@pytest.fixture(scope="module")
def runs(tiny_log, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hessian")
    extra = {"adam": [], "helen": ["pretrain.optimizer.perturb={name: helen}"]}
    for name, more in extra.items():
        config = tiny_config(tiny_log, folder / name, "pretrain.epochs=2", *more)
        search(config, Progress("quiet"), ("prepare", "pretrain"), report=False)
    return folder / "adam", folder / "helen"


def test_two_runs_side_by_side(runs, tmp_path):
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["hessian", *map(str, runs), "--rows", "700", "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)
    assert list(shown["left_out"]) == ["tags"] and "multi-valued" in shown["left_out"]["tags"]
    saved = json.loads((out / "hessian.json").read_text())
    assert [(e["run"], e["slot"]) for e in saved["slots"]] == [
        (r, s) for r in ("adam", "helen") for s in ("user", "item", "place")
    ]
    assert saved["rows"] == 700
    for entry in saved["slots"]:
        assert sum(entry["counts"]) == 700 and len(entry["top"]) == entry["ids"]
    model = open_trained(runs[0], "uniform", torch.device("cpu"))
    part = model.log.part("train")
    exact = slot_curvature(model.network, [part.batch(slice(0, 700))], "item")
    item = next(e for e in saved["slots"] if (e["run"], e["slot"]) == ("adam", "item"))
    torch.testing.assert_close(torch.tensor(item["top"], dtype=torch.float64), exact.top[exact.counts > 0])
    page = (out / "hessian.html").read_text()
    assert page.count("<svg") == 3 and "Left out: tags" in page and "http" not in page


def test_frequent_ids_are_the_most_frequent_tenth():
    entry = {"run": "r", "slot": "s", "ids": 20, "top_frequent": 4.0, "top_rare": 1.0}
    entry |= dict.fromkeys(("spearman_count", "pearson_count", "spearman_gradient", "pearson_gradient"))
    head, body = table([entry, {**entry, "run": "q", "top_frequent": 1.0}])
    assert [row[head.index("to first")] for row in body] == ["", "0.25"]


def test_bins_are_powers_of_two_and_means():
    assert binned([1, 2, 3, 9], [1.0, 2.0, 4.0, -1.0]) == [(1.0, 1.0, 1), (2.5, 3.0, 2)]


def test_a_panel_is_xml_with_a_point_a_bin_and_run():
    text = panel("a <slot>", [("x", [1, 5, 100], [0.1, 0.2, 3.0]), ("y", [1, 5], [0.5, math.exp(1)])])
    root = ElementTree.fromstring(text)
    assert len([e for e in root.iter() if e.tag == "circle"]) == 5
    assert panel("flat", [("x", [1, 2], [0.0, -1.0])]) == ""


def test_runs_of_other_logs_and_missing_models_are_refused(runs, tiny_log, tmp_path):
    config = tiny_config(tiny_log, tmp_path / "other", "data.split.seed=5", "pretrain.epochs=1")
    search(config, Progress("quiet"), ("prepare", "pretrain"), report=False)
    cpu = torch.device("cpu")
    with pytest.raises(RunError, match="different logs"):
        same_log(open_trained(runs[0], "uniform", cpu), open_trained(tmp_path / "other", "uniform", cpu))
    with pytest.raises(RunError, match="no small model"):
        open_trained(runs[0], "small", cpu)


def test_names_tell_folders_apart():
    assert short_names([Path("/a/adam/seed-0"), Path("/a/helen/seed-0")]) == ["adam", "helen"]
    assert short_names([Path("/a/b")]) == ["b"]
