"""A log that was copied, moved or written anew with the same bytes is the same log, and nothing is made again; another
log or another model is never mixed with what a folder has."""

import os
import shutil

import pytest
from conftest import tiny_config, tiny_frame

from autodim import artifact
from autodim.config.reader import load_config
from autodim.errors import ConfigError
from autodim.stages.online import continue_run
from autodim.stages.plan import plan
from autodim.stages.prepare import open_log
from autodim.stages.search import search
from autodim.stages.sweep import sweep
from autodim.stages.verify import damages
from autodim.training.progress import Progress

SAME = "every byte is the same"


def content(folder):
    """Every file's sum, but for the lock."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "lock"]
    return {str(p.relative_to(folder)): artifact.sha256(p) for p in files}


@pytest.fixture
def searched(tiny_log, tmp_path):
    log = tmp_path / "clicks.csv"
    shutil.copy(tiny_log, log)
    config = tiny_config(log, tmp_path / "run", "pretrain.epochs=1", "retrain.epochs=1")
    return log, config, search(config, Progress("quiet"))


def test_a_copied_log_is_known(searched, tmp_path, capsys):
    log, config, run = searched
    encoded = (run.stage("prepare") / "log" / "train" / "ids.bin").stat().st_mtime_ns
    os.utime(log, (1, 1))
    assert plan(config)["rows"]["train"] == len(open_log(run).part("train"))
    search(config, Progress("lines"))
    said = capsys.readouterr().err
    assert SAME in said and said.count("up to date") == 5
    assert (run.stage("prepare") / "log" / "train" / "ids.bin").stat().st_mtime_ns == encoded
    assert not (run.folder / "previous").exists()
    search(config, Progress("lines"))  # it was noted: the log is not read again
    assert SAME not in capsys.readouterr().err
    elsewhere = tmp_path / "moved"
    elsewhere.mkdir()
    log.rename(elsewhere / log.name)
    data = config.data.model_copy(update={"path": str(elsewhere / log.name)})
    search(config.model_copy(update={"data": data}), Progress("lines"))
    said = capsys.readouterr().err
    assert SAME in said and said.count("up to date") == 5


def test_one_other_byte_in_the_middle_is_another_log(searched, capsys):
    log, config, _ = searched
    text = bytearray(log.read_bytes())
    middle = text.index(b"\n", len(text) // 2)
    text[middle - 1 : middle] = b"1" if text[middle - 1 : middle] == b"0" else b"0"  # a label
    log.write_bytes(bytes(text))
    search(config, Progress("lines"))
    said = capsys.readouterr().err
    assert SAME not in said and "prepare: what was there is kept in" in said


def test_another_setting_is_another_encoding(searched, capsys):
    log, config, _ = searched
    os.utime(log, (1, 1))
    data = config.data.model_copy(update={"min_count": 3})
    search(config.model_copy(update={"data": data}), Progress("lines"))
    said = capsys.readouterr().err
    assert SAME not in said and "prepare: what was there is kept in" in said
    search(config.model_copy(update={"data": data}), Progress("lines"))  # nothing of the other encoding is in the way
    assert capsys.readouterr().err.count("up to date") == 5


@pytest.mark.parametrize("stage", ["prune", "retrain", "evaluate"])
@pytest.mark.parametrize(("section", "change"), [("data", {"min_count": 3}), ("model", {"hidden": (4,)})])
def test_the_middle_of_the_road_refuses_another_log_or_model_and_leaves_all_as_it_was(searched, stage, section, change):
    _, config, run = searched
    if (stage, section) == ("evaluate", "model"):
        return  # it describes no model
    before = content(run.folder)
    other = getattr(config, section).model_copy(update=change)
    with pytest.raises(ConfigError, match="autodim search"):
        search(config.model_copy(update={section: other}), Progress("quiet"), (stage,))
    assert content(run.folder) == before


def test_a_cold_retrain_may_have_another_dense_part(searched):
    _, config, run = searched
    model = config.model.model_copy(update={"hidden": (4,)})
    cold = config.retrain.model_copy(update={"mode": "cold"})
    search(config.model_copy(update={"model": model, "retrain": cold}), Progress("quiet"), ("retrain", "evaluate"))
    assert artifact.read_json(run.stage("retrain") / "model" / "model.json")["model"]["hidden"] == [4]


def test_a_sweep_with_other_settings_leaves_a_whole_folder(searched):
    _, config, run = searched
    assert not damages(run.folder)[1]
    budget = config.prune.budget.model_copy(update={"share": 0.3})
    other = config.model_copy(update={"prune": config.prune.model_copy(update={"budget": budget})})
    sweep(other, ("spectral",), (0.5,), Progress("quiet"))
    assert not damages(run.folder)[1]
    before = content(run.folder)
    data = config.data.model_copy(update={"min_count": 3})
    with pytest.raises(ConfigError, match="serves a model"):
        sweep(other.model_copy(update={"data": data}), ("spectral",), (0.5,), Progress("quiet"))
    assert content(run.folder) == before


def test_a_continuation_keeps_its_ids(searched, tmp_path, capsys):
    _, config, run = searched
    tiny_frame(600, seed=9).to_csv(tmp_path / "new.csv", index=False)
    out = tmp_path / "next"
    target = config.model_copy(update={"run": str(out)})
    continue_run(run.folder, target, tmp_path / "new.csv", "small", Progress("quiet"))
    ids = content(out / "data")
    search(load_config(out / "config.yaml").config, Progress("quiet"), ("evaluate",))
    assert content(out / "data") == ids and not (out / "previous").exists()
