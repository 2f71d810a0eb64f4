"""Resumed equals uninterrupted, for every update rule; early stopping and the plateau; non-finite losses stop."""

import itertools
import math

import pytest
import torch

from autodim.config.schema import ModelConfig, TrainConfig
from autodim.data.columns import Columns
from autodim.embedding.layout import Slot, Table, uniform_layout
from autodim.errors import TrainingError
from autodim.optim import build_dense_optimizer, build_table_optimizer
from autodim.stages.model_folder import build_network
from autodim.training.interrupt import Interrupted
from autodim.training.loop import Training
from autodim.training.progress import Progress
from autodim.training.step import Step

SLOTS = (Slot("a", "a"), Slot("b", "b"))
TABLES = (Table("a", 20), Table("b", 10))
QUIET = Progress("quiet")


def part(rows: int, seed: int) -> Columns:
    g = torch.Generator().manual_seed(seed)
    ids = torch.stack([torch.randint(0, 20, (rows,), generator=g), torch.randint(0, 10, (rows,), generator=g)], 1).int()
    labels = ((ids[:, :1] + ids[:, 1:]) % 3 == 0).float()
    return Columns.from_arrays(ids=ids, numeric=torch.zeros(rows, 0), labels=labels, one_hot_slots=("a", "b"))


def training(folder, tables="lazy_adam", dense="adam", **settings) -> Training:
    optimizer = {"tables": {"name": tables, "lr": 0.05}, "dense": {"name": dense, "lr": 0.01}}
    config = TrainConfig(**{"batch": 32, "epochs": 4, "evals_per_epoch": 2, "optimizer": optimizer, **settings})
    model = ModelConfig(name="deepfm", width=4, hidden=(8,), dropout=0.3, init_std=0.3)
    network = build_network(model, uniform_layout(SLOTS, TABLES, 4), 0, 1, seed=1)
    rules = [
        build_table_optimizer(config.optimizer.tables, network.tables.table_parameters()),
        build_dense_optimizer(config.optimizer.dense, network.dense_parameters()),
    ]
    return Training(network, Step(network, rules), (part(250, 0), part(100, 1)), config, seed=3, folder=folder)


class StopAfter:
    """Looks like a StopFlag whose signal comes after some steps."""

    def __init__(self, steps: int):
        self.left = steps

    @property
    def signum(self):
        self.left -= 1
        return 15 if self.left < 0 else None


@pytest.mark.parametrize(
    ("tables", "dense"),
    [("lazy_adam", "adam"), ("adagrad", "adagrad"), ("rowwise_adagrad", "adamw"), ("sgd", "sgd")],
)
def test_resumed_equals_uninterrupted_to_the_bit(tmp_path, tables, dense):
    whole = training(tmp_path / "whole", tables, dense)
    expected = whole.run(QUIET, "whole")
    steps = itertools.cycle([3, 1, 6, 2])
    for _ in range(100):
        again = training(tmp_path / "again", tables, dense)
        try:
            found = again.run(QUIET, "again", StopAfter(next(steps)))
        except Interrupted:
            continue
        break
    assert found.points == expected.points and found.best == expected.best
    for name, tensor in whole.network.state().items():
        assert torch.equal(tensor, again.network.state()[name]), name


def test_training_stops_early_and_keeps_the_best_weights(tmp_path):
    found = training(None, epochs=50, patience=3, plateau=0.5)
    result = found.run(QUIET, "early")
    best = max(result.points, key=lambda p: p.valid_auc)
    assert result.best == best and len(result.points) - result.points.index(best) - 1 == 3
    assert result.points[-1].lr == pytest.approx(0.05 * 0.5 ** sum(_worse(result.points)[:-1]))


def _worse(points):
    """Per evaluation, whether it was no better than the best before."""
    best, out = -math.inf, []
    for point in points:
        out.append(point.valid_auc <= best)
        best = max(best, point.valid_auc)
    return out


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path):
    expected = training(tmp_path / "whole").run(QUIET, "whole")
    first = training(tmp_path / "run")
    with pytest.raises(Interrupted):
        first.run(QUIET, "first", StopAfter(14))
    newest = sorted((tmp_path / "run").glob("step-*"))[-1] / "state.safetensors"
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    found = training(tmp_path / "run").run(QUIET, "again")
    assert found.points == expected.points


def test_a_loss_that_is_not_finite_stops_and_is_named():
    broken = training(None)
    with torch.no_grad():
        broken.network.tables.groups[0].weight.fill_(math.nan)
    with pytest.raises(TrainingError, match="not finite"):
        broken.run(QUIET, "broken")
