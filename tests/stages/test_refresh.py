"""Refresh: hysteresis, rows by id value, and a live model that reads what it read."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from conftest import tiny_config, tiny_frame

from autodim.config.schema import BudgetConfig, PruneConfig
from autodim.data.vocabulary import Vocabulary
from autodim.dimension.allocation import Allocation
from autodim.dimension.entry import Entry
from autodim.dimension.moments import Moments
from autodim.dimension.problem import make_problem
from autodim.dimension.refresh import decide
from autodim.embedding.layout import Block, Layout, Slot, Table
from autodim.embedding.migrate import NEW, carry_state, carry_tables, row_map, uniform_tables
from autodim.embedding.tables import Tables
from autodim.errors import ConfigError
from autodim.optim.lazy_adam import LazyAdam
from autodim.stages.model_folder import load_network
from autodim.stages.predict import predict
from autodim.stages.prepare import open_log
from autodim.stages.refresh import Stored, changed, refresh
from autodim.stages.retrain import start_network
from autodim.stages.search import search
from autodim.stages.session import Session
from autodim.training.progress import Progress
from autodim.training.seeds import generator

QUIET = Progress("quiet")
CPU = Session(torch.device("cpu"), QUIET)


def vocabulary(*values):
    return Vocabulary(pa.array(values, pa.large_string()), np.zeros(len(values) + 1, np.int64))


def test_rows_are_matched_by_value_and_the_missing_value_too():
    old, new = vocabulary("x", None, "y"), vocabulary("y", "z", "x", None)
    assert row_map(old, new).tolist() == [0, 3, NEW, 1, 2]


def curves(*tables):
    slots, rows = tuple(Slot(t, t) for t in tables), tuple(Table(t, 100) for t in tables)
    settings = PruneConfig(budget=BudgetConfig(share=1.0))
    return make_problem(slots, rows, 8, settings).limits


def test_hysteresis_grows_for_a_gain_and_cuts_only_for_the_budget():
    limits = curves("a", "b", "c")
    loss = {t: np.linspace(scale, 0, 9) for t, scale in (("a", 1.0), ("b", 1e-6), ("c", 0.5))}
    cost = {t: dict(zip(c.widths.tolist(), c.costs.tolist(), strict=True)) for t, c in limits.items()}
    before, proposed = {"a": 2, "b": 2, "c": 4}, {"a": 4, "b": 4, "c": 1}
    tight = cost["a"][4] + cost["b"][2] + cost["c"][1]
    chosen, changes = decide(limits, before, proposed, loss, tight, 1e-4)
    assert [c.after for c in changes] == [4, 2, 1]
    assert [c.decision for c in changes] == ["grown", "kept (gain too small)", "cut"]
    assert sum(int(c.costs[p]) for c, p in zip(limits.values(), chosen, strict=True)) <= tight
    assert changes[0].gain == pytest.approx(0.25) and changes[2].gain == pytest.approx(-0.1875)
    roomy = decide(limits, before, proposed, loss, 10**6, 1e-4)[1]
    assert [c.decision for c in roomy] == ["grown", "kept (gain too small)", "kept (no need to cut)"]
    nothing = decide(limits, before, proposed, loss, 10**6, 10.0)[1]
    assert [c.after for c in nothing] == [2, 2, 4]


SLOTS, OLD, NEWER = (Slot("a", "a"), Slot("b", "b")), (Table("a", 4), Table("b", 3)), (Table("a", 5), Table("b", 3))
MAPS = {"a": torch.tensor([0, 3, NEW, 1, 2]), "b": torch.tensor([0, 2, 1])}


def trained(layout, steps=3):
    from autodim.data.batch import Batch

    tables = Tables(layout, linear=True)
    tables.initialise(1.0, generator(0))
    optimizer = LazyAdam(tables.table_parameters(), lr=0.1)
    for k in range(steps):
        batch = Batch(torch.tensor([[1, 1], [2 + k % 2, 2]]), torch.zeros(2, 0), torch.zeros(2, 1))
        lookup = tables.lookup(batch, learn=True)
        vectors, linear = lookup.inputs()
        loss = vectors.stack().square().sum() + linear.sum()
        lookup.assign(torch.autograd.grad(loss, lookup.leaves))
        optimizer.step()
    return tables, optimizer


def mixed(tables, widths):
    blocks = tuple(
        Block(t.name, 0, t.rows, widths[t.name], projected=widths[t.name] < 4, bias=widths[t.name] < 4) for t in tables
    )
    return Layout(4, SLOTS, tables, blocks)


@pytest.mark.parametrize("widths", [{"a": 4, "b": 4}, {"a": 2, "b": 4}, {"a": 2, "b": 2}])
def test_tables_and_optimizer_state_go_with_the_value(widths):
    old, optimizer = trained(mixed(OLD, widths))
    new = Tables(mixed(NEWER, widths), linear=True)
    carry_tables(old, new, MAPS, {"a", "b"})
    state = {i: optimizer.state[p] for i, p in enumerate(old.table_parameters())}
    tensors = {i: {k: v for k, v in s.items() if isinstance(v, torch.Tensor)} for i, s in state.items()}
    carried = carry_state(old, new, MAPS, tensors)
    for table, rows in MAPS.items():
        for name in ("weight", "linear"):
            was, now = old.read(table)[name], new.read(table)[name]
            assert torch.equal(now, was[rows.clamp(min=0)])  # a new value begins as the unknown id's row
        if widths[table] < 4:
            assert torch.equal(new.read(table)["projection"], old.read(table)["projection"])

        def moment(tables, source, kind, table=table):
            place = 0
            for group in tables.groups:
                for name in ("weight", "linear"):
                    own = [b for b in group.blocks if b.table == table]
                    if own and name == "weight":
                        return source[place][kind][group.rows_of(own[0])]
                    place += 1

        for kind in ("exp_avg", "exp_avg_sq"):
            was, now = moment(old, tensors, kind), moment(new, carried, kind)
            known = rows != NEW
            assert torch.equal(now[known], was[rows[known]])
            if kind == "exp_avg_sq" and not known.all():
                met = was[was.sum(1) > 0]
                torch.testing.assert_close(now[~known], met.mean().expand_as(now[~known]))


def test_state_of_a_table_that_changes_its_width_starts_at_the_mean():
    old, optimizer = trained(mixed(OLD, {"a": 4, "b": 4}))
    new = Tables(mixed(NEWER, {"a": 2, "b": 4}), linear=True)
    state = {i: {"sum": optimizer.state[p]["exp_avg_sq"]} for i, p in enumerate(old.table_parameters())}
    carried = carry_state(old, new, MAPS, state)
    group = new.group_of(new.layout.blocks[0])
    place = [p is group.weight for p in new.table_parameters()].index(True)
    values = carried[place]["sum"][group.rows_of(new.layout.blocks[0])]
    assert values.shape == (5, 2) and values.unique().numel() == 1 and values[0, 0] > 0


def test_uniform_tables_read_the_same_vectors():
    old, _ = trained(mixed(OLD, {"a": 2, "b": 4}))
    with torch.no_grad():
        old.bias.normal_(generator=generator(1))
    from autodim.data.batch import Batch

    batch = Batch(torch.tensor([[1, 1], [2, 0]]), torch.zeros(2, 0), torch.zeros(2, 1))
    one, other = (t.lookup(batch).inputs() for t in (old, uniform_tables(old)))
    torch.testing.assert_close(one[0].stack(), other[0].stack())
    assert torch.equal(one[1], other[1])


@pytest.mark.parametrize("width", [0, 1, 3, 4])
def test_a_changed_table_means_what_it_meant(width):
    """Grown: the same vectors exactly. Narrower: the best of that rank, about the mean."""
    source = generator(2)
    weight, projection = torch.randn(50, 2, generator=source), torch.randn(2, 4, generator=source)
    vectors, constant = weight @ projection, torch.randn(4, generator=source)
    mean = vectors.mean(0).double().numpy()
    covariance = np.cov(vectors.double().numpy().T, bias=True)
    moments = {"a": Moments(50, mean, np.zeros(4), covariance, np.zeros((4, 4)), np.eye(4))}
    entry = Entry("a", ("a",), 0, 50, width, projected=0 < width < 4, bias=width < 4)
    found = changed(entry, Stored(vectors, weight, projection), {"a": constant}, moments, 1e-9, source)
    now = found.constants.get("a", torch.zeros(4)) * (width < 4)
    if found.weight is not None:
        now = now + (found.weight if found.projection is None else found.weight @ found.projection)
    before = vectors + constant
    if width in (3, 4):
        torch.testing.assert_close(now, before, rtol=1e-5, atol=1e-5)
    elif width == 0:
        torch.testing.assert_close(now, before.mean(0), rtol=1e-4, atol=1e-4)
    else:
        left = torch.linalg.svdvals(vectors - vectors.mean(0))[1]  # what the best rank-1 approximation leaves
        assert float((now - before).norm()) == pytest.approx(float(left), rel=1e-3)


@pytest.fixture(scope="module")
def runs(tiny_log, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    config = tiny_config(tiny_log, folder / "old", "prune.strategy=spectral", "retrain.epochs=1")
    old = search(config, QUIET)
    frame = tiny_frame(3000, seed=0)
    frame["user"] = frame["user"].replace({"u1": "newcomer", "u2": "u99"})
    frame = frame.iloc[::-1][:2500]
    frame.to_csv(folder / "new.csv", index=False)
    found = refresh(old, folder / "new", folder / "new.csv", CPU, min_gain=10.0)
    return old, folder, found


def test_a_refresh_that_changes_nothing_predicts_what_the_live_model_did(runs):
    old, folder, found = runs
    assert all(c.after == c.before for c in found.changes if "need" not in c.decision and c.decision != "cut")
    kept = [c for c in found.changes if c.after != c.before]
    rows = pd.read_csv(folder / "new.csv", dtype=str)
    known = rows[~rows["user"].isin(["newcomer", "u99"])][:200].copy()
    known["age"] = known["age"].astype(float)
    if not kept:  # numeric columns are scaled by each log's own mean and deviation: hold them at the means
        ages = [open_log(r).manifest.numeric[0].mean for r in (old, _run(folder))]
        one, other = known.assign(age=ages[0]), known.assign(age=ages[1])
        before = predict(old.folder, one, torch.device("cpu"))
        after = predict(folder / "new", other, torch.device("cpu"), "cut")
        np.testing.assert_allclose(after["click"], before["click"], rtol=2e-3, atol=2e-3)
    assert found.allocation.spent <= found.allocation.asked
    assert found.matched["user"] < 1 and found.matched["item"] == 1


def _run(folder):
    from autodim.stages.predict import open_run

    return open_run(folder / "new")


def test_the_retrain_goes_on_from_the_live_model_and_search_finds_the_stages_done(runs):
    _, folder, found = runs
    new = _run(folder)
    log = open_log(new)
    live, _ = load_network(new.stage("prune") / "model")
    start = start_network(new, log, found.allocation, True, 0, CPU)
    batch = log.part("test").batch(slice(0, 10**6))
    assert torch.equal(start.eval()(batch), live.eval()(batch))
    records = {s: (new.stage(s) / "done.json").read_bytes() for s in ("pretrain", "prune")}
    search(new.config, QUIET)
    assert records == {s: (new.stage(s) / "done.json").read_bytes() for s in records}
    assert json.loads((folder / "new" / "refresh.json").read_text())["tables"][0]["table"] == "user"


def test_a_refresh_follows_the_gain(runs, tmp_path):
    """With no threshold, growth is taken; the spent budget still holds and the widths are the decided ones."""
    old, folder, _ = runs
    found = refresh(old, tmp_path / "r", folder / "new.csv", CPU, min_gain=0.0)
    allocation = Allocation.from_yaml((tmp_path / "r" / "widths.yaml").read_text())
    assert {c.table: c.after for c in found.changes} == {e.table: e.width for e in allocation.entries}
    network, _ = load_network(tmp_path / "r" / "prune" / "model")
    assert network.tables.layout.parameters == allocation.spent <= allocation.asked


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_widths_change_where_the_budget_does(runs, tmp_path, share):
    """Much more budget: slots grow and the live model computes the same. Less: slots are cut until the budget holds."""
    old, folder, _ = runs
    budget = old.config.prune.budget.model_copy(update={"share": share})
    config = old.config.model_copy(update={"prune": old.config.prune.model_copy(update={"budget": budget})})
    found = refresh(type(old)(old.folder, config), tmp_path / "r", folder / "new.csv", CPU, min_gain=0.0)
    network, _ = load_network(tmp_path / "r" / "prune" / "model")
    assert network.tables.layout.parameters == found.allocation.spent <= found.allocation.asked
    decisions = {c.decision for c in found.changes}
    batch = open_log(_run(folder)).part("test").batch(slice(0, 10**6))  # the same log, the same ids
    same, _ = load_network(folder / "new" / "prune" / "model")
    with torch.no_grad():
        one, other = network.eval()(batch), same.eval()(batch)
    if share > 0.4:
        assert "grown" in decisions and "cut" not in decisions
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    else:
        assert "cut" in decisions and "grown" not in decisions
        assert float(torch.corrcoef(torch.stack([one[:, 0], other[:, 0]]))[0, 1]) > 0.5


def test_what_cannot_be_refreshed_is_refused(runs):
    old, folder, _ = runs
    with pytest.raises(ConfigError, match="itself"):
        refresh(old, old.folder, folder / "new.csv", CPU)
    for change, words in (
        ({"budget": BudgetConfig(max_auc_drop=0.01)}, "budget is a quality"),
        ({"precision": "auto"}, "precision is auto"),
        ({"strategy": "uniform_int8"}, "natively uniform"),
    ):
        config = old.config.model_copy(update={"prune": old.config.prune.model_copy(update=change)})
        with pytest.raises(ConfigError, match=words):
            refresh(type(old)(old.folder, config), old.folder / "never", folder / "new.csv", CPU)
