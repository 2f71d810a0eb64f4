"""Refresh: hysteresis, rows by id value, and a live model that reads what it read."""

import json
import shutil

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
from autodim.embedding.migrate import NEW, carry_tables, row_map, uniform_tables
from autodim.embedding.migrate_state import carry_state
from autodim.embedding.tables import Tables
from autodim.errors import ConfigError
from autodim.optim.build import build_rules
from autodim.optim.lazy_adam import LazyAdam
from autodim.stages.live_state import live_start
from autodim.stages.migrate_tables import Stored, changed
from autodim.stages.model_folder import load_network
from autodim.stages.predict import predict
from autodim.stages.prepare import open_log
from autodim.stages.refresh import refresh
from autodim.stages.retrain import retrain, start_network
from autodim.stages.search import search
from autodim.stages.session import Session
from autodim.training.checkpoints import load_state, states_of
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
    config = tiny_config(
        tiny_log, folder / "old", "prune.strategy=spectral", "retrain.epochs=1", "retrain.keep_state=true"
    )
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


def test_ids_that_the_new_log_does_not_have_are_told_with_what_they_were_of_the_old_one(runs):
    old, folder, found = runs
    before, after = open_log(old), open_log(_run(folder))
    for table in (t.name for t in before.tables):
        values = before.vocabulary(table).values.to_pylist()
        gone = set(values) - set(after.vocabulary(table).values.to_pylist())
        ids, share = found.lost.get(table, (0, 0.0))
        assert ids == len(gone)
        counts = before.counts(table).double()
        lost = sum(float(counts[1 + k]) for k, v in enumerate(values) if v in gone)
        assert share == pytest.approx(lost / float(counts.sum()))


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


def state_of(folder):
    return states_of(*load_state(folder / "optimizer"))


def test_optimizer_state_goes_with_the_live_model(runs):
    """What keeps its width keeps its state to the bit, row by value; the dense side keeps all of it."""
    old, folder, found = runs
    new = _run(folder)
    assert found.kept_state and json.loads((folder / "new" / "refresh.json").read_text())["kept_state"]
    before, after = state_of(old.stage("retrain")), state_of(new.stage("prune"))
    one, other = (load_network(r.stage(s) / "model")[0] for r, s in ((old, "retrain"), (new, "prune")))
    same = {c.table for c in found.changes if c.after == c.before}
    checked = 0
    for block in other.tables.layout.blocks:
        source = one.tables.layout.blocks_of(block.table)[0]
        if block.table not in same or not block.width:
            continue
        rows = row_map(open_log(old).vocabulary(block.table), open_log(new).vocabulary(block.table))
        for name in ("exp_avg", "exp_avg_sq"):
            was, now = (
                state[0][[p is t.group_of(b).weight for p in t.table_parameters()].index(True)][name][
                    t.group_of(b).rows_of(b)
                ]
                for state, t, b in ((before, one.tables, source), (after, other.tables, block))
            )
            assert torch.equal(now[rows != NEW], was[rows[rows != NEW]])
            checked += int(bool(now.any()))
    assert checked
    for k, parameter in enumerate(one.model.parameters()):
        assert before[1][k]["exp_avg"].shape == parameter.shape
        assert all(torch.equal(torch.as_tensor(after[1][k][n]), torch.as_tensor(v)) for n, v in before[1][k].items())


def test_the_retrain_goes_on_with_the_migrated_state(runs, tmp_path):
    """Momenta are there and the steps are counted on. Other rules start fresh."""
    _, folder, found = runs
    new = _run(folder)
    log = open_log(new)
    network = start_network(new, log, found.allocation, True, 0, CPU)
    rules = build_rules(new.config.retrain.optimizer, network)
    start = live_start(new.stage("prune"), new.config.retrain.optimizer, CPU)
    start(rules.optimizers)
    states = state_of(new.stage("prune"))
    tables, dense = rules.optimizers
    for place, own in states[0].items():
        kept = tables.state[network.tables.table_parameters()[place]]
        assert kept["step"] == own["step"] > 0 and torch.equal(kept["exp_avg"], own["exp_avg"])
    assert all(float(dense.state[network.dense_parameters()[k]]["step"]) > 0 for k in states[1])
    other = new.config.retrain.optimizer
    adagrad = other.model_copy(update={"tables": other.tables.model_copy(update={"name": "adagrad"})})
    assert live_start(new.stage("prune"), adagrad, CPU) is None
    # the retrain of the run does it: from fresh state its first evaluation is another
    losses = []
    for keep in (True, False):
        folder_of = tmp_path / str(keep)
        shutil.copytree(folder / "new", folder_of)
        if not keep:
            shutil.rmtree(folder_of / "prune" / "optimizer")
        run = type(new)(folder_of, new.config)
        retrain(run, log, CPU)
        losses.append(json.loads((run.stage("retrain") / "history.json").read_text())[1]["train_loss"])  # 0: the start
    assert losses[0] != losses[1] and abs(losses[0] - losses[1]) < 0.05


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
        assert state_of(tmp_path / "r" / "prune")[0]
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
