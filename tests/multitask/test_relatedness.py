"""Relatedness: affinity, cosines and transfer by their laws; the stage end to end on three planted tasks."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from autodim.cli import app
from autodim.config import load_config
from autodim.config.schema import ModelConfig
from autodim.data.batch import Batch
from autodim.data.tasks import Task
from autodim.embedding.layout import Slot, Table, uniform_layout
from autodim.errors import ConfigError
from autodim.multitask.alone import alone, measured
from autodim.multitask.relatedness import ProbedStep, SharedFrom, own_parameters, probe
from autodim.report.related import Estimate, SeedRecord, estimate, intervals, pair_cells, pairs, share_of_gain
from autodim.stages.model_folder import build_network
from autodim.stages.relate import relate
from autodim.stages.relate_parts import Question
from autodim.training.losses import task_losses
from autodim.training.network import Network
from autodim.training.progress import Progress
from autodim.training.step import Step

TWO = (Task("a"), Task("b"))
NUMBERS = (Task("a", "regression"), Task("b", "regression"))


def network(name: str = "shared_bottom") -> Network:
    config = ModelConfig.model_validate(
        {"name": name, "width": 4, "hidden": (6,), "dropout": 0.3, "init_std": 0.5,
         "sharing": {"experts": 3, "expert_hidden": (6,), "towers": (4,)}}
    )  # fmt: skip
    layout = uniform_layout([Slot("a", "a"), Slot("b", "b")], [Table("a", 9), Table("b", 7)], 4)
    return build_network(config, layout, 2, 2, seed=3)


def batch(rows: int = 40) -> Batch:
    rng = np.random.default_rng(0)
    ids = np.stack([rng.integers(0, 9, rows), rng.integers(0, 7, rows)], 1)  # every id several times
    numeric, labels = rng.normal(size=(rows, 2)), rng.integers(0, 2, (rows, 2))
    return Batch(torch.tensor(ids), torch.tensor(numeric).float(), torch.tensor(labels).float())


def losses(net: Network, data: Batch, tasks: tuple[Task, ...] = TWO) -> Tensor:
    net.eval()
    with torch.no_grad():
        return task_losses(net(data), data.labels, False, tasks).double()


@pytest.mark.parametrize("name", ["shared_bottom", "mmoe"])
def test_affinity_is_what_a_real_step_of_the_shared_parameters_does(name):
    data, lr = batch(), 0.7
    net = network(name)
    found = probe(net, data, TWO, lr).affinity
    own = {id(p) for mine in own_parameters(net) for p in mine}
    moved_by = []
    for source in range(2):
        moved = copy.deepcopy(net).eval()
        # a dense step of the tables and of everything shared, written into the copy
        lookup = moved.tables.lookup(data, learn=True)
        of_source = task_losses(moved.logits(lookup, data), data.labels)[source]
        mine = {id(p) for every in own_parameters(moved) for p in every}
        shared = [p for p in moved.dense_parameters() if id(p) not in mine]
        gradients = torch.autograd.grad(of_source, [*lookup.leaves, *shared], allow_unused=True)
        lookup.assign(list(gradients[: len(lookup.leaves)]))
        with torch.no_grad():
            for table in moved.tables.table_parameters():
                table.sub_(lr * table.grad.to_dense())
            for parameter, gradient in zip(shared, gradients[len(lookup.leaves) :], strict=True):
                parameter.sub_(0 if gradient is None else lr * gradient)
        moved_by.append(1 - losses(moved, data) / losses(net, data))
    assert own and (torch.stack(moved_by).abs() > 1e-3).any()
    torch.testing.assert_close(found, torch.stack(moved_by), atol=2e-6, rtol=1e-4)
    assert (found.diagonal() > 0).all()  # a short step for a task lowers its own loss


def test_a_probe_leaves_every_bit_as_it_was():
    net = network().train()
    before = {k: v.clone() for k, v in net.state().items()}
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    probe(net, batch(), TWO, 0.5)
    assert all(torch.equal(before[k], v) for k, v in net.state().items())
    assert net.training and all(p.grad is None for p in net.parameters())
    assert torch.equal(torch.rand(1), wanted)


def test_probing_does_not_change_a_training():
    nets = []
    for every in (0, 1):
        net = network()
        optimizers = [
            torch.optim.SGD(net.tables.table_parameters(), lr=0.3),
            torch.optim.SGD(net.dense_parameters(), lr=0.3),
        ]
        step = ProbedStep(net, optimizers, tasks=TWO).probing(every, 0.5)
        for k in range(3):
            step(batch(), seed=k)
        assert [p.step for p in step.probes] == ([] if not every else [0, 1, 2])
        nets.append(net.state())
    assert all(torch.equal(nets[0][k], v) for k, v in nets[1].items())


def test_cosines_of_equal_and_opposed_tasks_are_one_and_minus_one():
    net, data = network(), batch()
    towers = net.model.towers
    towers[1].load_state_dict(towers[0].state_dict())
    net.eval()
    with torch.no_grad():
        z = net(data)[:, 0]
    y = data.labels[:, 0]
    equal = Batch(data.ids, data.numeric, torch.stack([y, y], 1))
    opposed = Batch(data.ids, data.numeric, torch.stack([y, 2 * z - y], 1))  # every residual has the other sign
    for labels, wanted in ((equal, 1.0), (opposed, -1.0)):
        found = probe(net, labels, NUMBERS, 0.1).cosines
        for group in ("all", "tables", "trunk"):
            assert float(found[group][0, 1]) == pytest.approx(wanted, abs=1e-6)
            assert float(found[group][0, 0]) == pytest.approx(1.0)


def test_an_absent_task_is_not_measured():
    data = batch()
    labels = data.labels.clone()
    labels[:, 1] = math.nan
    found = probe(network(), Batch(data.ids, data.numeric, labels), TWO, 0.1, missing=True)
    assert math.isnan(found.cosines["all"][0, 1]) and math.isnan(found.affinity[0, 1])
    assert math.isnan(found.affinity[1, 0]) and found.affinity[0, 0] > 0


@pytest.mark.parametrize("source", [None, 0, 1])
def test_the_shared_part_learns_from_the_source_alone_and_every_head_from_its_own(source):
    net, data = network(), batch()
    own = own_parameters(net)
    lookup = net.tables.lookup(data, learn=True)
    net.eval()
    each = task_losses(net.logits(lookup, data), data.labels)
    targets = [*lookup.leaves, *net.dense_parameters()]
    plain = [torch.autograd.grad(each[t], targets, retain_graph=True, allow_unused=True) for t in range(2)]
    found = SharedFrom(source, own).gradients(each, targets, lookup)
    owner = {id(p): t for t, mine in enumerate(own) for p in mine}
    for k, target in enumerate(targets):
        of = owner.get(id(target), source)
        wanted = None if of is None else plain[of][k]
        assert (found[k] is None) == (wanted is None)
        assert wanted is None or torch.equal(found[k], wanted)


def test_the_control_moves_heads_only():
    net = network()
    before = {k: v.clone() for k, v in net.state().items()}
    heads = {k for k, p in net.named_parameters() if any(p is q for mine in own_parameters(net) for q in mine)}
    optimizers = [
        torch.optim.SGD(net.tables.table_parameters(), lr=0.3),
        torch.optim.Adam(net.dense_parameters(), lr=0.1),
    ]
    Step(net, optimizers, SharedFrom(None, own_parameters(net)), tasks=TWO)(batch(), 0)
    changed = {k for k, v in net.state().items() if not torch.equal(before[k], v)}
    assert changed and changed <= heads


def test_a_share_of_the_gain():
    assert share_of_gain(1.0, 0.6, 0.5) == pytest.approx(0.8)
    assert share_of_gain(1.0, 1.1, 0.5) == pytest.approx(-0.2)
    assert share_of_gain(1.0, 0.5, 0.5) == 1.0
    assert math.isnan(share_of_gain(1.0, 0.5, 0.996))  # its own training gains nothing: no share of that
    assert estimate([1.0, 3.0, None]) == Estimate(2.0, 1.0, 2)


def test_errors_are_over_seeds_and_with_one_seed_over_batches():
    groups = ("all", "tables", "trunk")

    def record(seed: int, *cosines: float) -> SeedRecord:
        probes = [
            {
                "step": k,
                "affinity": [[0.1, 0.01], [0.01, 0.1]],
                "cosines": {group: [[1, c], [c, 1]] for group in groups},
            }
            for k, c in enumerate(cosines)
        ]
        return SeedRecord(seed, (1.0, 1.0), ((0.5, 0.6), (0.9, 0.5)), probes)

    one = pairs(("a", "b"), [record(0, 0.1, 0.3)], groups)
    assert [(p.source, p.target) for p in one] == [("a", "b"), ("b", "a")]
    assert one[0].transfer == Estimate(pytest.approx(0.8), None, 1)
    assert one[1].transfer.mean == pytest.approx(0.2)
    assert one[0].cosine["all"] == Estimate(pytest.approx(0.2), pytest.approx(0.1), 2)
    two = pairs(("a", "b"), [record(0, 0.1, 0.3), record(1, -0.2, -0.2)], groups)[0]
    assert two.cosine["all"] == Estimate(pytest.approx(0.0), pytest.approx(0.2), 2)
    assert two.conflict["all"].mean == pytest.approx(0.5)
    # one convention: cells and sentences say half of the 95 % interval, t of one degree of freedom here
    assert pair_cells(two)[4] == "0 +- 2.541" and "± 2.54" in two.words
    assert two.to_json()["cosine"]["all"]["half"] == pytest.approx(12.706 * 0.2, rel=1e-4)
    assert "95 % interval over 2 seeds" in intervals(2) and "probed batches" in intervals(1, "+-")
    assert "serves b nearly as well" in two.words and "show no clear common direction" in two.words


def test_the_model_alone_has_at_least_the_weights_that_one_task_sees():
    for name in ("shared_bottom", "omoe", "mmoe", "snr", "ple"):
        model = ModelConfig(name=name, hidden=(32,))  # type: ignore[arg-type]
        one = alone(model)
        assert one.name == "single" and one.hidden[0] >= 32 and one.hidden[-1] == 8
        assert measured(model).name == (name if name not in ("snr", "ple") else "shared_bottom")
    assert alone(ModelConfig(name="ple")).hidden == (128, 128, 8)
    assert measured(ModelConfig(name="ple")).hidden == (128, 128)
    assert alone(ModelConfig(name="dnn")) == ModelConfig(name="dnn")


def planted(folder: Path) -> Path:
    """Two labels that are the same function, and one that is noise; numbers only."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 6))
    y = np.sin(2 * x[:, 0] + x[:, 1]) * 2 + x[:, 2]
    frame = pd.DataFrame({f"x{k}": x[:, k] for k in range(6)})
    frame["same"], frame["again"], frame["noise"] = y, y, rng.normal(size=3000)
    frame.to_csv(folder / "log.csv", index=False)
    return folder / "log.csv"


