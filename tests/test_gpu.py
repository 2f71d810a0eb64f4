"""A CUDA device computes what the CPU computes: gradients, update rules, metrics, saliency, and the road to its end.

Tolerances are those of float32 summed in another order; TF32 is off wherever autodim sets up the device.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from bag_tables import SLOTS, TABLES, UNIFORM, D
from conftest import tiny_config, tiny_frame
from torch import Tensor, nn

import autodim
from autodim import artifact
from autodim.config.schema import DenseOptimizerConfig, ModelConfig, TrainConfig
from autodim.data.batch import Bag, Batch
from autodim.data.columns import Columns
from autodim.dimension.allocation import Allocation
from autodim.embedding.layout import Block, Layout, uniform_layout
from autodim.embedding.lookup import Lookup
from autodim.embedding.rows import unique_rows
from autodim.models import MODELS
from autodim.optim import build_dense_optimizer
from autodim.optim.methods import CLIPPERS, DENSE_OPTIMIZERS, PERTURBATIONS, TABLE_OPTIMIZERS
from autodim.optim.norm_clip import NormClip
from autodim.stages.model_folder import build_network, load_network
from autodim.stages.prepare import open_log
from autodim.stages.score import score
from autodim.stages.search import search
from autodim.stages.session import Session
from autodim.training.device import set_up
from autodim.training.evaluation import evaluate, predict
from autodim.training.interrupt import Interrupted, StopFlag
from autodim.training.loop import Training
from autodim.training.metrics import auc, evaluate_logits
from autodim.training.network import Network
from autodim.training.progress import Progress
from autodim.training.step import Step

GPU = "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
QUIET = Progress("quiet")
MIXED = Layout(
    D,
    SLOTS,
    TABLES,
    (
        Block("a", 0, 50, 2, projected=True, bias=True),
        Block("b", 0, 30, D),
        Block("tags", 0, 12, 2, projected=True),
        Block("d", 0, 5, 0, bias=True),
    ),
)


@pytest.fixture(autouse=True, scope="module")
def _exact() -> None:
    set_up(GPU, 1)


def columns(rows: int = 300, tasks: int = 2) -> Columns:
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 4, rows)
    labels = rng.integers(0, 2, (rows, tasks)).astype(np.float32)
    labels[rng.random((rows, tasks)) < 0.1] = np.nan
    return Columns.from_arrays(
        np.stack([rng.integers(0, n, rows) for n in (50, 30, 30, 5)], axis=1),
        rng.normal(size=(rows, 3)),
        labels,
        {"tags": (rng.integers(0, 12, lengths.sum()), np.concatenate([[0], lengths.cumsum()]))},
        ("a", "b", "c", "d"),
    )


def network(layout: Layout, name: str = "deepfm") -> Network:
    config = ModelConfig(name=name, width=D, hidden=(16, 8), init_std=0.5)
    built = build_network(config, layout, numeric=3, tasks=2, seed=1)
    if built.tables.bias is not None:
        nn.init.normal_(built.tables.bias, generator=torch.Generator().manual_seed(2))
    for parameter in built.tables.table_parameters():
        if parameter.shape[1] == 1:
            nn.init.normal_(parameter, generator=torch.Generator().manual_seed(3))
    return built


class Spy:
    """The last clipper: keeps what the rules are about to apply."""

    def clip(self, tables: Sequence[nn.Parameter], dense: Sequence[nn.Parameter], lookup: Lookup) -> None:
        self.tables = [p.grad.to_dense().cpu() for p in tables if p.grad is not None]
        self.dense = [p.grad.cpu() for p in dense if p.grad is not None]
        self.devices = {p.grad.device.type for p in (*tables, *dense) if p.grad is not None}


def near(found: Tensor, expected: Tensor, share: float = 1e-4) -> None:
    """Within a share of the largest number."""
    worst = (found.detach().cpu().double() - expected.detach().cpu().double()).abs().max().item()
    assert worst <= share * max(expected.abs().max().item(), 1e-6), worst


def first_step(device: str, layout: Layout, name: str, filling: str) -> tuple[Tensor, Spy]:
    spy = Spy()
    clippers = [
        *([CLIPPERS[filling](0.1) if filling == "norm" else CLIPPERS[filling]()] if filling in CLIPPERS else [])
    ]
    perturbation = PERTURBATIONS[filling]() if filling in PERTURBATIONS else None
    here = network(layout, name).to(device)
    step = Step(here, [], perturbation=perturbation, clippers=[*clippers, spy], missing=True)
    losses = step(columns().batch(slice(0, 300), device), seed=0)
    assert losses.device.type == device and spy.devices == {device}
    return losses.cpu(), spy


def same_first_step(layout: Layout, name: str, filling: str) -> None:
    expected, ours = first_step("cpu", layout, name, filling)
    found, theirs = first_step(GPU, layout, name, filling)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert len(theirs.tables) == len(ours.tables) > 0 and len(theirs.dense) == len(ours.dense) > 0
    for x, y in zip([*theirs.tables, *theirs.dense], [*ours.tables, *ours.dense], strict=True):
        near(x, y)


@pytest.mark.parametrize("layout", [UNIFORM, MIXED], ids=["uniform", "mixed"])
@pytest.mark.parametrize("name", MODELS)
def test_the_first_loss_and_all_gradients_are_the_cpus(name, layout):
    same_first_step(layout, name, "plain")


@pytest.mark.parametrize("filling", [*PERTURBATIONS, *CLIPPERS])
@pytest.mark.parametrize("layout", [UNIFORM, MIXED], ids=["uniform", "mixed"])
def test_second_passes_and_clippers_are_the_cpus(filling, layout):
    same_first_step(layout, "deepfm", filling)


def test_bfloat16_moves_the_loss_by_little():
    batch = columns().batch(slice(0, 300), GPU)
    exact, rough = (Step(network(MIXED).to(GPU), [], missing=True, bf16=b)(batch, seed=0) for b in (False, True))
    assert exact.dtype == rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=2e-2, atol=2e-2)
    assert not torch.equal(rough, exact)


@pytest.mark.parametrize("name", TABLE_OPTIMIZERS)
def test_a_rule_for_tables_makes_the_cpus_steps(name):
    generator = torch.Generator().manual_seed(0)
    cpu = nn.Parameter(torch.randn(40, 6, generator=generator))
    gpu = nn.Parameter(cpu.detach().clone().to(GPU))
    rules = [TABLE_OPTIMIZERS[name]([p], lr=0.05, l2=0.01) for p in (cpu, gpu)]
    for _ in range(6):
        rows = torch.randperm(40, generator=generator)[:15].sort().values
        values = torch.randn(15, 6, generator=generator)
        for parameter, rule in zip((cpu, gpu), rules, strict=True):
            at = parameter.device
            parameter.grad = torch.sparse_coo_tensor(
                rows[None].to(at), values.to(at), parameter.shape, check_invariants=True, is_coalesced=True
            )
            rule.step()
    near(gpu, cpu, 1e-5)
    states = [[v for v in r.state_dict()["state"].get(0, {}).values() if isinstance(v, Tensor)] for r in rules]
    for x, y in zip(*states[::-1], strict=True):
        assert x.device.type == GPU or x.dim() == 0
        near(x, y, 1e-5)


@pytest.mark.parametrize("name", DENSE_OPTIMIZERS)
def test_a_rule_for_everything_else_makes_the_cpus_steps(name):
    generator = torch.Generator().manual_seed(0)
    cpu = nn.Parameter(torch.randn(12, 6, generator=generator))
    gpu = nn.Parameter(cpu.detach().clone().to(GPU))
    config = DenseOptimizerConfig(name=name, lr=0.05, weight_decay=0.01)
    rules = [build_dense_optimizer(config, [p]) for p in (cpu, gpu)]
    for _ in range(6):
        gradient = torch.randn(12, 6, generator=generator)
        for parameter, rule in zip((cpu, gpu), rules, strict=True):
            parameter.grad = gradient.to(parameter.device)
            rule.step()
    near(gpu, cpu, 1e-5)


def test_unique_rows_and_batches_are_the_cpus():
    rows = torch.randint(0, 50, (1000,), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    values = torch.randn(1000, 3, generator=torch.Generator().manual_seed(1))
    cpu, gpu = unique_rows(rows), unique_rows(rows.to(GPU))
    assert torch.equal(cpu.rows, gpu.rows.cpu()) and torch.equal(cpu.counts, gpu.counts.cpu())
    near(gpu.sum(values.to(GPU)), cpu.sum(values), 1e-5)
    log = columns()
    there = log.to(GPU)
    for index in (torch.randperm(300)[:70], slice(40, 110)):
        expected, found = log.batch(index), there.batch(index)
        assert found.ids.device.type == found.bags["tags"].values.device.type == GPU
        pairs = [(getattr(expected, n), getattr(found, n)) for n in ("ids", "numeric", "labels")]
        bags: list[Bag] = [b.bags["tags"] for b in (expected, found)]
        pairs += [(bags[0].values, bags[1].values), (bags[0].offsets, bags[1].offsets)]
        for ours, theirs in pairs:
            torch.testing.assert_close(theirs.cpu(), ours, rtol=0, atol=0, equal_nan=True)


def test_metrics_are_the_cpus_with_ties_and_missing_labels():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randint(-20, 20, (5000, 2), generator=generator) / 4.0  # many ties
    labels = torch.bernoulli(logits.sigmoid(), generator=generator)
    labels[::7, 1] = torch.nan
    for ours, theirs in zip(
        evaluate_logits(logits, labels), evaluate_logits(logits.to(GPU), labels.to(GPU)), strict=True
    ):
        assert theirs.rows == ours.rows
        assert theirs.auc == pytest.approx(ours.auc, abs=1e-12)
        assert theirs.logloss == pytest.approx(ours.logloss, abs=1e-9)
        assert theirs.calibration == pytest.approx(ours.calibration, abs=1e-9)
    assert math.isnan(float(auc(logits[:, 0].to(GPU), torch.ones(5000, device=GPU))))


def test_logits_of_a_network_are_the_cpus():
    log = columns()
    for layout in (UNIFORM, MIXED):
        cpu = network(layout)
        gpu = copy.deepcopy(cpu).to(GPU)
        near(predict(gpu, log, torch.device(GPU), 64), predict(cpu, log, torch.device("cpu")), 1e-5)
        for ours, theirs in zip(
            evaluate(cpu, log, torch.device("cpu")), evaluate(gpu, log, torch.device(GPU)), strict=True
        ):
            assert theirs.auc == pytest.approx(ours.auc, abs=1e-3)


def test_saliency_is_the_cpus():
    log = columns()
    expected = score(network(UNIFORM), log, Session(torch.device("cpu")))
    found = score(network(UNIFORM).to(GPU), log, Session(torch.device(GPU)))
    assert found.keys() == expected.keys() and any(k.startswith("g/") for k in found)
    for key, value in expected.items():
        near(found[key], value)


def test_saliency_of_a_users_own_model_is_the_cpus():
    torch.manual_seed(0)
    model = nn.ModuleDict({"user": nn.Embedding(20, 4), "item": nn.EmbeddingBag(10, 4), "out": nn.Linear(8, 1)})

    def loss(model: nn.ModuleDict, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        vectors = torch.cat([model["user"](batch[0]), model["item"](batch[1])], dim=1)
        return nn.functional.binary_cross_entropy_with_logits(model["out"](vectors)[:, 0], batch[2])

    batches = [
        (torch.randint(20, (64,)), torch.randint(10, (64, 3)), torch.randint(2, (64,)).float()) for _ in range(4)
    ]
    found = []
    for device in ("cpu", GPU):
        here = copy.deepcopy(model).to(device)
        moved = [tuple(t.to(device) for t in b) for b in batches]
        found.append(autodim.saliency(here, loss, moved, {"user": here["user"], "item": here["item"]}))
    for ours, theirs in zip(found[0].values, found[1].values, strict=True):
        near(torch.from_numpy(theirs), torch.from_numpy(ours))
    assert autodim.allocate(found[0], {"user": 20, "item": 10}, "50% dims").widths == (
        autodim.allocate(found[1], {"user": 20, "item": 10}, "50% dims").widths
    )


# One evaluation a training: with several, a tie broken otherwise would choose another epoch and hide or feign a fault.
ONCE = ("model.dropout=0", *(f"{s}.{k}=1" for s in ("pretrain", "retrain") for k in ("epochs", "evals_per_epoch")))


@pytest.fixture(scope="module")
def roads(tiny_log, tmp_path_factory):
    """The same road on both devices: device -> run."""
    folder = tmp_path_factory.mktemp("roads")
    torch.cuda.reset_peak_memory_stats()
    found = {}
    for device in ("cpu", GPU):
        config = tiny_config(tiny_log, folder / device, *ONCE, "prune.zero=mean", f"device={device}")
        found[device] = search(config, QUIET)
    assert torch.cuda.max_memory_allocated() > 0
    return found


def test_the_road_ends_where_the_cpus_does(roads):
    results = {d: artifact.read_json(r.folder / "evaluate" / "results.json") for d, r in roads.items()}
    for ours, theirs in zip(results["cpu"]["models"], results[GPU]["models"], strict=True):
        assert {k: theirs[k] for k in ("name", "params", "dims", "train_bytes")} == {
            k: ours[k] for k in ("name", "params", "dims", "train_bytes")
        }
        for part in ("valid", "test"):
            for key in ("auc", "logloss", "calibration"):
                assert theirs[part][0][key] == pytest.approx(ours[part][0][key], abs=1e-3), (ours["name"], part, key)
    widths = {d: Allocation.from_yaml((r.folder / "widths.yaml").read_text()) for d, r in roads.items()}
    assert widths["cpu"].widths == widths[GPU].widths
    for ours, theirs in zip(widths["cpu"].entries, widths[GPU].entries, strict=True):
        assert theirs.kept == ours.kept and theirs.cost == ours.cost
        assert theirs.score == pytest.approx(ours.score, rel=1e-2, abs=1e-4)


def test_weights_after_an_epoch_are_near_the_cpus(roads):
    """On average: Adam's first step is the sign of a gradient, so a number whose gradient cancels may go either way."""
    ours, theirs = (load_network(roads[d].stage("pretrain") / "model")[0].state() for d in ("cpu", GPU))
    for name, weight in ours.items():
        assert float((theirs[name] - weight).abs().mean()) <= 1e-3, name


