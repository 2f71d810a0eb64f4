"""Resumed equals uninterrupted, for every update rule, second pass, clipper and schedule; early stopping and the
plateau; non-finite losses stop; gauges tell what clippers did."""

import itertools
import math

import pytest
import torch

from autodim.config.schema import ModelConfig, TrainConfig
from autodim.data.columns import Columns
from autodim.embedding.layout import Slot, Table, uniform_layout
from autodim.errors import TrainingError
from autodim.optim.build import build_rules
from autodim.stages.model_folder import build_network
from autodim.training.interrupt import Interrupted
from autodim.training.loop import Point, Training
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


def training(folder, tables="lazy_adam", dense="adam", more=None, **settings) -> Training:
    optimizer = {"tables": {"name": tables, "lr": 0.05}, "dense": {"name": dense, "lr": 0.01}, **(more or {})}
    config = TrainConfig(**{"batch": 32, "epochs": 4, "evals_per_epoch": 2, "optimizer": optimizer, **settings})
    model = ModelConfig(name="deepfm", width=4, hidden=(8,), dropout=0.3, batch_norm=bool(more), init_std=0.3)
    network = build_network(model, uniform_layout(SLOTS, TABLES, 4), 0, 1, seed=1)
    train = part(250, 0)
    counts = {t.name: train.ids[:, k].bincount(minlength=t.rows) for k, t in enumerate(TABLES)}
    rules = build_rules(config.optimizer, network, epochs=config.epochs, steps_per_epoch=8, counts=counts)
    step = Step(network, rules.optimizers, perturbation=rules.perturbation, clippers=rules.clippers)
    return Training(network, step, (train, part(100, 1)), config, 3, folder, rules.schedules)


class StopAfter:
    """Looks like a StopFlag whose signal comes after some steps."""

    def __init__(self, steps: int):
        self.left = steps

    @property
    def signum(self):
        self.left -= 1
        return 15 if self.left < 0 else None


def helen(**options):
    return {"perturb": {"name": "helen", "rho": 0.5, **options}}


STABILISERS = {
    "helen_batch": helen(),
    "helen_ema": helen(frequency="ema", decay=0.9),
    "helen_global": helen(frequency="global", norm_scope="global", dense="global"),
    "sam": {"perturb": {"name": "sam"}},
    "asam": {"perturb": {"name": "asam"}},
    "norm": {"clip": [{"name": "norm", "max_norm": 0.02}]},
    "agc": {"clip": [{"name": "agc"}]},
    "cowclip": {"clip": [{"name": "cowclip", "ratio": 1e-3, "l2": 1e-2}]},
    "constant": {"schedule": {"name": "constant", "warmup": 0.6}},
    "linear": {"schedule": {"name": "linear", "floor": 0.2}},
    "cosine": {"schedule": {"name": "cosine", "warmup": 1}},
    "together": {**helen(frequency="ema"), "clip": [{"name": "agc"}, {"name": "norm", "max_norm": 0.1}],
                 "schedule": {"name": "cosine", "warmup": 0.5}},
}  # fmt: skip


def resumed_and_whole(folder, *settings, stops=(3, 1, 6, 2)):
    """The same training twice: in one go, and stopped again and again."""
    whole = training(folder / "whole", *settings)
    expected = whole.run(QUIET, "whole")
    steps = itertools.cycle(stops)
    for _ in range(100):
        again = training(folder / "again", *settings)
        try:
            found = again.run(QUIET, "again", StopAfter(next(steps)))
        except Interrupted:
            continue
        break
    assert found.points == expected.points and found.best == expected.best
    for name, tensor in whole.network.state().items():
        assert torch.equal(tensor, again.network.state()[name]), name
    return expected


@pytest.mark.parametrize(
    ("tables", "dense"),
    [
        ("lazy_adam", "adam"),
        ("adagrad", "adagrad"),
        ("rowwise_adagrad", "adamw"),
        ("sgd", "sgd"),
        ("lazy_adam", "clippy_adagrad"),
        ("lazy_adam", "clippy_adam"),
    ],
)
def test_resumed_equals_uninterrupted_to_the_bit(tmp_path, tables, dense):
    resumed_and_whole(tmp_path, tables, dense)


