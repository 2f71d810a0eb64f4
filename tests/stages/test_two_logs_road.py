"""The whole road over two logs with a label each, and what a log that weighs nothing may not change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from autodim import artifact
from autodim.config.reader import load_config
from autodim.config.schema import Config
from autodim.errors import ConfigError
from autodim.stages.compare import Place
from autodim.stages.model_folder import load_network
from autodim.stages.outcomes import outcomes
from autodim.stages.plan import rows_read
from autodim.stages.predict import predict
from autodim.stages.prepare import open_log, prepare
from autodim.stages.pretrain import log_course, pretrain
from autodim.stages.refresh import refresh
from autodim.stages.run import Run
from autodim.stages.score import score
from autodim.stages.search import search
from autodim.stages.session import Session
from autodim.training.progress import Progress

QUIET = Progress("quiet")
CPU = torch.device("cpu")
MMOE = {"name": "mmoe", "width": 6, "init_std": 0.3, "sharing": {"experts": 3, "expert_hidden": [8], "towers": [4]}}
RATES = {"tables": {"lr": 0.03}, "dense": {"lr": 0.01}}


def frame(rows: int, seed: int) -> pd.DataFrame:
    """Clicks and purchases that depend on the user's and the item's kind."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, 30, rows), rng.integers(0, 20, rows)
    click = rng.random(rows) < 0.15 + 0.35 * (user % 2) + 0.35 * (item % 2)
    buy = rng.random(rows) < 0.1 + 0.6 * (user % 2) * (item % 2)
    part = rng.choice(["train", "valid", "test"], rows, p=[0.6, 0.2, 0.2])
    ids = {"user": [f"u{u}" for u in user], "item": [f"i{i}" for i in item]}
    return pd.DataFrame(ids | {"click": click.astype(int), "buy": buy.astype(int), "part": part})


def config(folder: Path, name: str, data: dict, train: dict | None = None, **more: object) -> Config:
    training = {"epochs": 4, "batch": 64, "evals_per_epoch": 1, "optimizer": RATES} | (train or {})
    section = {"labels": ["click", "buy"], "slots": ["user", "item"], "split": {"by": "column", "column": "part"}}
    return load_config(
        {
            "run": str(folder / name), "threads": 1, "data": section | data, "model": MMOE,
            "pretrain": training, "retrain": training, "prune": {"budget": {"share": 0.5}},
        } | more,
        source="test",
    ).config  # fmt: skip