def test_predict_is_the_same_wherever_a_run_was_trained_and_is_asked(roads):
    frame = tiny_frame(200, seed=5).drop(columns="click")
    asked = {(d, on): autodim.open_run(r.folder).predict(frame, on) for d, r in roads.items() for on in ("cpu", GPU)}
    for trained in roads:
        cpu, gpu = asked[trained, "cpu"]["click"], asked[trained, GPU]["click"]
        assert np.abs(cpu - gpu).max() < 1e-5
    assert np.abs(asked["cpu", "cpu"]["click"] - asked[GPU, GPU]["click"]).max() < 1e-2


def test_a_warm_start_begins_at_the_cut_models_loss(roads):
    from autodim.stages.retrain import start_network
    from autodim.training.losses import task_losses

    run = roads[GPU]
    log = open_log(run)
    allocation = Allocation.from_yaml((run.stage("prune") / "widths.yaml").read_text())
    session = Session(torch.device(GPU))
    batch: Batch = log.part("valid").batch(slice(0, 500), GPU)
    started = start_network(run, log, allocation, True, 0, session).to(GPU).eval()
    cut = load_network(run.stage("prune") / "model", torch.device(GPU))[0].eval()
    first, expected = (float(task_losses(n(batch).detach(), batch.labels)) for n in (started, cut))
    assert first == pytest.approx(expected, abs=1e-6)


