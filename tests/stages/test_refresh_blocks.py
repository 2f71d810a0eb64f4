"""Refresh of a run whose tables are cut into blocks: what stays is the same to the bit, ids that move lose least."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny_config, tiny_frame

from autodim.config.schema import BudgetConfig
from autodim.data.batch import Batch
from autodim.dimension.allocation import Allocation
from autodim.dimension.blocks import spans_of
from autodim.embedding.layout import Block, Layout, Slot, Table
from autodim.embedding.migrate import NEW, row_map, uniform_tables
from autodim.embedding.tables import Tables
from autodim.errors import ConfigError
from autodim.stages.migrate_blocks import main_block, nearest_rows
from autodim.stages.model_folder import load_network
from autodim.stages.predict import open_run, predict
from autodim.stages.prepare import open_log
from autodim.stages.refresh import refresh
from autodim.stages.retrain import retrain
from autodim.stages.search import search
from autodim.stages.session import Session
from autodim.training.checkpoints import load_state, states_of
from autodim.training.progress import Progress
from autodim.training.seeds import generator

QUIET = Progress("quiet")
CPU = Session(torch.device("cpu"), QUIET)
BLOCKS = "prune.blocks={slots: [user, item, tags], shares: [0.3, 0.7], min_rows: 1}"


def random(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed, str(shape)))


def test_the_nearest_row_leaves_only_what_the_projection_cannot_say():
    """What remains is orthogonal to the projection in the metric; what the projection can say comes back exactly."""
    p, vectors, root = random(3, 6), random(20, 6), random(6, 6).double()
    metric = (root @ root.T).numpy()
    rows = nearest_rows(vectors, p, metric, 1e-9)
    left = (vectors - rows @ p).double() @ torch.from_numpy(metric) @ p.double().T
    torch.testing.assert_close(left, torch.zeros(20, 3).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(nearest_rows(rows @ p, p, metric, 1e-9), rows, rtol=1e-3, atol=1e-3)
    plain = nearest_rows(vectors, p, np.zeros((6, 6)), 1e-9)
    torch.testing.assert_close(plain, vectors @ torch.linalg.pinv(p), rtol=1e-3, atol=1e-4)


def test_a_block_goes_on_from_where_most_of_its_occurrences_were():
    old = [Block("a", 0, 2, 3), Block("a", 2, 6, 1)]
    rows = torch.tensor([1, 2, 3, NEW])
    assert main_block(old, rows, torch.tensor([10, 1, 1, 90])) is old[0]
    assert main_block(old, rows, torch.tensor([1, 10, 1, 90])) is old[1]
    assert main_block(old, torch.tensor([NEW, NEW]), torch.tensor([5, 5])) is old[1]


def test_whole_tables_read_what_blocks_read():
    blocks = (Block("a", 0, 2, 3, True, True), Block("a", 2, 5, 1, True, True), Block("a", 5, 7, 0, False, True))
    old = Tables(Layout(4, (Slot("a", "a"),), (Table("a", 7),), blocks), linear=True)
    with torch.no_grad():
        for k, parameter in enumerate(old.parameters()):
            parameter.copy_(random(*parameter.shape, seed=k))
    batch = Batch(torch.arange(7)[:, None], torch.zeros(7, 0), torch.zeros(7, 1))
    one, other = (t.lookup(batch).inputs() for t in (old, uniform_tables(old, ["a"])))
    torch.testing.assert_close(one[0].stack(), other[0].stack())
    assert torch.equal(one[1], other[1])


@pytest.fixture(scope="module")
def runs(tiny_log, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    settings = ("prune.strategy=spectral", "retrain.epochs=1", "retrain.keep_state=true", BLOCKS)
    old = search(tiny_config(tiny_log, folder / "old", *settings), QUIET)
    frame = tiny_frame(3000, seed=0)
    frame["user"] = frame["user"].replace({"u1": "newcomer"})
    often = frame[frame["user"].isin([f"u{k}" for k in range(30, 40)])]  # once rare or not: other blocks now
    pd.concat([frame, often]).sample(frac=1, random_state=0).to_csv(folder / "new.csv", index=False)
    return old, folder


def spans(folder):
    return spans_of(Allocation.from_yaml((folder / "widths.yaml").read_text()).entries)


def test_the_same_log_gives_the_same_model_and_state(runs, tiny_log, tmp_path):
    old, _ = runs
    found = refresh(old, tmp_path / "r", tiny_log, CPU, min_gain=10.0)
    assert found.kept_state and all(c.after == c.before for c in found.changes) and set(found.matched.values()) == {1.0}
    assert any("[" in c.table for c in found.changes)
    one, other = (load_network(f / "model")[0] for f in (old.stage("retrain"), tmp_path / "r" / "prune"))
    assert one.tables.layout == other.tables.layout
    assert all(torch.equal(v, other.state()[k]) for k, v in one.state().items())
    before, after = (states_of(*load_state(f / "optimizer")) for f in (old.stage("retrain"), tmp_path / "r" / "prune"))
    for one_state, other_state in zip(before, after, strict=True):
        assert one_state.keys() == other_state.keys()
        for place, own in one_state.items():
            for name, value in own.items():
                assert torch.equal(torch.as_tensor(value), torch.as_tensor(other_state[place][name])), (place, name)


def test_ids_that_move_between_blocks_mean_nearly_what_they_did(runs):
    old, folder = runs
    found = refresh(old, folder / "new", folder / "new.csv", CPU, min_gain=10.0)
    new = open_run(folder / "new")
    assert spans(folder / "new").keys() == spans(old.folder).keys() and found.allocation.spent <= found.allocation.asked
    assert found.matched[next(c.table for c in found.changes if c.table.startswith("user["))] <= 1
    live, _ = load_network(old.stage("retrain") / "model")
    moved, _ = load_network(new.stage("prune") / "model")
    assert moved.tables.layout.parameters == found.allocation.spent
    rows = row_map(open_log(old).vocabulary("user"), open_log(new).vocabulary("user"))
    known = rows != NEW

    def vectors(network, ids):
        own = torch.zeros(len(ids), 3, dtype=torch.int32)
        own[:, 0] = ids
        batch = open_log(new).part("test").batch(slice(0, len(ids)))
        return network.tables.lookup(replace(batch, ids=own)).inputs()[0].stack()[:, 0].detach()

    was = vectors(live, rows[known])
    now = vectors(moved, torch.arange(len(rows))[known])
    blocks_were = torch.bucketize(rows[known], torch.tensor([b for _, b in spans(old.folder)["user"]]), right=True)
    edges = torch.tensor([b for _, b in spans(folder / "new")["user"]])
    blocks_are = torch.bucketize(torch.arange(len(rows))[known], edges, right=True)
    stays, widths = blocks_were == blocks_are, {c.table: (c.before, c.after) for c in found.changes}
    assert bool((~stays).any()) and any(a == b > 0 for a, b in widths.values())
    kept = [k for k, (a, b) in enumerate(spans(folder / "new")["user"]) if len(set(widths[f"user[{a}:{b}]"])) == 1]
    same = stays & torch.isin(blocks_are, torch.tensor(kept))
    torch.testing.assert_close(now[same], was[same])
    lost, whole = ((v[~stays] - was[~stays]).square().sum() for v in (now, was.mean(0).expand_as(was)))
    assert float(lost / whole) < 0.6  # of what ids that moved mean beside the mean of all
    table = pd.read_csv(folder / "new.csv", dtype=str)[:500].astype({"age": float})
    one, other = (
        predict(f, table, torch.device("cpu"), m)["click"] for f, m in ((old.folder, "small"), (new.folder, "cut"))
    )
    assert np.corrcoef(one, other)[0, 1] > 0.7  # half of the users move, most of them between blocks of width 1
    retrain(new, open_log(new), CPU)
    assert load_network(new.stage("retrain") / "model")[0].tables.layout == moved.tables.layout


@pytest.mark.parametrize("share", [0.25, 0.8])
def test_blocks_change_their_widths_where_the_budget_does(runs, tmp_path, share):
    old, folder = runs
    prune = old.config.prune.model_copy(update={"budget": BudgetConfig(share=share)})
    other = type(old)(old.folder, old.config.model_copy(update={"prune": prune}))
    found = refresh(other, tmp_path / "r", folder / "new.csv", CPU, min_gain=0.0)
    network, _ = load_network(tmp_path / "r" / "prune" / "model")
    assert network.tables.layout.parameters == found.allocation.spent <= found.allocation.asked
    decisions = {c.decision for c in found.changes if "[" in c.table}
    assert ("cut" if share < 0.4 else "grown") in decisions
    states = states_of(*load_state(tmp_path / "r" / "prune" / "optimizer"))
    assert all(
        torch.isfinite(v).all() for s in states for own in s.values() for v in own.values() if torch.is_tensor(v)
    )


def test_a_cut_table_that_several_slots_read_is_refused(tiny_log, tmp_path):
    frame = tiny_frame(600, seed=0)
    frame["friend"] = frame["user"].to_numpy()[::-1]
    frame.to_csv(tmp_path / "log.csv", index=False)
    slots = "data.slots=[{name: user, table: who}, {name: friend, table: who}, item]"
    blocks = "prune.blocks={slots: [user], shares: [0.4], min_rows: 1}"
    settings = (slots, blocks, "prune.strategy=spectral", "pretrain.epochs=1", "retrain.mode=none")
    old = search(tiny_config(tmp_path / "log.csv", tmp_path / "run", *settings), QUIET)
    assert "who" in spans(old.folder)
    with pytest.raises(ConfigError, match="read by user, friend"):
        refresh(old, tmp_path / "r", tmp_path / "log.csv", CPU)