def two(folder: Path) -> list[dict]:
    frame(1500, 1).drop(columns="buy").to_csv(folder / "shown.csv", index=False)
    frame(500, 2).drop(columns="click").to_parquet(folder / "sold.parquet")
    return [
        {"path": str(folder / "shown.csv"), "labels": ["click"]},
        {"path": str(folder / "sold.parquet"), "labels": ["buy"]},
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("logs")
    return search(config(folder, "run", {"logs": two(folder)}), QUIET)


def test_the_road_ends_with_both_tasks_judged_on_their_own_log(run):
    results = artifact.read_json(run.folder / "evaluate" / "results.json")
    log = open_log(run)
    expected = [one.stop - one.start for one in log.logs("test")]
    for model in results["models"]:
        assert [task["rows"] for task in model["test"]] == expected
    uniform, _, small = ([task["auc"] for task in model["test"]] for model in results["models"])
    assert min(uniform) > 0.7 and min(small) > 0.6, (uniform, small)
    assert "shown.csv + sold.parquet" in (run.folder / "report.html").read_text()
    history = artifact.read_json(run.folder / "pretrain" / "history.json")
    steps = sum(-(-(one.stop - one.start) // 64) for one in log.logs("train"))
    assert history[-1]["step"] == 4 * steps


def test_new_rows_are_scored_for_both_tasks(run):
    rows = frame(50, 9)
    found = predict(run.folder, rows[["user", "item"]], CPU)
    assert list(found.columns) == ["click", "buy"] and found.notna().all(axis=None)
    same = predict(run.folder, rows, CPU)
    pd.testing.assert_frame_equal(found, same)


def test_both_halves_of_the_scored_rows_have_every_log(run):
    """As few rows as make two batches, one log after the other: the halves are of all logs nevertheless."""
    log = open_log(run)
    network, _ = load_network(run.stage("pretrain") / "model")
    valid = log.part("valid")
    first, second = (one.stop - one.start for one in log.logs("valid"))
    plain, strided = (score(network, valid, Session(CPU), tasks=log.tasks, strided=s) for s in (False, True))
    assert first > 1.5 * second
    for name in ("g/user", "g/item", "task0/g/user", "task1/g/item"):
        torch.testing.assert_close(plain[name], strided[name], rtol=1e-4, atol=1e-4)
    assert not plain["task1/half0/user"].any()  # the neighbours of the first batch are of one log
    assert all(strided[f"task{t}/half{h}/user"].abs().sum() > 0 for t in (0, 1) for h in (0, 1))


def test_a_log_that_weighs_nothing_changes_nothing(tmp_path):
    """The same rows twice, as a log of clicks and as one of purchases: with purchases at weight 0 and plain SGD, the
    model ends at the very bits of a training on the clicks' log alone: its batches, ids and labels are the same."""
    frame(1500, 1).to_csv(tmp_path / "log.csv", index=False)
    path = str(tmp_path / "log.csv")
    sgd = {"optimizer": {"tables": {"name": "sgd", "lr": 0.5}, "dense": {"name": "sgd", "lr": 0.1}},
           "weighting": {"name": "static", "weights": {"buy": 0}}}  # fmt: skip
    found = []
    for name, data in (
        ("one", {"path": path}),
        ("two", {"logs": [{"path": path, "labels": [label]} for label in ("click", "buy")]}),
    ):
        run = Run(tmp_path / name, config(tmp_path, name, data, sgd))
        pretrain(run, prepare(run, Session(CPU)), Session(CPU))
        found.append(load_network(run.stage("pretrain") / "model")[0].state())
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


@pytest.mark.parametrize("how", ["by_size", "equal"])
def test_each_task_reads_exactly_its_own_rows(how, run):
    log = open_log(run)
    course = log_course(run.config.pretrain.model_copy(update={"alternate": how}), log, 0)
    assert course is not None
    labels = log.part("train").labels
    seen = [torch.zeros(len(labels)), torch.zeros(len(labels))]
    for position in range(course.total // course.epochs):
        epoch, step = course.at(position)
        rows = course.rows(epoch, step)
        (away,) = course.absent(epoch, step)
        assert labels[rows, away].isnan().all() and not labels[rows, 1 - away].isnan().any()
        seen[1 - away][rows] += 1
    assert torch.equal(seen[0] > 0, ~labels[:, 0].isnan()) and torch.equal(seen[1] > 0, ~labels[:, 1].isnan())
    assert seen[0].max() == 1 and (seen[1].max() == 1) == (how == "by_size")


def test_never_mixes_the_logs_in_a_batch(run):
    assert log_course(run.config.pretrain.model_copy(update={"alternate": "never"}), open_log(run), 0) is None


def test_a_task_alone_reads_its_own_log(run, tmp_path):
    short = run.config.model_copy(update={"run": str(tmp_path / "o")})
    result, rows = outcomes(short, Place(tmp_path / "o", run.folder), (0,), None, QUIET)
    assert [row.task for row in rows] == ["click", "buy"] and result["seeds"] == [0]
    logs = open_log(run).logs("train")
    for t, one in enumerate(logs):
        history = artifact.read_json(tmp_path / "o" / "seed-0" / f"alone-{t}" / "pretrain" / "history.json")
        assert history[0]["step"] == -(-(one.stop - one.start) // 64)


def test_a_plan_counts_the_turns(run):
    log = open_log(run)
    batches = [-(-(one.stop - one.start) // 64) for one in log.logs("train")]
    for how, turns in (("by_size", sum(batches)), ("equal", 2 * max(batches))):
        assert rows_read(run.config.pretrain.model_copy(update={"alternate": how}), log) == 4 * turns * 64
    assert rows_read(run.config.pretrain.model_copy(update={"alternate": "never"}), log) == 4 * len(log.part("train"))


def test_one_new_log_is_refused_where_there_were_two(run, tmp_path):
    with pytest.raises(ConfigError, match="refresh: found a run of several logs"):
        refresh(run, tmp_path / "new", tmp_path / "x.csv", Session(CPU))


def test_the_rates_of_the_tasks_are_those_of_the_rows_that_have_the_label(tmp_path):
    home = Run(tmp_path / "r", config(tmp_path, "r", {"logs": two(tmp_path)}))
    log = prepare(home, Session(CPU, QUIET))
    labels = log.part("train").labels
    assert bool(labels.isnan().any())
    rates = labels.nanmean(0, dtype=torch.float64).tolist()
    assert [task.rate for task in log.tasks] == pytest.approx(rates, rel=1e-12)
