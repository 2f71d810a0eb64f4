"""Spectral cuts on the road: exact without training, exact warm starts, sweeps, and a retrain that learns from the
uncut model."""

import csv

import pytest
import torch
from conftest import tiny_config

from autodim import artifact
from autodim.dimension.allocation import Allocation
from autodim.errors import ConfigError
from autodim.stages.model_folder import load_network
from autodim.stages.prepare import open_log
from autodim.stages.pretrain import train_network
from autodim.stages.prune import cut_for
from autodim.stages.retrain import start_network
from autodim.stages.scores import cached_score
from autodim.stages.search import search
from autodim.stages.session import Session
from autodim.stages.sweep import predicted_change, sweep
from autodim.training.interrupt import Interrupted
from autodim.training.losses import task_losses
from autodim.training.progress import Progress

QUIET = Progress("quiet")
CPU = Session(torch.device("cpu"), QUIET)
ALL = slice(0, 10**6)


@pytest.fixture(scope="module")
def run(tiny_log, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return search(tiny_config(tiny_log, folder, "prune.strategy=spectral", "retrain.mode=none"), QUIET)


def widths(run):
    return Allocation.from_yaml((run.stage("prune") / "widths.yaml").read_text())


def part(run, name):
    columns = open_log(run).part(name)
    return columns.batch(slice(0, len(columns)))


def test_a_model_whose_vectors_say_nothing_is_told_so(tiny_log, tmp_path, run, monkeypatch):
    assert not any("next to nothing" in note for note in widths(run).notes)
    monkeypatch.setattr("autodim.dimension.idle.LEAST", 1e9)
    again = tiny_config(tiny_log, tmp_path / "run", "prune.strategy=spectral", "retrain.mode=none")
    assert "next to nothing" in widths(search(again, QUIET)).notes[0]


def test_the_cut_is_what_its_factors_say_on_bags_and_empty_bags_too(run):
    """Every slot vector v becomes mu + (v - mu) A P, whatever was pooled."""
    uniform, _ = load_network(run.stage("pretrain") / "model")
    cut, _ = load_network(run.stage("prune") / "model")
    allocation = widths(run)
    assert any(e.projected and e.bias for e in allocation.entries)
    log = open_log(run)
    statistics, means = cached_score(run, uniform, log, CPU)
    batch = part(run, "test")
    lengths = batch.bags["tags"].offsets.diff()
    assert (lengths == 0).any() and (lengths > 1).any()
    before = uniform.tables.lookup(batch).inputs()[0].stack()
    after = cut.tables.lookup(batch).inputs()[0].stack()
    from autodim.stages.prune import table_factors

    factors = table_factors(run.config, allocation, statistics)
    names = [s.name for s in log.slots]
    for e in allocation.entries:
        v = before[:, names.index(e.table)]
        if e.projected:
            f = factors[e.table]
            mu = torch.from_numpy(f.moments[e.table].mean)
            a, p = torch.from_numpy(f.encoder(e.width).copy()), torch.from_numpy(f.decoder(e.width).copy())
            v = (mu + (v.double() - mu) @ a @ p).float()
        elif e.width == 0:
            v = means[e.table].expand_as(v)
        torch.testing.assert_close(after[:, names.index(e.table)], v, rtol=1e-4, atol=1e-5)


def test_spent_is_what_the_saved_tensors_hold(run):
    allocation = Allocation.from_yaml((run.folder / "widths.yaml").read_text())
    tensors = load_network(run.stage("retrain") / "model")[0].tables
    numbers = sum(g.weight.numel() for g in tensors.groups if g.weight is not None)
    numbers += sum(p.numel() for p in tensors.dense_parameters())
    assert numbers == allocation.spent <= allocation.asked


def test_warm_start_and_no_retrain_are_the_cut_model_to_the_bit(run):
    log = open_log(run)
    allocation = Allocation.from_yaml((run.stage("prune") / "widths.yaml").read_text())
    cut, _ = load_network(run.stage("prune") / "model")
    start = start_network(run, log, allocation, True, 0, CPU)
    kept, _ = load_network(run.stage("retrain") / "model")
    for name, value in cut.state().items():
        assert torch.equal(value, start.state()[name]) and torch.equal(value, kept.state()[name]), name


def test_a_spectral_cut_loses_less_than_an_axis_aligned_one(run):
    rows = {r.strategy: r for r in sweep(run.config, ["sseds", "spectral"], [0.4], QUIET)}
    assert rows["spectral"].measured < 0.5 * rows["sseds"].measured
    assert rows["spectral"].auc > rows["sseds"].auc


def test_hand_edited_widths_of_a_spectral_cut_are_cut_spectrally(run, tmp_path):
    text = (run.stage("prune") / "widths.yaml").read_text()
    allocation = Allocation.from_yaml(text)
    entry = next(e for e in allocation.entries if e.projected)
    path = tmp_path / "edited.yaml"
    path.write_text(text.replace(f"  {entry.slots[0]}: {entry.width}\n", f"  {entry.slots[0]}: {entry.width + 1}\n"))
    from autodim.stages.retrain import read_allocation

    edited = read_allocation(run, open_log(run), path)
    changed = next(e for e in edited.entries if e.table == entry.table)
    assert changed.bias and changed.projected and changed.width == entry.width + 1
    uniform, _ = load_network(run.stage("pretrain") / "model")
    batch = part(run, "valid")
    losses = []
    for wanted in (allocation, edited):
        network = cut_for(run, uniform, wanted, open_log(run), CPU).eval()
        losses.append(float(task_losses(network(batch), batch.labels).detach().sum()))
    assert losses[1] != losses[0]


def test_a_sweep_measures_without_training_and_never_spends_too_much(run):
    before = {p: p.stat().st_mtime_ns for p in run.folder.rglob("*.safetensors")}
    rows = sweep(run.config, ["spectral", "spectral_uniform", "power_rule"], [1.0, 0.5, 0.2], QUIET)
    assert before == {p: p.stat().st_mtime_ns for p in before}
    assert [r.strategy for r in rows][:2] == ["uncut", "spectral"] and len(rows) == 10
    assert all(r.spent <= r.asked for r in rows)
    full = rows[1]
    assert full.share == 1.0 and full.measured == 0 and full.predicted == 0 and full.auc_change == 0
    saved = artifact.read_json(run.folder / "sweep" / "sweep.json")["rows"]
    table = list(csv.DictReader((run.folder / "sweep" / "sweep.csv").open()))
    assert [float(t["auc"]) for t in table] == [r["auc"] for r in saved] == [r.auc for r in rows]
    # two lines of the head, two of the knees, two about `predicted`
    assert len((run.folder / "sweep" / "sweep.md").read_text().splitlines()) == 16
    # the same point again, and as `evaluate` measures the model that `prune` saved
    again = sweep(run.config, ["spectral"], [0.4], QUIET)[1]
    results = artifact.read_json(run.folder / "evaluate" / "results.json")["models"]
    assert again.auc == pytest.approx(next(m for m in results if m["name"] == "cut")["test"][0]["auc"], abs=1e-9)
    with pytest.raises(ConfigError, match="spectral_uniform"):
        sweep(run.config, ["uniform"], [0.5], QUIET)
    with pytest.raises(ConfigError, match="expected above 0"):
        sweep(run.config, ["sseds"], [50.0], QUIET)


def test_the_prediction_is_that_of_the_rows_it_was_made_from(run):
    """On the scored rows themselves, a mild cut: predicted and measured change agree within a quarter."""
    row = sweep(run.config, ["spectral"], [0.6], QUIET, part="valid")[1]
    assert row.predicted == pytest.approx(row.measured, abs=max(0.25 * abs(row.measured), 1e-3))
    uniform, _ = load_network(run.stage("pretrain") / "model")
    log = open_log(run)
    statistics, means = cached_score(run, uniform, log, CPU)
    allocation = Allocation.from_yaml((run.stage("prune") / "widths.yaml").read_text())
    full = Allocation("spectral", "params", 0, 0, 0, 8, tuple(
        type(e)(e.table, e.slots, e.start, e.stop, 8) for e in allocation.entries
    ))  # fmt: skip
    counts = {t.name: log.counts(t.name) for t in log.tables}
    assert predicted_change(uniform, full, statistics.extra["spectral"], means, counts, {}) == 0


def trained(run, folder, teacher, stop_after=None):
    log = open_log(run)
    network, _ = load_network(run.stage("prune") / "model")
    session = CPU
    if stop_after is not None:
        session = Session(torch.device("cpu"), QUIET, StopAfter(stop_after))
    config = run.config.retrain
    return network, train_network(network, log, config, 7, folder, session, teacher)


class StopAfter:
    """A signal that comes in the middle of an epoch."""

    def __init__(self, steps):
        self.left = steps

    @property
    def signum(self):
        self.left -= 1
        return 15 if self.left < 0 else None


def test_no_share_of_the_teacher_is_a_plain_training_to_the_bit(run, tmp_path):
    uniform, _ = load_network(run.stage("pretrain") / "model")
    plain, first = trained(run, tmp_path / "plain", None)
    none, second = trained(run, tmp_path / "none", (uniform, 0.0))
    some, third = trained(run, tmp_path / "some", (uniform, 0.5))
    assert all(torch.equal(v, none.state()[k]) for k, v in plain.state().items())
    assert [p.train_loss for p in first.points] == [p.train_loss for p in second.points]
    assert any(not torch.equal(v, some.state()[k]) for k, v in plain.state().items())
    assert third.points != first.points


def test_a_distilled_training_resumes_to_the_bit(run, tmp_path):
    uniform, _ = load_network(run.stage("pretrain") / "model")
    whole, expected = trained(run, tmp_path / "whole", (uniform, 0.5))
    for steps in (5, 11):
        with pytest.raises(Interrupted):
            trained(run, tmp_path / "cut", (uniform, 0.5), stop_after=steps)
    resumed, found = trained(run, tmp_path / "cut", (uniform, 0.5))
    assert all(torch.equal(v, resumed.state()[k]) for k, v in whole.state().items())
    assert found.points == expected.points


def test_distill_walks_the_road_from_cold_too(run, tiny_log, tmp_path):
    config = tiny_config(
        tiny_log, tmp_path / "run", "prune.strategy=uniform", "retrain.distill=0.5", "retrain.epochs=5",

    )  # fmt: skip
    finished = search(config, QUIET)
    models = artifact.read_json(finished.folder / "evaluate" / "results.json")["models"]
    assert 0.5 < models[-1]["test"][0]["auc"] < 1
