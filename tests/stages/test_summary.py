"""`autodim show RUN`: what a run is and came to, in a screen."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import yaml
from conftest import tiny_config, tiny_frame
from typer.testing import CliRunner

from autodim import artifact
from autodim.cli import app
from autodim.config import load_config
from autodim.errors import NoSafeCut
from autodim.report import numbers
from autodim.stages.search import search
from autodim.stages.summary import summary, summary_lines
from autodim.training.progress import Progress

QUIET = Progress("quiet")
SHORT = ("pretrain.epochs=1", "retrain.epochs=1")


@pytest.fixture(scope="module")
def run(tiny_log, tmp_path_factory):
    return search(tiny_config(tiny_log, tmp_path_factory.mktemp("summary") / "run", *SHORT), QUIET)


def shown(*words):
    done = CliRunner().invoke(app, ["show", *map(str, words)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_finished_run_is_summed_up_in_a_screen(run, tiny_log):
    text = shown(run.folder)
    lines = text.splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 130
    assert "finished" in lines[0] and f"{tiny_log}: train " in text
    found = summary(run.folder, run.config)
    assert sum(found["rows"].values()) == 3000 and found["next"] is None
    budget = found["budget"]
    assert f"{budget['spent']:,} of {budget['uniform']:,} params" in text
    for model in artifact.read_json(run.folder / "evaluate" / "results.json")["models"]:
        line = next(one for one in lines if one.split()[:1] == [model["name"]])
        assert numbers.ratio(model["test"][0]["auc"]) in line and f"{model['params']:,}" in line
    assert all(str(run.folder / name) in text for name in ("report.html", "widths.yaml", "retrain/model"))


def test_full_origins_and_json_have_everything(run):
    assert load_config(shown(run.folder, "--full")).config == run.config
    assert "retrain.mode: " in shown(run.folder, "--origins")
    assert yaml.safe_load(shown(run.folder, "seed=7"))["seed"] == 7  # overrides are looked at in the config
    found = json.loads(shown(run.folder, "--json"))
    assert found["config"]["seed"] == 0 and found["summary"] == summary(run.folder, run.config)


def test_an_unfinished_run_says_what_is_next(tiny_log, tmp_path):
    config = tiny_config(tiny_log, tmp_path / "run", *SHORT)
    search(config, QUIET, ("pretrain",))
    text = shown(tmp_path / "run")
    assert "prepare, pretrain done" in text and f"autodim search {tmp_path / 'run'}" in text.replace(
        "\n" + " " * 13, " "
    )
    assert "budget" not in text


def test_no_safe_cut_is_told_in_the_summary(tiny_log, tmp_path):
    folder = tmp_path / "run"
    search(tiny_config(tiny_log, folder, *SHORT), QUIET)
    wish = ("prune.budget.max_loss_increase=1e-9", "retrain.mode=none", "prune.strategy=magnitude")
    with pytest.raises(NoSafeCut):
        search(tiny_config(tiny_log, folder, *SHORT, *wish), QUIET)
    text = " ".join(shown(folder).split())
    assert "found no safe cut; the small model here is the earlier search's: spectral" in text


def test_many_slots_and_labels_stay_within_a_screen(run):
    found = summary(run.folder, run.config)
    found["budget"]["widths"] = {f"a rather long slot name {k}": k % 8 for k in range(300)}
    row = found["results"][0]
    labels = [f"label {k}" for k in range(30)]
    found["results"] = [{**row, "model": m, "label": n} for m in ("uniform", "cut", "retrained") for n in labels]
    lines = summary_lines(found)
    assert len(lines) <= 40 and any("276 more slots" in line for line in lines) and "26 more labels" in str(lines)


def test_no_name_speaks_to_the_terminal(run):
    found = summary(run.folder, run.config)
    assert not any("\x1b" in line for line in summary_lines({**found, "labels": ["\x1b[2Jclick"]}))


def test_it_does_not_load_torch(run):
    code = "import sys; from autodim.cli import app\ntry: app()\nexcept SystemExit: assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, "show", str(run.folder)], check=True, capture_output=True)


def test_a_model_of_noise_is_told_as_such_everywhere(run, tmp_path, capsys):
    """Labels that depend on nothing: the log, the report and the screen say that widths mean nothing."""
    frame = tiny_frame(3000)
    frame["click"] = np.random.default_rng(1).permutation(frame["click"].to_numpy())
    frame.to_csv(tmp_path / "noise.csv", index=False)
    noise = search(tiny_config(tmp_path / "noise.csv", tmp_path / "run", *SHORT), Progress("plain"))
    said = "the uncut model predicts no better than chance (AUC "
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith(f"evaluate: {said}") for line in lines)
    assert any(line.startswith(f"prune: {said}") and "validation rows" in line for line in lines)
    page = " ".join((noise.folder / "report.html").read_text().split())
    assert said[1:] in page and "Says nothing here." in page and 'class="pill good"' not in page
    assert said in " ".join(shown(noise.folder).split())
    assert "chance" not in shown(run.folder) and "chance" not in (run.folder / "report.html").read_text()
