"""Windows over time: which rows train and which judge, periods in words, the road with windows, resume to the bit."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny_config, tiny_frame

from autodim.config import load_config
from autodim.config.check import check
from autodim.data.batches import Order
from autodim.errors import ConfigError, RunError
from autodim.stages.prepare import open_log
from autodim.stages.search import search
from autodim.training.course import Epochs, Windows, cut_windows, period_length
from autodim.training.interrupt import Interrupted
from autodim.training.progress import Progress
from autodim.training.seeds import derive

QUIET = Progress("quiet")


def times(seed=0, rows=200, span=10.0):
    return torch.rand(rows, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * span


def test_windows_slide_and_the_next_period_judges():
    t = torch.arange(10.0, dtype=torch.float64).flip(0)  # newest first: row r is of time 9 - r
    found = cut_windows(t, period=1.0, size=3, stride=2)
    trained = [sorted((9 - w.rows).tolist()) for w in found]
    assert trained == [[0, 1, 2], [2, 3, 4], [4, 5, 6], [6, 7, 8], [7, 8, 9]]
    judged = [None if w.following is None else sorted((9 - w.following).tolist()) for w in found]
    assert judged == [[3], [5], [7], [9], None]


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (3, 1), (4, 3), (10, 1)])
def test_no_window_sees_a_row_of_its_judge_or_of_later(size, stride):
    t = times()
    found = cut_windows(t, 1.0, size, stride)
    assert found[-1].following is None and float(t.max()) == float(t[found[-1].rows].max())
    for window in found:
        assert len(window.rows) == len(set(window.rows.tolist()))
        if window.following is not None:
            assert t[window.rows].max() < t[window.following].min()
    if size >= stride:  # nothing is skipped
        assert {r for w in found for r in w.rows.tolist()} == set(range(len(t)))


def test_periods_without_rows_are_passed_over():
    t = torch.tensor([0.0, 0.5, 1.2, 7.0, 7.5, 8.2], dtype=torch.float64)
    found = cut_windows(t, 1.0, 2, 1)
    assert all(len(w.rows) for w in found)
    assert sorted(found[0].rows.tolist()) == [0, 1, 2] and sorted(found[0].following.tolist()) == [3, 4]


def test_too_few_periods_are_refused():
    with pytest.raises(ConfigError, match="span only 10"):
        cut_windows(times(), 1.0, 11, 1)


def test_each_step_of_a_window_reads_its_rows_once_an_epoch():
    windows = cut_windows(times(), 2.0, 2, 1)
    course = Windows(windows, batch=16, epochs=2, seed=5)
    read: dict[int, list[int]] = {}
    evaluated = []
    for position in range(course.total):
        epoch, step = course.at(position)
        read.setdefault(epoch, []).extend(course.rows(epoch, step).tolist())
        if course.evaluates(epoch, step):
            evaluated.append((epoch, position))
    assert course.epochs == 2 * len(windows) == len(read)
    for epoch, rows in read.items():
        assert sorted(rows) == sorted(windows[epoch // 2].rows.tolist())
        assert rows != windows[epoch // 2].rows.tolist()  # shuffled
    assert [e for e, _ in evaluated] == [1, 3, 5, 7][: len(windows)] and evaluated[-1][1] == course.total - 1
    assert read[0] != read[1]  # and anew in each epoch


def test_epochs_are_those_of_the_order():
    course, order = Epochs(100, 16, 3, 2, seed=4), Order(100, 16, 4)
    assert course.total == 3 * order.steps_per_epoch
    assert torch.equal(course.rows(2, 1), order.rows(2, 1))
    assert [p for p in range(course.total) if course.evaluates(*course.at(p))] == [3, 6, 10, 13, 17, 20]


def test_periods_in_words():
    assert period_length("1d", "time") == 86_400e6 and period_length("30min", "number") == 1800
    assert period_length("2.5", "number") == 2.5 and period_length("1 w", "number") == 7 * 86_400
    for text, kind in (("5", "time"), ("0", "number"), ("1.2.3", "number"), ("x", "time")):
        with pytest.raises(ConfigError, match=r"windows\.period"):
            period_length(text, kind)


@pytest.fixture(scope="module")
def timed_log(tmp_path_factory):
    frame = tiny_frame(2400)
    rng = np.random.default_rng(0)
    frame["when"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.permutation(2400) * 12, "m")  # 20 days
    path = tmp_path_factory.mktemp("timed") / "clicks.csv"
    frame.to_csv(path, index=False)
    return path


def timed_config(log, run, *overrides):
    split = "data.split={by: time, column: when, valid: 0.2, test: 0.1}"
    text = tiny_config(log, run).model_dump(mode="json")
    for stage in ("pretrain", "retrain"):
        for name in ("evals_per_epoch", "patience", "plateau"):
            del text[stage][name]
        text[stage]["epochs"] = 1
    windows = [f"{s}.windows={{period: 2d, size: 3, stride: 2}}" for s in ("pretrain", "retrain")]
    return load_config(json.dumps(text, indent=1), [split, *windows, *overrides], "timed").config


def test_the_road_with_windows_keeps_the_last_weights_and_resumes_to_the_bit(timed_log, tmp_path):
    run = search(timed_config(timed_log, tmp_path / "run"), QUIET)
    log = open_log(run)
    assert log.manifest.time == "time"
    train = log.times("train")
    assert len(train) == log.manifest.parts["train"].rows and train.max() < log.times("valid").min()
    history = json.loads((run.stage("pretrain") / "history.json").read_text())
    windows = cut_windows(train, period_length("2d", "time"), 3, 2)
    assert len(history) == len(windows) == 3
    about = json.loads((run.stage("pretrain") / "model" / "model.json").read_text())
    assert about["best"]["step"] == history[-1]["step"] == about["steps"]
    assert "marks the evaluation whose weights are kept" in (tmp_path / "run" / "report.html").read_text()

    class Soon:
        def __init__(self, left):
            self.left = left

        @property
        def signum(self):
            self.left -= 1
            return 15 if self.left < 0 else None

    from autodim.embedding.layout import uniform_layout
    from autodim.stages.pretrain import build_log_network, train_network
    from autodim.stages.session import Session

    config, seed = run.config, derive(run.config.seed, "pretrain")
    for left in (5, 1, 11, 1000):
        network = build_log_network(config.model, uniform_layout(log.slots, log.tables, 8), log, seed)
        session = Session(torch.device("cpu"), QUIET, Soon(left))
        try:
            train_network(network, log, config.pretrain, seed, tmp_path / "pretrain", session)
        except Interrupted:
            continue
    from autodim.stages.model_folder import load_network

    expected = load_network(run.stage("pretrain") / "model")[0].state()
    assert all(torch.equal(tensor, network.state()[name]) for name, tensor in expected.items())


def test_windows_need_a_split_by_time_and_settings_without_effect_are_refused(timed_log, tiny_log, tmp_path):
    with pytest.raises(ConfigError, match="expected time"):
        tiny_config(tiny_log, tmp_path, "pretrain.windows={period: 1d, size: 2}")
    with pytest.raises(ConfigError, match=r"pretrain\.patience"):
        timed_config(timed_log, tmp_path, "pretrain.patience=3")
    with pytest.raises(ConfigError, match=r"watch\.factor"):
        tiny_config(tiny_log, tmp_path, "pretrain.watch={policy: warn, factor: 0.1}")
    assert not check(timed_config(timed_log, tmp_path))


def test_a_log_without_times_says_so(tiny_log, tmp_path):
    run = search(tiny_config(tiny_log, tmp_path / "run"), QUIET, ("prepare",), report=False)
    with pytest.raises(RunError, match=r"split\.by"):
        open_log(run).times("train")