def test_an_interrupted_training_continues_on_the_gpu(roads, tmp_path):
    log = open_log(roads[GPU])
    parts = (log.part("train").to(GPU), log.part("valid").to(GPU))
    config = TrainConfig(batch=128, epochs=2, evals_per_epoch=2, patience=9)

    def training(folder: str) -> Training:
        layout = uniform_layout(log.slots, log.tables, 4)
        here = build_network(ModelConfig(width=4, hidden=(8,)), layout, 1, 1, seed=3).to(GPU)
        rules = [
            TABLE_OPTIMIZERS["lazy_adam"](here.tables.table_parameters(), lr=1e-2),
            build_dense_optimizer(DenseOptimizerConfig(), here.dense_parameters()),
        ]
        return Training(here, Step(here, rules, clippers=[NormClip(1.0)]), parts, config, 0, tmp_path / folder)

    whole = training("whole").run(QUIET, "whole")
    stop = StopFlag()
    stop.signum = 2
    for _ in range(3):  # one step each
        with pytest.raises(Interrupted):
            training("pieces").run(QUIET, "pieces", stop)
    pieces = training("pieces").run(QUIET, "pieces")
    assert [p.step for p in pieces.points] == [p.step for p in whole.points] and pieces.steps == whole.steps
    for ours, theirs in zip(whole.points, pieces.points, strict=True):
        assert theirs.valid_logloss == pytest.approx(ours.valid_logloss, abs=1e-3)
        assert theirs.train_loss == pytest.approx(ours.train_loss, abs=1e-3)
