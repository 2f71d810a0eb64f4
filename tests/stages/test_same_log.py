"""A log that was copied, moved or written anew with the same bytes is the same log: nothing is made again."""

import os
import shutil

import pytest
from conftest import tiny_config

from autodim.stages.plan import plan
from autodim.stages.prepare import open_log
from autodim.stages.search import search
from autodim.training.progress import Progress

SAME = "the same to the last byte"


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