@pytest.mark.parametrize("more", STABILISERS.values(), ids=STABILISERS)
def test_resumed_equals_uninterrupted_with_every_stabiliser(tmp_path, more):
    dense = "clippy_adam" if "clip" in more else "adam"
    result = resumed_and_whole(tmp_path, "lazy_adam", dense, more, stops=(5, 11, 2))
    plain = training(None, "lazy_adam", dense, {"clip": []}).run(QUIET, "plain")
    assert [p.train_loss for p in result.points] != [p.train_loss for p in plain.points]  # it does something


def test_resume_with_an_average_really_needs_its_state(tmp_path):
    """The resume test above could pass with a forgotten average only if the average did not matter."""
    more = helen(frequency="ema", decay=0.9)
    whole = training(None, more=more).run(QUIET, "whole")
    first = training(tmp_path / "run", more=more)
    with pytest.raises(Interrupted):
        first.run(QUIET, "first", StopAfter(9))
    forgetful = training(tmp_path / "run", more=more)
    forgetful.step.perturbation.load_state = lambda tensors: None
    assert forgetful.run(QUIET, "again").points != whole.points


def test_a_radius_of_zero_is_the_base_optimizer_to_the_bit():
    base = training(None, more={"clip": []})
    expected = base.run(QUIET, "base")
    for perturb in ({"name": "helen"}, {"name": "helen", "frequency": "ema"}, {"name": "sam"}, {"name": "asam"}):
        zero = training(None, more={"perturb": {**perturb, "rho": 0}})
        assert zero.run(QUIET, "zero").points == expected.points
        for name, tensor in base.network.state().items():
            assert torch.equal(tensor, zero.network.state()[name]), (perturb, name)


def test_schedules_set_the_rates_of_every_step():
    found = training(None, more={"schedule": {"name": "linear", "warmup": 0.5, "floor": 0.1}}, patience=99)
    rates = []
    inner = found.step.__call__

    class Watched:
        def __getattr__(self, name):
            return getattr(inner.__self__, name)

        def __call__(self, batch, seed):
            rates.append([o.param_groups[0]["lr"] for o in inner.__self__.optimizers])
            return inner(batch, seed)

    found.step = Watched()
    points = found.run(QUIET, "watched").points
    # 32 steps: 4 of warm-up by fifths, then from the whole rate down to a tenth of it at the last
    factors = [0.2, 0.4, 0.6, 0.8, *(1 - 0.9 * k / 27 for k in range(28))]
    assert [r[0] for r in rates] == pytest.approx([0.05 * f for f in factors])
    assert [r[1] for r in rates] == pytest.approx([0.01 * f for f in factors])
    assert [p.lr for p in points[:-1]] == [rates[p.step][0] for p in points[:-1]]


def test_evaluations_tell_what_clippers_did():
    clip = [{"name": "agc"}, {"name": "norm", "max_norm": 1e9}]
    found = training(None, more={"clip": clip, "dense": {"name": "clippy_adagrad", "lr": 0.5}})
    points = found.run(QUIET, "gauges").points
    dense = {n for n, p in found.network.named_parameters() if p.numel() and not n.startswith("tables.")}
    for point in points:
        assert 0 < point.optimizer["agc/clipped"] <= 1
        assert point.optimizer["norm/clipped"] == 0 and point.optimizer["norm/norm"] > 0
        assert {k.removeprefix("sigma/") for k in point.optimizer if k.startswith("sigma/")} == dense
        assert not any(k.startswith("skipped/") for k in point.optimizer)
        assert Point.from_json(point.to_json()) == point
    assert min(v for p in points for k, v in p.optimizer.items() if k.startswith("sigma/")) < 1
    tight = training(None, more={"clip": [{"name": "norm", "max_norm": 1e-9}]}).run(QUIET, "tight").points
    assert all(p.optimizer["norm/clipped"] == 1 for p in tight)


