"""Widening: what is saturated, the first loss, the budget, and gradients in the new dimensions."""

from dataclasses import replace

import pytest
import torch
from conftest import tiny_config

from autodim.config.schema import BlocksConfig, ModelConfig
from autodim.data.batch import Batch
from autodim.dimension.allocation import Allocation
from autodim.dimension.entry import Entry
from autodim.dimension.saturation import saturated, saturation_notes
from autodim.embedding.layout import Slot, Table, uniform_layout
from autodim.embedding.tables import Tables
from autodim.embedding.vectors import Stacked
from autodim.errors import BudgetError, ConfigError
from autodim.models import MODELS, build_model
from autodim.stages.model_folder import load_network
from autodim.stages.predict import predict
from autodim.stages.prepare import open_log
from autodim.stages.prune import cut_for, problem_of
from autodim.stages.prune import prune as stages_prune
from autodim.stages.scores import cached_score
from autodim.stages.search import search
from autodim.stages.session import Session
from autodim.stages.widen import Wish, items_to_widen, widen, widened_network, wider_allocation
from autodim.stages.widen_fill import linear_columns
from autodim.training.losses import task_losses
from autodim.training.network import Network
from autodim.training.progress import Progress
from autodim.training.seeds import generator
from autodim.training.step import Step
from autodim.training.widen import widened_state

QUIET = Progress("quiet")
CPU = Session(torch.device("cpu"), QUIET)


@pytest.fixture(scope="module")
def run(tiny_log, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    config = tiny_config(
        tiny_log, folder, "prune.strategy=spectral", "prune.budget.share=0.8", "retrain.epochs=1", "model.width=4"
    )
    return search(config, QUIET)


def one(width, scores, rows=100, projected=False):
    entry = Entry("a", ("a",), 0, rows, width, projected=projected, scores=scores)
    return Allocation("spectral", "params", 1, 1, 1, 4, (entry,))


def test_saturated_means_all_dimensions_and_a_last_one_that_counts():
    assert saturated(one(4, (4.0, 3.0, 2.0, 1.0)))
    assert "is saturated" in saturation_notes(saturated(one(4, (4.0, 3.0, 2.0, 1.0))))[0]
    assert not saturated(one(4, (9.0, 3.0, 2.0, 0.1)))  # the last is worth 3 % of the mean
    assert not saturated(one(3, (4.0, 3.0, 2.0, 1.0), projected=True))
    assert not saturated(one(4, (4.0, 3.0, 2.0, 1.0), rows=4))  # no more dimensions than rows
    assert not saturated(one(4, None))


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("product", ["inner", "outer"])
def test_every_model_computes_the_same_with_zeros_in_the_new_dimensions(name, product):
    config = ModelConfig(name=name, width=4, hidden=(8, 6), product=product)
    old = build_model(config, 3, 2, 2, seed=1).eval()
    with torch.no_grad():
        for parameter in old.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator(0)))
    new = build_model(config.model_copy(update={"width": 7}), 3, 2, 2, seed=2).eval()
    widened_state(old, new, 3, 4, 7)
    vectors = torch.randn(5, 3, 4, generator=generator(3))
    linear, numeric = torch.randn(5, 3, generator=generator(4)), torch.randn(5, 2, generator=generator(5))
    wide = torch.nn.functional.pad(vectors, (0, 3)).requires_grad_()
    found = new(Stacked(wide), linear, numeric)
    torch.testing.assert_close(found, old(Stacked(vectors), linear, numeric), rtol=1e-5, atol=1e-4)
    found.square().sum().backward()
    if name != "fm":  # products alone have no gradient where every slot is zero
        assert wide.grad[:, :, 4:].abs().sum() > 0


