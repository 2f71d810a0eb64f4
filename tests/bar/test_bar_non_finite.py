"""Numbers that are not finite are stopped within a step, named, never saved, and never decide a width."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import outcome, tiny_config, tiny_frame
from tiny_runs import SMALL, copy_of_finished, finished, small_config, walk

from autodim.data.batches import Order
from autodim.errors import DataError, TrainingError
from autodim.stages import scores as scores_stage
from autodim.stages.model_folder import load_network, save_network
from autodim.stages.prepare import open_log
from autodim.stages.pretrain import build_log_network, log_rules
from autodim.stages.run import Run
from autodim.stages.search import search
from autodim.training import finite
from autodim.training.interrupt import Interrupted, StopFlag
from autodim.training.loop import Training
from autodim.training.progress import Progress
from autodim.training.step import Step

QUIET = Progress("quiet")


def log_with(folder: Path, column: str, value: str) -> Path:
    frame = tiny_frame(120).astype(str)
    frame.loc[50, column] = value
    path = folder / "clicks.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("value", ["inf", "-inf", "Infinity", "1e400", "-1e999"])
@pytest.mark.parametrize("column", ["age", "click"])
def test_an_input_that_is_not_finite_is_named_with_its_place(tmp_path, column, value):
    path = log_with(tmp_path, column, value)
    with pytest.raises(DataError) as error:
        search(tiny_config(path, tmp_path / "run", *SMALL), QUIET, stages=("prepare",))
    assert column in str(error.value)
    assert str(path) in str(error.value)
    if column == "age":
        assert "line 52" in str(error.value)


@pytest.mark.parametrize("value", ["nan", "NaN", ""])
def test_nan_is_a_missing_value_and_never_reaches_the_model(tmp_path, value):
    path = log_with(tmp_path, "age", value)
    run = search(tiny_config(path, tmp_path / "run", *SMALL), QUIET, stages=("prepare",))
    for part in ("train", "valid", "test"):
        assert bool(open_log(run).part(part).numeric.isfinite().all())


def test_wild_but_finite_values_stay_finite(tmp_path):
    path = log_with(tmp_path, "age", "1.7e308")
    run = search(tiny_config(path, tmp_path / "run", *SMALL), QUIET, stages=("prepare",))
    assert bool(open_log(run).part("train").numeric.isfinite().all())


def steps_of(run: Training) -> int:
    """Steps of an epoch."""
    return Order(len(run.train), run.config.batch, 0).steps_per_epoch


class Poison:
    """A clipper that puts a number into one gradient at one step."""

    def __init__(self, where: str, at: int, value: float):
        self.where, self.at, self.value, self.steps = where, at, value, 0

    def clip(self, tables, dense, lookup):
        if self.steps == self.at:
            if self.where == "table":
                tables[0].grad._values()[0, 0] = self.value
            else:
                dense[0].grad.view(-1)[0] = self.value
        self.steps += 1


def training(folder: Path | None, clippers=(), spoil=lambda columns, network: None) -> Training:
    """The pretraining of the finished run, with something spoilt."""
    run = Run(finished(), small_config(finished()))
    log = open_log(run)
    config = run.config.pretrain.model_copy(update={"epochs": 4})
    layout = load_network(finished() / "pretrain" / "model")[0].tables.layout
    network = build_log_network(run.config.model, layout, log, 1)
    rules = log_rules(network, config, log)
    train = log.part("train").to("cpu")
    spoil(train, network)
    return Training(
        network, Step(network, rules.optimizers, clippers=clippers), (train, log.part("valid")), config, 0, folder
    )


def set_numeric(columns, network):
    columns.numeric[7, 0] = math.inf


def set_label(columns, network):
    columns.labels[7, 0] = math.inf


def set_table(columns, network):
    network.tables.groups[0].weight.data[3] = math.nan


def set_dense(columns, network):
    next(network.model.parameters()).data.view(-1)[0] = math.nan


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (set_numeric, "row 7 of the training part .* numeric column 0"),
        (set_label, "row 7 of the training part .* label 0"),
        (set_table, "the table of 'user'"),
        (set_dense, "holds such numbers by now"),
    ],
)
def test_what_is_spoilt_is_named_and_never_saved(tmp_path, spoil, words):
    run = training(tmp_path, spoil=spoil)
    with pytest.raises(TrainingError, match=words):
        run.run(QUIET, "spoilt")
    assert run.position <= steps_of(run)
    assert run.checkpoints is not None
    assert run.checkpoints.latest() is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["table", "dense"])
def test_a_gradient_is_caught_at_every_step_before_anything_is_saved(tmp_path, where, value):
    steps = steps_of(training(None))
    for at in range(2 * steps):
        run = training(tmp_path / f"{where}-{at}", clippers=[Poison(where, at, value)])
        try:
            run.run(QUIET, "poisoned")
        except TrainingError as error:
            assert "not finite" in str(error)  # where an evaluation was good, training ends there instead
        else:
            assert run.stopped
            assert all(bool(v.isfinite().all()) for v in run.network.state().values())
        # seen in the next step's loss, or where the weights are judged: at most the rest of an evaluation's stretch,
        # since a row that no later batch reads changes no loss
        assert run.position <= steps * (at // steps + 1)
        found = run.checkpoints.latest()
        if found is not None:
            assert all(bool(v.isfinite().all()) for k, v in found[0].items() if k.startswith("network/"))


def test_a_signal_does_not_save_what_is_spoilt(tmp_path):
    stop = StopFlag()
    run = training(tmp_path, spoil=set_dense)
    stop.signum = 15
    with pytest.raises((TrainingError, Interrupted)):
        run.run(QUIET, "spoilt", stop)
    assert run.checkpoints.latest() is None
    healthy = training(tmp_path)
    with pytest.raises(Interrupted):
        healthy.run(QUIET, "healthy", stop)
    assert healthy.checkpoints.latest() is not None


def test_a_model_that_is_not_finite_is_never_scored_or_cut(tmp_path):
    run = copy_of_finished(tmp_path / "run")
    (run / "prune").rename(tmp_path / "aside")
    for scores in (run / "pretrain").glob("scores-*"):
        scores.rename(tmp_path / scores.name)
    network, about = load_network(run / "pretrain" / "model")
    network.tables.groups[0].weight.data[5, 1] = math.nan
    config = small_config(run)
    save_network(run / "pretrain" / "model", network, config.model, about["numeric"], about["labels"], {})
    with pytest.raises(TrainingError, match=r"pretrain.*the table of 'user'"):
        walk(run)
    assert not (run / "prune" / "widths.yaml").exists()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_not_finite_never_decide_a_width(tmp_path, monkeypatch, value):
    run = copy_of_finished(tmp_path / "run")
    (run / "prune").rename(tmp_path / "aside")
    for scores in (run / "pretrain").glob("scores-*"):
        scores.rename(tmp_path / scores.name)
    good = scores_stage.score

    def spoilt(*args, **rest):
        found = good(*args, **rest)
        found["g/item"][1] = value
        return found

    monkeypatch.setattr(scores_stage, "score", spoilt)
    with pytest.raises(TrainingError, match="g/item"):
        walk(run)
    assert not (run / "prune" / "widths.yaml").exists()
    assert not list((run / "pretrain").glob("scores-*"))
    monkeypatch.undo()
    walk(run)  # and nothing of it is left behind
    assert outcome(run) == outcome(finished())


def test_finite_numbers_of_any_size_pass():
    finite.check_tensors({"x": torch.tensor([3e38, -3e38]), "none": torch.zeros(0), "whole": torch.tensor([1])}, "here")
    with pytest.raises(TrainingError, match="y holds"):
        finite.check_tensors({"x": torch.ones(2), "y": torch.from_numpy(np.array([1.0, np.nan]))}, "here")