def test_the_gauge_of_a_clipper_is_its_mean_since_the_last_evaluation():
    found = training(None, more={"clip": [{"name": "norm", "max_norm": 0.5}]}, epochs=1)
    (clipper,), norms = found.step.clippers, []
    clip = clipper.clip

    def watched(*arguments):
        clip(*arguments)
        norms.append(float(clipper.norm))

    clipper.clip = watched
    first, second = found.run(QUIET, "means").points
    for point, part_of in ((first, norms[:4]), (second, norms[4:])):
        assert point.optimizer["norm/norm"] == pytest.approx(sum(part_of) / 4)
        assert point.optimizer["norm/clipped"] == sum(n > 0.5 for n in part_of) / 4
    assert 0 < sum(n > 0.5 for n in norms) < 8


def test_steps_that_clippy_leaves_out_are_counted():
    found = training(None, dense="clippy_adagrad", epochs=1)
    (bias,) = [p for n, p in found.network.named_parameters() if n == "model.deep.first.bias"]
    found.step.clippers = [Poison(bias)]
    points = found.run(QUIET, "poisoned").points
    assert points[-1].optimizer["skipped/model.deep.first.bias"] == 8
    assert sum(k.startswith("skipped/") for k in points[-1].optimizer) == 1


class Poison:
    """A clipper that spoils one gradient."""

    def __init__(self, parameter):
        self.parameter = parameter

    def clip(self, tables, dense, lookup):
        self.parameter.grad.fill_(math.nan)


def test_a_point_without_gauges_is_written_as_before():
    point = Point(0, 3, math.nan, 0.5, 0.6, 0.01)
    assert list(point.to_json()) == ["epoch", "step", "train_loss", "valid_auc", "valid_logloss", "lr"]
    assert Point.from_json({**point.to_json(), "train_loss": 0.25}).optimizer == {}


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


def begun(folder, counts, weights=None, **settings):
    coarse = {"tables": {"name": "sgd", "lr": 20.0}, "dense": {"name": "sgd", "lr": 1.0}}
    found = training(folder, **settings, **({"optimizer": coarse} if weights else {}))
    if weights:
        found.network.load_state(weights)
    found.counts_start = counts
    return found


def test_a_trained_start_that_nothing_beats_is_the_result_and_takes_no_patience(tmp_path):
    first = training(None, epochs=20, patience=100)
    first.run(QUIET, "first")
    weights = {k: v.clone() for k, v in first.network.state().items()}
    worse = begun(tmp_path / "a", False, weights, patience=2).run(QUIET, "plain")
    counted = begun(tmp_path / "b", True, weights, patience=2)
    kept = counted.run(QUIET, "counted")
    assert kept.best.step == 0 and math.isnan(kept.points[0].train_loss)
    assert counted.best_optimizers() is None  # nobody asked to keep their state
    assert kept.points[1:] == worse.points and kept.best.valid_auc >= worse.best.valid_auc
    assert all(torch.equal(v, weights[k]) for k, v in counted.network.state().items())
    stopped = begun(tmp_path / "c", True, weights, patience=2)
    with pytest.raises(Interrupted):
        stopped.run(QUIET, "stopped", StopAfter(5))
    again = begun(tmp_path / "c", True, weights, patience=2)
    assert again.run(QUIET, "again").points[1:] == kept.points[1:]
    assert all(torch.equal(v, weights[k]) for k, v in again.network.state().items())


def test_a_start_that_is_beaten_changes_nothing_but_the_points(tmp_path):
    plain, counted = begun(None, False), begun(None, True)
    one, two = plain.run(QUIET, "plain"), counted.run(QUIET, "counted")
    assert two.best == one.best and two.best.step > 0 and two.points[1:] == one.points
    assert all(torch.equal(v, plain.network.state()[k]) for k, v in counted.network.state().items())
