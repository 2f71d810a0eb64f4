"""Logs in turns: whose rows a batch has, what a step leaves alone, and restarts to the bit."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from autodim.config.schema import ModelConfig, TrainConfig
from autodim.data.batches import Order
from autodim.data.columns import Columns
from autodim.data.several import LogRows
from autodim.embedding.layout import Slot, Table, uniform_layout
from autodim.stages.model_folder import build_network
from autodim.training.alternate import Alternate, LastLosses, turns
from autodim.training.interrupt import Interrupted
from autodim.training.loop import Training
from autodim.training.network import Network
from autodim.training.progress import Progress
from autodim.training.step import Step
from autodim.weighting.gradients import GradientWeighting
from autodim.weighting.pcgrad import PCGrad
from autodim.weighting.scalar import Static
from autodim.weighting.uncertainty import Uncertainty

LOGS = (LogRows(0, 330, (0,)), LogRows(330, 440, (1,)))
QUIET = Progress("quiet")


def course(how="by_size", seed=5, logs=LOGS, batch=32, epochs=3) -> Alternate:
    return Alternate(logs, 2, batch, epochs, 2, seed, how)


def read(found: Alternate) -> list[list[Tensor]]:
    """The rows of every step, by epoch."""
    steps: list[list[Tensor]] = [[] for _ in range(found.epochs)]
    for position in range(found.total):
        epoch, step = found.at(position)
        steps[epoch].append(found.rows(epoch, step))
    return steps


@pytest.mark.parametrize("how", ["by_size", "equal"])
def test_a_batch_has_rows_of_one_log_and_tells_which_tasks_are_away(how):
    found = course(how)
    for epoch, steps in enumerate(read(found)):
        for step, rows in enumerate(steps):
            first = bool((rows < 330).all())
            assert first or bool((rows >= 330).all())
            assert found.absent(epoch, step) == ((1,) if first else (0,))


def test_by_size_shows_each_row_once_an_epoch_anew_shuffled():
    epochs = [torch.cat(steps).tolist() for steps in read(course())]
    assert all(sorted(rows) == list(range(440)) for rows in epochs)
    assert len({tuple(rows) for rows in epochs}) == 3


def test_equal_gives_each_log_every_other_batch_and_the_shorter_goes_round():
    found = course("equal", epochs=4)
    longest = Order(330, 32, 0).steps_per_epoch
    assert found.steps == 2 * longest and found.total == 8 * longest
    batches = [rows for steps in read(found) for rows in steps]
    assert all(int(rows[0] < 330) == 1 - k % 2 for k, rows in enumerate(batches))
    first = Counter(torch.cat(batches[0::2]).tolist())
    assert set(first.values()) == {4} and len(first) == 330
    second = Counter(torch.cat(batches[1::2]).tolist())  # 4 x 10 batches of a log that has 3 or 4
    assert max(second.values()) - min(second.values()) <= 1 and len(second) == 110
    round_trip = Order(110, 32, 0).steps_per_epoch
    rounds = [batches[1::2][k : k + round_trip] for k in range(0, len(batches) // 2 - round_trip, round_trip)]
    assert all(sorted(torch.cat(one).tolist()) == list(range(330, 440)) for one in rounds)


def test_turns_are_spread_evenly_and_every_log_is_among_the_first():
    for steps in ([10, 3], [7, 7, 2], [1, 50]):
        found = turns(steps, "by_size")
        assert np.bincount(found).tolist() == steps
        assert sorted(found[: len(steps)]) == list(range(len(steps)))
        for k, n in enumerate(steps):
            had = np.cumsum(found == k)
            share = n / len(found) * np.arange(1, len(found) + 1)
            assert np.abs(had - share).max() < len(steps), (steps, k)


def test_the_order_is_the_seeds_and_the_first_logs_is_that_of_it_alone():
    same = [[r.tolist() for r in steps] for steps in read(course())]
    assert same == [[r.tolist() for r in steps] for steps in read(course())]
    assert same != [[r.tolist() for r in steps] for steps in read(course(seed=6))]
    alone = Order(330, 32, 5)
    for epoch, steps in enumerate(same):
        mine = [rows for rows in steps if rows[0] < 330]
        assert mine == [alone.rows(epoch, k).tolist() for k in range(alone.steps_per_epoch)]
    twins = course(logs=(LogRows(0, 100, (0,)), LogRows(100, 200, (1,))))  # as long, in orders of their own
    first, second = (torch.cat([r for r in read(twins)[0] if bool(r[0] < 100) == one]) for one in (True, False))
    assert first.tolist() != (second - 100).tolist()


def test_logs_without_a_task_are_left_out():
    found = course(logs=(LogRows(0, 330, ()), LogRows(330, 440, (0,))))
    assert all(sorted(torch.cat(steps).tolist()) == list(range(330, 440)) for steps in read(found))
    assert found.absent(0, 0) == (1,)


def test_absent_tasks_keep_their_last_loss():
    last = LastLosses(3, torch.device("cpu"))
    assert last.fill(torch.tensor([0.5, 0.0, 0.0]), (1, 2)).tolist() == [0.5, 0, 0]
    assert last.fill(torch.tensor([0.0, 0.25, 2.0]), (0,)).tolist() == [0.5, 0.25, 2]
    assert last.fill(torch.tensor([0.375, 0.0, 0.0]), (1, 2)).tolist() == [0.375, 0.25, 2]


def rows() -> Columns:
    rng = np.random.default_rng(1)
    ids = np.stack([rng.integers(0, 9, 440), rng.integers(0, 7, 440)], 1)
    click = (rng.random(440) < np.where(ids[:, 0] % 3 == ids[:, 1] % 3, 0.8, 0.2)).astype(np.float32)
    labels = np.stack([click, (ids[:, 1] > 3).astype(np.float32)], 1)
    labels[330:, 0] = labels[:330, 1] = np.nan
    return Columns.from_arrays(ids, None, labels, one_hot_slots=("a", "b"))


def network(name: str = "mmoe") -> Network:
    config = ModelConfig.model_validate(
        {"name": name, "width": 4, "sharing": {"experts": 3, "expert_hidden": (6,), "towers": (4,)}, "init_std": 0.3}
    )
    layout = uniform_layout([Slot("a", "a"), Slot("b", "b")], [Table("a", 9), Table("b", 7)], 4)
    return build_network(config, layout, 0, 2, seed=3)


def stepper(net: Network, weighting=None) -> Step:
    dense = torch.optim.AdamW([p for p in net.dense_parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
    tables = torch.optim.SparseAdam(net.tables.table_parameters(), lr=0.03)
    return Step(net, [tables, dense], weighting, missing=True)


@pytest.mark.parametrize("name", ["mmoe", "ple", "single", "shared_bottom"])
def test_what_is_an_absent_tasks_own_rests(name):
    """Neither momentum nor weight decay moves it, and its optimizer counts its own batches only."""
    net = network(name)
    step, columns, found = stepper(net), rows(), course()
    own = net.model.own_parameters()  # type: ignore[operator]
    for position in range(12):
        epoch, at = found.at(position)
        (away,) = found.absent(epoch, at)
        before = [[p.detach().clone() for p in mine] for mine in own]
        losses = step(columns.batch(found.rows(epoch, at)), position, (away,))
        assert float(losses[away]) == 0 < float(losses[1 - away])
        assert all(torch.equal(p, b) for p, b in zip(own[away], before[away], strict=True))
        assert any(not torch.equal(p, b) for p, b in zip(own[1 - away], before[1 - away], strict=True))
    state = step.optimizers[1].state
    turns_of = Counter(found.absent(*found.at(k))[0] for k in range(12))
    for task in (0, 1):
        assert {int(state[p]["step"]) for p in own[task] if p.numel()} == {turns_of[1 - task]}


WEIGHTINGS = {
    "plain": lambda net: None,
    "static": lambda net: Static(["click", "buy"], [1.0, 3.0]),
    "uncertainty": lambda net: Uncertainty(["click", "buy"], 0.02),
    "pcgrad": lambda net: GradientWeighting(PCGrad(), ["click", "buy"], net.model.own_parameters()),
}


@pytest.mark.parametrize(("weighting", "how"), [*((w, "by_size") for w in WEIGHTINGS), ("plain", "equal")])
def test_a_restart_goes_on_to_the_bit(weighting, how, tmp_path):
    config = TrainConfig(batch=32, epochs=3, evals_per_epoch=2, patience=9)

    class Stop:
        looks = 5

        @property
        def signum(self) -> int | None:
            self.looks -= 1
            return 15 if self.looks < 0 else None

    def training(folder) -> Training:
        net = network()
        step = stepper(net, WEIGHTINGS[weighting](net))
        return Training(net, step, (rows(), rows()), config, 5, folder, course=course(how))

    straight = training(None)
    expected = straight.run(QUIET, "x")
    for _ in range(100):
        again = training(tmp_path / "c")
        try:
            result = again.run(QUIET, "x", Stop())  # type: ignore[arg-type]
            break
        except Interrupted:
            continue
    shown = [json.dumps([p.to_json() for p in one.points], sort_keys=True) for one in (result, expected)]  # NaN is null
    assert shown[0] == shown[1] and len(result.points) == 6
    assert all(torch.equal(v, again.network.state()[k]) for k, v in straight.network.state().items())


def test_the_losses_that_are_watched_do_not_jump_from_log_to_log():
    """A rare log whose loss is far higher than the other's is no divergence; the sum that is watched stays calm."""
    logs = (LogRows(0, 3200, (0,)), LogRows(3200, 3264, (1,)))
    rng = np.random.default_rng(0)
    labels = np.full((3264, 2), np.nan, np.float32)
    labels[:3200, 0], labels[3200:, 1] = rng.random(3200) < 0.01, rng.random(64) < 0.5
    ids = np.stack([rng.integers(0, 9, 3264), rng.integers(0, 7, 3264)], 1)
    columns = Columns.from_arrays(ids, None, labels, one_hot_slots=("a", "b"))
    net = network()
    config = TrainConfig(batch=32, epochs=4, evals_per_epoch=1, patience=9)
    training = Training(net, stepper(net), (columns, columns), config, 1, course=course(logs=logs, epochs=4))
    result = training.run(QUIET, "x")
    assert [e.words() for e in result.events] == []
    assert all(0.69 < p.train_loss < 1.4 for p in result.points)  # the sum of both tasks, whoever's turn it was
