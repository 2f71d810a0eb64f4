"""After a search by quality that found no safe cut, a folder says whose model it goes on serving."""

from __future__ import annotations

import pytest
from conftest import tiny_config
from typer.testing import CliRunner

from autodim.cli import app
from autodim.errors import NoSafeCut
from autodim.stages import no_cut
from autodim.stages.predict import open_run
from autodim.stages.report import report_data
from autodim.stages.search import search
from autodim.training.progress import Progress

QUIET = Progress("quiet")
SHORT = ("pretrain.epochs=2", "retrain.epochs=1")
IN_VAIN = ("prune.budget.max_loss_increase=1e-9", "retrain.mode=none", "prune.strategy=magnitude")


def said(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.stderr


def test_the_folder_says_which_search_it_serves(tiny_log, tmp_path):
    folder = tmp_path / "run"
    by_size = tiny_config(tiny_log, folder, *SHORT)
    search(by_size, QUIET)
    asking = (["predict", folder, tiny_log], ["export", folder], ["verify", folder])
    assert not any("no safe cut" in said(*words) for words in asking)
    with pytest.raises(NoSafeCut, match=r"no cut is safe(.|\n)*earlier search's: spectral, [\d,]+ of"):
        search(tiny_config(tiny_log, folder, *SHORT, *IN_VAIN), QUIET)
    wanted = "asked log loss at most 1e-09 above the uncut model's) found no safe cut"
    for words in asking:
        told = said(*words)
        assert wanted in told and "(asked at most" in told and "finished 20" in told, words
    assert "no safe cut" not in said("predict", folder, tiny_log, "--model", "uniform")  # that is the latest search's
    assert any(wanted in note for note in report_data(open_run(folder)).notes)
    search(by_size, QUIET)  # the same model again, but asked for
    assert no_cut.words(open_run(folder)) is None
    assert not any("no safe cut" in said(*words) for words in asking)


def test_nothing_is_said_where_nothing_was_there_before(tiny_log, tmp_path):
    with pytest.raises(NoSafeCut) as told:
        search(tiny_config(tiny_log, tmp_path / "run", *SHORT, *IN_VAIN), QUIET)
    assert "earlier" not in str(told.value) and no_cut.words(open_run(tmp_path / "run")) is None