CONFIG = """
run: {run}
threads: 1
data:
  path: {log}
  labels: [{{name: same, kind: regression}}, {{name: again, kind: regression}}, {{name: noise, kind: regression}}]
  slots: [{slots}]
  split: {{by: random, valid: 0.3, test: 0.1}}
model: {{name: shared_bottom, hidden: [16], sharing: {{towers: []}}}}
pretrain: {{batch: 128, epochs: 16, evals_per_epoch: 1, optimizer: {{dense: {{lr: 2e-2}}}}}}
"""


def test_transfer_is_one_from_the_same_task_and_nothing_from_noise(tmp_path, capsys):
    slots = ", ".join(f"{{name: x{k}, kind: value}}" for k in range(6))
    text = CONFIG.format(run=tmp_path / "run", log=planted(tmp_path), slots=slots)
    config = load_config(text, [], "test").config
    result, found = relate(config, Question((0, 1)), Progress("plain"))
    by = {(p.source, p.target): p for p in found}
    assert len(by) == 6
    for pair in (by["same", "again"], by["again", "same"]):
        assert pair.transfer.mean == pytest.approx(1.0, abs=0.1)
        assert pair.cosine["all"].mean > 0.3 and pair.affinity.mean > 0
        assert pair.cosine["tables"].mean is None  # there are none
    for target in ("same", "again"):
        assert abs(by["noise", target].transfer.mean) < 0.35
    assert by["same", "noise"].transfer.mean is None  # nothing can be learned of it
    said = capsys.readouterr().err
    assert (
        "16 trainings (2 seeds x (3 shared parts and the heads on each, heads on a random one, all together)), each of"
        in said
    )

    folder = tmp_path / "run" / "relate"
    page = (folder / "relate.html").read_text()
    assert page.count("<svg") == 5 and "http" not in page.split("</style>")[1] and "<script" not in page
    assert all(pair.words.split("(")[0] in page for pair in found)
    assert json.loads((folder / "relate.json").read_text())["pairs"][0]["words"] == found[0].words
    kept = {p: p.stat().st_mtime_ns for p in (folder / "parts").iterdir()}
    assert len(kept) == 10
    again, _ = relate(config, Question((0, 1)), Progress("plain"))
    assert again == result and {p: p.stat().st_mtime_ns for p in (folder / "parts").iterdir()} == kept
    assert "all are done" in capsys.readouterr().err


def test_one_label_has_no_pairs(tiny_log, tmp_path):
    from conftest import tiny_config

    with pytest.raises(ConfigError, match="found 1, expected two or more"):
        relate(tiny_config(tiny_log, tmp_path / "run"), Question((0,)), Progress("quiet"))


def test_the_command_says_a_sentence_a_pair(tiny_log, tmp_path):
    config = tmp_path / "two.yaml"
    config.write_text(
        f"run: {tmp_path / 'run'}\nthreads: 1\ndata:\n  path: {tiny_log}\n  labels: [click, {{name: old, column: age, "
        "above: 40}]\n  slots: [user, item]\nmodel: {name: ple, width: 4, "
        "sharing: {own_experts: 1, shared_experts: 1}}\n"
        "pretrain: {batch: 256, epochs: 1}\n"
    )
    done = CliRunner().invoke(app, ["relate", str(config), "--seeds", "0"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "click for old: " in done.stdout and "old for click: " in done.stdout
    found = json.loads((tmp_path / "run" / "relate" / "relate.json").read_text())
    assert found["model"]["name"] == "shared_bottom" and found["model"]["hidden"] == [32, 32]
    assert found["pairs"][0]["cosine"]["tables"]["n"] > 1
