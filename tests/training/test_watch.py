"""The watch: what counts as a jump, a recovery and a divergence; policies; rollback and resume to the bit."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from autodim.config.schema import ModelConfig, TrainConfig
from autodim.data.columns import Columns
from autodim.embedding.layout import Slot, Table, uniform_layout
from autodim.errors import TrainingError
from autodim.optim.build import build_rules
from autodim.stages.model_folder import build_network
from autodim.training.interrupt import Interrupted
from autodim.training.loop import Training
from autodim.training.progress import Progress
from autodim.training.step import Step
from autodim.training.watch import CALM, WARM_UP, Detector, Event, LossRing, parameter_norms

QUIET = Progress("quiet")


def calm_losses(count, seed=0):
    g = torch.Generator().manual_seed(seed)
    return (0.6 + 0.02 * torch.randn(count, generator=g)).tolist()


def feed(detector, losses, start=1):
    found = [detector.loss(start + i, v) for i, v in enumerate(losses)]
    return [e for e in found if e is not None]


def test_noise_and_a_falling_loss_raise_nothing():
    for seed in range(20):
        losses = [0.3 + 0.4 * math.exp(-i / 200) + v - 0.6 for i, v in enumerate(calm_losses(3000, seed))]
        assert feed(Detector(), losses) == []


def test_a_jump_that_recovers_is_a_micro_divergence_with_its_place_and_size():
    detector = Detector(patience=50)
    assert feed(detector, calm_losses(200)) == []
    limit = detector.limit
    (event,) = feed(detector, [2.0, 3.0, 1.5, *calm_losses(20, 1)], 201)
    assert (event.kind, event.reason, event.step, event.until) == ("micro", "loss", 201, 203 + CALM)
    assert event.value == 3.0 and event.limit == limit
    assert detector.calm


def test_a_jump_that_stays_is_one_full_divergence_after_patience_steps():
    detector = Detector(patience=50)
    feed(detector, calm_losses(200))
    events = feed(detector, [5.0 + v for v in calm_losses(300, 2)], 201)
    assert [(e.kind, e.step, e.until) for e in events] == [("full", 201, 251)]


def test_numbers_that_are_not_finite_are_full_after_so_many_in_a_row_and_micro_before():
    for count, kinds in ((9, ["micro"]), (10, ["full"])):
        detector = Detector(finite_patience=10)
        feed(detector, calm_losses(100))
        events = feed(detector, [math.nan] * count + calm_losses(30, 3), 101)
        assert [e.kind for e in events] == kinds
        assert events[0].reason == ("loss" if count == 9 else "not finite")


def test_an_auc_at_chance_is_full_only_where_the_model_had_learnt():
    fresh, learnt = Detector(), Detector()
    assert fresh.evaluation(10, 0.50, 0.7) is None
    # a model that has only begun to learn wanders around chance
    assert fresh.evaluation(20, 0.53, 0.7) is None and fresh.evaluation(30, 0.51, 0.7) is None
    assert learnt.evaluation(10, 0.70, 0.6) is None
    event = learnt.evaluation(20, 0.51, 0.7)
    assert event is not None and (event.kind, event.reason, event.value) == ("full", "auc", 0.51)
    assert Detector().evaluation(10, 0.7, math.nan).reason == "not finite"
    assert Detector().evaluation(10, math.nan, 0.6) is None  # one class only: nothing to judge


def test_an_auc_that_drops_and_comes_back_is_micro():
    detector = Detector()
    assert [detector.evaluation(s, a, 0.6) for s, a in ((10, 0.80), (20, 0.70), (30, 0.72))] == [None] * 3
    assert not detector.calm
    event = detector.evaluation(40, 0.79, 0.6)
    assert (event.kind, event.reason, event.step, event.until, event.value) == ("micro", "auc", 20, 40, 0.70)


def test_what_is_undecided_at_the_end_is_told():
    detector = Detector()
    feed(detector, [*calm_losses(100), 9.0])
    (event,) = detector.end()
    assert (event.kind, event.step, event.until) == ("open", 101, None)


def test_a_detector_restored_in_the_middle_judges_as_if_it_had_not_stopped():
    losses = [*calm_losses(100), 4.0, math.nan, 5.0, *calm_losses(40, 1), *[7.0] * 150, *calm_losses(100, 2)]
    expected = feed(Detector(), losses)
    assert len(expected) == 2
    for cut in (3, 60, 101, 102, 130, 200):
        first, second = Detector(), Detector()
        before = feed(first, losses[:cut])
        second.load_state(first.state())
        assert repr(before + feed(second, losses[cut:], cut + 1)) == repr(expected)


def test_events_survive_json():
    event = Event("full", "not finite", 3, 9, math.nan, 1.0, "stop", 1, {"w": math.inf}, {"sigma/w": 0.5})
    back = Event.from_json(event.to_json())
    assert math.isnan(back.value) and math.isnan(back.norms["w"])
    assert replace(back, value=0.0, norms={}) == replace(event, value=0.0, norms={})
    assert "not finite" in event.words() and "step 3" in event.words()


def test_the_ring_keeps_losses_to_the_bit_and_sums_tasks():
    ring = LossRing(4, torch.device("cpu"))
    losses = torch.rand(3, 2)
    for row in losses:
        ring.add(row)
    assert ring.read() == losses.sum(1).tolist() and ring.read() == []


def test_parameter_norms_are_norms():
    assert parameter_norms({"a": torch.tensor([3.0, 4.0]), "none": torch.zeros(0)}) == {"a": 5.0}


# ---- in a training


def columns(rows, seed):
    g = torch.Generator().manual_seed(seed)
    ids = torch.stack([torch.randint(0, 20, (rows,), generator=g), torch.randint(0, 10, (rows,), generator=g)], 1).int()
    labels = ((ids[:, :1] + ids[:, 1:]) % 3 == 0).float()
    return Columns.from_arrays(ids=ids, labels=labels, one_hot_slots=("a", "b"))


class Bomb:
    """A clipper that scales the gradients a thousandfold at some updates, while the rates are above a threshold."""

    def __init__(self, at, factor=1e3):
        self.at, self.factor, self.position = set(at), factor, lambda: -1
        self.rate = lambda: 1.0

    def clip(self, tables, dense, lookup):
        if self.position() in self.at and self.rate() > 0.04:
            for p in (*tables, *dense):
                if p.grad is not None:
                    p.grad = p.grad * self.factor


def training(folder, bomb=None, epochs=8, **watch):
    optimizer = {"tables": {"name": "sgd", "lr": 0.05}, "dense": {"name": "sgd", "lr": 0.05},
                 "schedule": {"name": "linear", "floor": 0.9}}  # fmt: skip
    settings = {"batch": 10, "epochs": epochs, "evals_per_epoch": 1, "patience": 1000, "optimizer": optimizer}
    config = TrainConfig(**settings, watch={"patience": 20, **watch})
    model = ModelConfig(name="deepfm", width=4, hidden=(8,), dropout=0.1, init_std=0.3)
    network = build_network(model, uniform_layout((Slot("a", "a"), Slot("b", "b")), (Table("a", 20), Table("b", 10)), 4), 0, 1, seed=1)  # fmt: skip # noqa: E501
    rules = build_rules(config.optimizer, network, epochs=epochs, steps_per_epoch=25)
    step = Step(network, rules.optimizers, clippers=[bomb] if bomb else [])
    made = Training(network, step, (columns(250, 0), columns(100, 1)), config, 3, folder, rules.schedules)
    if bomb:
        bomb.position = lambda: made.position
        bomb.rate = lambda: made.step.optimizers[0].param_groups[0]["lr"]
    return made


def test_a_calm_training_has_no_events(tmp_path):
    assert training(tmp_path).run(QUIET, "calm").events == ()


def test_warn_goes_on_and_tells(tmp_path):
    result = training(tmp_path, Bomb([101])).run(QUIET, "warn")
    assert result.steps == 200
    full = [e for e in result.events if e.kind == "full"]
    assert full and full[0].action == "none" and 101 < full[0].step < 108
    assert set(full[0].norms) == {n for n, p in training(None).network.named_parameters() if p.numel()}


def test_stop_ends_with_the_best_evaluation_so_far(tmp_path):
    made = training(tmp_path, Bomb([101]), policy="stop")
    result = made.run(QUIET, "stop")
    assert result.steps <= 125 and result.events[-1].action == "stop"
    assert result.best.step <= 100


def test_rollback_goes_back_with_lower_rates_and_the_divergence_does_not_come_again(tmp_path):
    made = training(tmp_path, Bomb([101]), policy="rollback", factor=0.5)
    result = made.run(QUIET, "rollback")
    assert [e.action for e in result.events if e.kind == "full"] == ["rollback"]
    assert made.rollbacks == 1 and result.steps == 200
    steps = [p.step for p in result.points]
    assert steps == list(range(25, 201, 25))  # evaluations of the lost branch are gone
    whole = training(tmp_path / "calm").run(QUIET, "calm")
    at = {p.step: p.lr for p in whole.points}
    for point in result.points:
        assert point.lr == pytest.approx(at[point.step] * (0.5 if point.step > 100 else 1.0))
    assert result.points[-1].train_loss < 2 * whole.points[-1].train_loss


def test_rollback_before_the_first_evaluation_goes_back_to_the_start(tmp_path):
    made = training(tmp_path, Bomb([4], 1e30), policy="rollback", finite_patience=1)
    result = made.run(QUIET, "start")
    assert [e.action for e in result.events if e.kind == "full"] == ["rollback"]
    assert [p.step for p in result.points] == list(range(25, 201, 25)) and result.points[0].lr < 0.03


def test_rollbacks_end(tmp_path):
    class Always(Bomb):
        def clip(self, tables, dense, lookup):
            self.rate = lambda: 1.0
            super().clip(tables, dense, lookup)

    made = training(tmp_path, Always([101], 1e6), policy="rollback", rollbacks=2)
    result = made.run(QUIET, "ends")
    assert [e.action for e in result.events if e.kind == "full"] == ["rollback", "rollback", "stop"]
    assert [e.attempt for e in result.events if e.kind == "full"] == [0, 1, 2]


def test_numbers_that_stay_not_finite_end_a_training_that_only_warns(tmp_path):
    made = training(tmp_path, Bomb([101], math.nan))
    with pytest.raises(TrainingError, match=r"not finite, since update 10[23]"):
        made.run(QUIET, "warn")


class StopAfter:
    def __init__(self, steps):
        self.left = steps

    @property
    def signum(self):
        self.left -= 1
        return 15 if self.left < 0 else None


@pytest.mark.parametrize("stops", [(7, 1, 60, 22), (50,), (25,)])
def test_resumed_equals_uninterrupted_to_the_bit_across_a_rollback(tmp_path, stops):
    whole = training(tmp_path / "whole", Bomb([101]), policy="rollback")
    expected = whole.run(QUIET, "whole")
    assert expected.events
    for steps in itertools.cycle(stops):
        again = training(tmp_path / "again", Bomb([101]), policy="rollback")
        try:
            found = again.run(QUIET, "again", StopAfter(steps))
            break
        except Interrupted:
            continue
    assert found.points == expected.points
    assert [e.to_json() for e in found.events] == [e.to_json() for e in expected.events]
    for name, tensor in whole.network.state().items():
        assert torch.equal(tensor, again.network.state()[name]), name


def test_rollback_needs_a_folder():
    with pytest.raises(ValueError, match="folder"):
        training(None, policy="rollback")


def test_the_averages_settle_before_anything_is_judged():
    assert feed(Detector(), [0.1] * (WARM_UP - 1) + [50.0]) == []
    assert not Detector().loss(1, 1e9)