def test_the_first_loss_is_that_of_the_same_cut_at_the_old_width(run):
    log = open_log(run)
    uniform, _ = load_network(run.stage("pretrain") / "model")
    before = Allocation.from_yaml((run.stage("prune") / "widths.yaml").read_text())
    statistics, means = cached_score(run, uniform, log, CPU, {})
    wide = wider_allocation(run, log, before, statistics, {"item"}, 7)
    assert wide.widths["item"] == 7 and wide.spent <= before.asked and wide.common == 7
    assert wide.layout(log.slots, log.tables).parameters == wide.spent
    network = widened_network(run, uniform, wide, log, statistics, means, seed=0)
    narrow = replace(
        wide,
        common=4,
        entries=tuple(replace(e, width=4) if not e.projected and e.width > 4 else e for e in wide.entries),
    )
    entries = tuple(replace(e, projected=False, bias=False) if e.width == 4 else e for e in narrow.entries)
    same = cut_for(run, uniform, replace(narrow, entries=entries), log, CPU)
    batch = log.part("test").batch(slice(0, 10**6))
    torch.testing.assert_close(network.eval()(batch), same.eval()(batch), rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        loss = [float(task_losses(n(batch), batch.labels, False).sum()) for n in (network, same)]
    assert loss[0] == pytest.approx(loss[1], abs=1e-6)


def test_a_block_of_rows_is_widened_alone(run, tmp_path):
    """The head gets W columns, the tail is cut as ever; the first loss is that of the same cut at the old width."""
    log = open_log(run)
    prune = run.config.prune.model_copy(
        update={"blocks": BlocksConfig(slots=("user", "item"), shares=(0.4,), min_rows=1)}
    )
    config = run.config.model_copy(update={"prune": prune})
    other = type(run)(tmp_path / "b", config, {n: run.stage(n) for n in ("prepare", "pretrain")})
    before = stages_prune(other, log, CPU)
    uniform, _ = load_network(run.stage("pretrain") / "model")
    statistics, means = cached_score(other, uniform, log, CPU)
    items = problem_of(config, log, "")
    head, tail = (n for n in items.limits if n.startswith("item["))
    wide = wider_allocation(other, log, before, statistics, {head}, 7)
    own = {(e.start, e.stop): e for e in wide.entries if e.table == "item"}
    assert own[items.span(head)[1:]].width == 7 and own[items.span(tail)[1:]].width < 7
    assert wide.spent <= before.asked and wide.layout(log.slots, log.tables).parameters == wide.spent
    network = widened_network(other, uniform, wide, log, statistics, means, seed=0)
    entries = tuple(
        replace(e, width=4, projected=False, bias=False) if not e.projected and e.width >= 4 else e
        for e in wide.entries
    )
    same = cut_for(other, uniform, replace(wide, common=4, entries=entries), log, CPU)
    batch = log.part("test").batch(slice(0, 10**6))
    torch.testing.assert_close(network.eval()(batch), same.eval()(batch), rtol=1e-4, atol=1e-4)
    results = widen(other, log, CPU, Wish(6, ("item",), "linear"))
    assert results["spent"] <= results["asked"]
    trained, _ = load_network(other.stage("widen") / "model")
    assert [b.width for b in trained.tables.layout.blocks_of("item")] == [6]  # both blocks whole: one again
    assert items_to_widen(before, items, ("user",)) == {n for n in items.limits if n.startswith("user[")}
    whole = replace(
        before, entries=tuple(replace(e, width=4, projected=False, scores=(1.0,) * 4) for e in before.entries)
    )
    assert items_to_widen(whole, items, ()) == {n for n, c in items.limits.items() if c.rows > 4}


def test_widen_trains_saves_and_predicts(run, tiny_log):
    results = widen(run, open_log(run), CPU, Wish(6, ("item",)))
    assert results["widths"]["item"] == 6 and results["spent"] <= results["asked"]
    network, about = load_network(run.stage("widen") / "model")
    assert network.tables.layout.common == about["model"]["width"] == 6
    weight = network.tables.read("item")["weight"]
    assert weight.shape[1] == 6 and weight[:, 4:].abs().sum() > 0, "the new dimensions have learnt"
    assert predict(run.folder, tiny_log, torch.device("cpu"), "wide")["click"].between(0, 1).all()
    assert widen(run, open_log(run), CPU, Wish(6, ("item",))) == results  # up to date


def test_what_cannot_be_widened_is_refused(run):
    log = open_log(run)
    with pytest.raises(ConfigError, match="more than the uniform width"):
        widen(run, log, CPU, Wish(4, ("user",)))
    with pytest.raises(ConfigError, match="unknown slot"):
        widen(run, log, CPU, Wish(8, ("usr",)))
    with pytest.raises(BudgetError):
        widen(run, log, CPU, Wish(64, ("user", "item")))


def test_linear_columns_have_the_old_spread_over_the_training_rows():
    weight = torch.randn(50, 4, generator=generator(0)) * torch.tensor([1.0, 2.0, 3.0, 4.0]) + 5
    counts = torch.arange(50)
    new = linear_columns(weight, 3, counts, generator(1)).double()
    share = counts.double() / counts.sum()
    mean = share @ new
    spread = (share @ (new - mean).square()).sqrt()
    old = weight.double() - share @ weight.double()
    usual = (share @ old.square()).mean().sqrt()
    torch.testing.assert_close(mean, torch.zeros(3).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(spread, usual.expand(3), rtol=1e-4, atol=1e-4)


def test_fm_learns_new_dimensions_from_one_anchored_slot():
    """One slot's new columns are drawn: the loss stays, and every other slot gets a gradient there."""
    slots, tables = (Slot("a", "a"), Slot("b", "b")), (Table("a", 5), Table("b", 6))
    network = Network(Tables(uniform_layout(slots, tables, 4)), build_model(ModelConfig(name="fm", width=4), 2, 0))
    network.tables.initialise(1.0, generator(0))
    network.tables.groups[0].weight.data[:, 2:] = 0
    batch = Batch(torch.tensor([[1, 2], [3, 4]]), torch.zeros(2, 0), torch.tensor([[0.0], [1.0]]))
    before = network(batch)
    rows = network.tables.groups[0].rows_of(network.tables.layout.blocks[0])
    network.tables.groups[0].weight.data[rows, 2:] = torch.randn(5, 2, generator=generator(1))
    torch.testing.assert_close(network(batch), before, rtol=1e-5, atol=1e-5)
    Step(network, [torch.optim.SGD(network.parameters(), lr=1.0)])(batch, 0)
    other = network.tables.read("b")["weight"]
    assert other[[2, 4], 2:].abs().min() > 0
