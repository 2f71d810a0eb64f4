"""Where a stage is not there, the error names the command that makes it in this very folder."""

from __future__ import annotations

import shlex

import pandas as pd
import pytest
import torch
from conftest import tiny_config, tiny_frame

from autodim import artifact
from autodim.config import load_config
from autodim.errors import NoSafeCut, RunError
from autodim.stages.advice import advice
from autodim.stages.export import read_allocation, write_weights
from autodim.stages.online import continue_run
from autodim.stages.predict import open_run, predict
from autodim.stages.report import next_commands
from autodim.stages.search import search
from autodim.training.progress import Progress

QUIET, CPU = Progress("quiet"), torch.device("cpu")
SHORT = ("pretrain.epochs=1", "retrain.epochs=1")


@pytest.fixture(scope="module")
def run(tiny_log, tmp_path_factory):
    return search(tiny_config(tiny_log, tmp_path_factory.mktemp("advice") / "my run", *SHORT), QUIET)


def test_a_wide_model_is_made_by_widen_and_not_by_a_search(run):
    with pytest.raises(RunError, match=r"autodim widen '.*my run'") as told:
        predict(run.folder, tiny_frame(3), CPU, "wide")
    assert "search" not in str(told.value)


def test_a_stage_of_the_road_is_made_by_its_command_in_this_folder(tiny_log, tmp_path):
    folder = tmp_path / "run"
    search(tiny_config(tiny_log, folder, *SHORT), QUIET, ("pretrain",))
    for which, stage in (("small", "retrain"), ("cut", "prune")):
        with pytest.raises(RunError, match=f"autodim {stage} {folder}`, or `autodim search {folder}` for all"):
            predict(folder, tiny_frame(3), CPU, which)
    with pytest.raises(RunError, match=f"no widths yet; run `autodim prune {folder}`"):
        read_allocation(folder)


def test_what_was_not_continued_is_made_by_continue(run, tmp_path):
    tiny_frame(600, seed=3).to_csv(tmp_path / "new.csv", index=False)
    config = load_config(run.folder / "config.yaml", [f"run={tmp_path / 'next'}"]).config
    continue_run(run.folder, config, tmp_path / "new.csv", "uniform", QUIET)
    with pytest.raises(RunError) as told:
        predict(tmp_path / "next", pd.read_csv(tmp_path / "new.csv"), CPU)
    words = shlex.split(str(told.value).split("`")[1])
    assert words[:3] == ["autodim", "continue", str(run.folder.resolve())]
    assert words[-2:] == ["--model", "small"] and str(tmp_path / "next") in words
    with pytest.raises(RunError, match=r"a continuation has none"):
        read_allocation(tmp_path / "next")


def test_a_refreshed_run_goes_on_with_retrain_or_is_scored_as_it_is(run, tmp_path):
    (tmp_path / "config.yaml").write_text("")
    artifact.write_json(tmp_path / "refresh.json", {})
    assert (
        advice(tmp_path, "retrain") == f"run `autodim retrain {tmp_path}`, or use the live model as it is: --model cut"
    )


def test_after_no_safe_cut_another_search_of_the_same_is_not_advised(tiny_log, tmp_path):
    wish = ("prune.budget.max_loss_increase=1e-9", "retrain.mode=none", "prune.strategy=magnitude")
    with pytest.raises(NoSafeCut):
        search(tiny_config(tiny_log, tmp_path / "run", *SHORT, *wish), QUIET)
    with pytest.raises(RunError, match=r"no cut that keeps the quality.*prune.budget.share"):
        predict(tmp_path / "run", tiny_frame(3), CPU)
    commands = " ".join(one.command for one in next_commands(open_run(tmp_path / "run")))
    assert "--max-loss-increase 2e-09" in commands and "prune.budget.share" not in commands  # that would pretrain again


def test_widths_that_no_model_is_cut_to(tiny_log, tmp_path):
    uniform = ("prune.strategy=uniform", "retrain.mode=cold")
    search(tiny_config(tiny_log, tmp_path / "run", *SHORT, *uniform), QUIET, ("pretrain", "prune"))
    with pytest.raises(RunError, match=r"trained natively.*--model small"):
        predict(tmp_path / "run", tiny_frame(3), CPU, "cut")
    with pytest.raises(RunError, match=r"trained natively.*autodim retrain"):
        write_weights(tmp_path / "run", tmp_path / "w.safetensors")


def test_a_model_never_reads_the_ids_of_another_encoding(tiny_log, tmp_path):
    folder, rows = tmp_path / "run", tiny_frame(30)
    config = tiny_config(tiny_log, folder, *SHORT)
    search(config, QUIET)
    before = predict(folder, rows, CPU)
    search(tiny_config(tiny_log, folder, *SHORT, "data.split.seed=5"), QUIET, ("prepare",))
    with pytest.raises(RunError, match=r"another encoding of the log.*autodim search"):
        predict(folder, rows, CPU)
    with pytest.raises(RunError, match="another encoding of the log"):
        search(tiny_config(tiny_log, folder, *SHORT, "data.split.seed=5"), QUIET, ("prune",))
    search(config, QUIET, ("prepare",))  # the earlier log is taken back
    pd.testing.assert_frame_equal(predict(folder, rows, CPU), before)
