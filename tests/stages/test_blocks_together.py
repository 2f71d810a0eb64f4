"""Frequency blocks beside served precision, sweeps, budgets by quality and weightings by group; what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import tiny_config, tiny_frame
from safetensors.torch import load_file
from typer.testing import CliRunner

from autodim import artifact
from autodim.api import open_run as open_result
from autodim.cli import app
from autodim.config.schema import BudgetConfig
from autodim.data.frame import encode_rows
from autodim.dimension.allocation import Allocation
from autodim.dimension.blocks import folded, spans_of
from autodim.dimension.entry import Entry
from autodim.errors import ConfigError
from autodim.export.weights import block_key, load
from autodim.own_model import cut_tables
from autodim.stages.cutter import Cutter
from autodim.stages.export import write_weights
from autodim.stages.hessian import excluded
from autodim.stages.model_folder import load_network
from autodim.stages.online import continue_run, grown
from autodim.stages.predict import open_run, predict
from autodim.stages.prepare import open_log
from autodim.stages.search import search
from autodim.stages.session import Session
from autodim.stages.sweep import sweep
from autodim.stages.widen import Wish, widen
from autodim.training.evaluation import predict as logits
from autodim.training.progress import Progress
from autodim.training.step import Step
from autodim.weighting.paperec import slot_ids

QUIET, CPU = Progress("quiet"), torch.device("cpu")
SESSION = Session(CPU, QUIET)
SHORT = ("pretrain.epochs=2", "retrain.epochs=1", "prune.strategy=spectral")
BLOCKS = "prune.blocks={slots: [user, item, tags], shares: [0.3, 0.7], min_rows: 1}"
SERVED = ("prune.precision=int8", "prune.budget={unit: serving_bytes, share: 0.3}")
EMBEDDING = ("tables/", "scales/", "offsets/", "projections/", "biases/")


@pytest.fixture(scope="module")
def run(tiny_log, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return search(tiny_config(tiny_log, folder, *SHORT, *SERVED, BLOCKS), QUIET)


def allocation_of(run):
    return Allocation.from_yaml((run.folder / "widths.yaml").read_text())


def test_the_served_file_of_blocks_costs_what_was_paid_and_is_the_served_model(run, tmp_path):
    found = allocation_of(run)
    assert spans_of(found.entries) and found.served_rounded and found.spent <= found.asked
    assert found.uniform == 4 * 8 * sum(t.rows for t in open_log(run).tables)  # float32, whatever is served
    write_weights(run.folder, tmp_path / "w.safetensors")
    stored = load_file(tmp_path / "w.safetensors")
    assert sum(t.nbytes for n, t in stored.items() if n.startswith(EMBEDDING)) == found.spent
    frame = tiny_frame(200, seed=5)
    plain, served = predict(run.folder, frame, CPU), predict(run.folder, frame, CPU, "served")
    assert not np.array_equal(plain, served) and np.allclose(plain, served, atol=0.05)
    assert np.array_equal(predict(run.folder, frame, CPU, weights=tmp_path / "w.safetensors"), served)
    write_weights(run.folder, tmp_path / "full.safetensors", "fp32")
    assert np.array_equal(predict(run.folder, frame, CPU, weights=tmp_path / "full.safetensors"), plain)
    tensors, _ = load(tmp_path / "full.safetensors")
    tables = load_network(run.stage("retrain") / "model")[0].tables
    for e in found.entries:
        own = tables.read_block(e.block)
        if e.width:
            assert torch.equal(tensors[f"tables/{block_key(found, e)}"], own["weight"])
    models = artifact.read_json(run.folder / "evaluate" / "results.json")["models"]
    assert models[-1]["name"] == "served" and models[-1]["serve_bytes"] == found.spent


def test_the_report_and_the_table_of_widths_say_the_blocks(run):
    found, result = allocation_of(run), open_result(run.folder)
    assert list(result.widths.columns)[-2:] == ["start", "stop"] and len(result.widths) == len(found.entries)
    assert result.widths.cost.sum() == found.spent
    told = CliRunner().invoke(app, ["show", str(run.folder)])
    user = found.block_widths["user"]
    assert told.exit_code == 0 and f"user {'/'.join(map(str, user))}" in " ".join(told.output.split())
    page = (run.folder / "report.html").read_text()
    assert "cut into blocks of rows" in page and "slots and blocks as a table" in page
    for e in (e for e in found.entries if e.table in spans_of(found.entries)):
        assert f"{e.table} [{e.start}:{e.stop})" in page


def test_a_sweep_cuts_the_blocks_that_a_prune_cuts(run):
    log = open_log(run)
    made = Cutter(run, log, SESSION).cut("spectral", run.config.prune.budget)
    assert made.allocation.entries == Allocation.from_yaml((run.stage("prune") / "widths.yaml").read_text()).entries
    config = run.config.model_copy(
        update={"prune": run.config.prune.model_copy(update={"budget": BudgetConfig(share=0.3), "precision": "fp32"})}
    )
    uncut, blocks, even = sweep(config, ["spectral", "spectral_uniform"], [0.3], QUIET)
    assert blocks.spent <= 0.3 * uncut.spent and even.spent <= 0.3 * uncut.spent
    assert blocks.predicted is not None and blocks.predicted > 0 and blocks.auc < uncut.auc
    assert any(isinstance(w, list) and len(w) > 1 for w in blocks.widths.values())


def test_a_budget_by_quality_finds_blocks(tiny_log, tmp_path):
    settings = ("prune.budget.max_auc_drop=0.08", "retrain.mode=none", BLOCKS)
    found = search(tiny_config(tiny_log, tmp_path / "q", *SHORT, *settings), QUIET)
    record = artifact.read_json(found.stage("prune") / "quality.json")
    allocation = allocation_of(found)
    assert spans_of(allocation.entries) and record["spent"] == allocation.spent < record["uniform"]
    assert load_network(found.stage("retrain") / "model")[0].tables.layout.parameters == allocation.spent


def test_blocks_of_another_precision_stay_apart():
    parents = {f"a[{k}:{k + 1}]": ("a", ("a",), k, k + 1) for k in range(3)}
    entries = [Entry(name, (name,), 0, 1, 4, cost=4) for name in parents]
    assert [(e.start, e.stop) for e in folded(entries, parents, 4)] == [(0, 3)]
    entries[2] = replace(entries[2], precision="int8")
    assert [(e.start, e.stop, e.precision) for e in folded(entries, parents, 4)] == [(0, 2, "fp32"), (2, 3, "int8")]


def test_ids_are_told_from_blocks(run):
    """Weightings by group read a slot's ids from the looked-up rows, which blocks hold in parts."""
    tables = load_network(run.stage("retrain") / "model")[0].tables
    batch = open_log(run).part("test").batch(slice(0, 500))
    assert {len(tables.layout.blocks_of(t)) > 1 for t in ("user", "place")} == {True, False}
    for position, column in ((0, 0), (1, 1), (2, 2)):
        assert torch.equal(slot_ids(tables.lookup(batch), position), batch.ids[:, column].long())


def test_a_batch_in_pieces_has_the_whole_batch_s_gradients(run):
    """What is added where a block holds the id goes with the piece's rows."""
    network, _ = load_network(run.stage("retrain") / "model")
    network.eval()
    assert any(g.offset is not None for g in network.tables.groups)
    batch = open_log(run).part("test").batch(slice(0, 100))
    found = []
    for pieces in (1, 3):
        step = Step(network, [], pieces=pieces)
        lookup = network.tables.lookup(batch, learn=True)
        losses, gradients = step._pass(lookup, batch, lookup.leaves, [True] * (len(lookup.leaves) + len(step.dense)))
        found.append([losses.detach(), *gradients])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_run_with_blocks_goes_on_with_new_rows(tiny_log, tmp_path):
    """The rarest ids' block grows; what is known predicts as before; state, widths and a second continuation follow."""
    config = tiny_config(tiny_log, tmp_path / "run", *SHORT, "retrain.keep_state=true", BLOCKS)
    first = search(config, QUIET)
    frame = tiny_frame(900, seed=3)
    frame.loc[::4, "user"] += "new"
    frame.to_csv(tmp_path / "new.csv", index=False)
    for source, target in (("run", "next"), ("next", "third")):
        moved = open_run(tmp_path / source).config.model_copy(update={"run": str(tmp_path / target)})
        result = continue_run(tmp_path / source, moved, tmp_path / "new.csv", "small", QUIET)
        assert result["kept_state"] and (result["new_ids"]["user"] > 5) == (source == "run")
    old, new = open_run(tmp_path / "run"), open_run(tmp_path / "next")
    before, about = load_network(old.stage("retrain") / "model")
    larger = grown(before, about, open_log(new))
    rows = frame[~frame["user"].str.endswith("new")]
    columns = encode_rows(rows, open_log(new))
    assert torch.equal(logits(larger, columns, CPU), logits(before, encode_rows(rows, open_log(old)), CPU))
    widths = Allocation.from_yaml((new.stage("retrain") / "widths.yaml").read_text())
    tables = {t.name: t.rows for t in open_log(new).tables}
    spans = spans_of(widths.entries)
    assert spans.keys() == spans_of(allocation_of(first).entries).keys() and "user" in spans
    assert all(parts[-1][1] == tables[t] for t, parts in spans.items())
    network, _ = load_network(new.stage("retrain") / "model")
    assert network.tables.layout.parameters == widths.spent > allocation_of(first).spent


def test_curvature_is_asked_of_whole_tables(run):
    layout = load_network(run.stage("retrain") / "model")[0].tables.layout
    assert "blocks of rows" in excluded(layout, "user") and excluded(layout, "place") is None


def test_what_blocks_cannot_be_combined_with_is_refused(run, tiny_log, tmp_path):
    with pytest.raises(ConfigError, match="all rows get one width"):
        tiny_config(tiny_log, tmp_path / "r", "prune.strategy=uniform_int8", BLOCKS)
    with pytest.raises(ConfigError, match="does not make; expected blocks"):
        other = run.config.prune.model_copy(update={"blocks": type(run.config.prune.blocks)()})
        moved = type(run)(run.folder, run.config.model_copy(update={"prune": other}))
        widen(moved, open_log(run), SESSION, Wish(16, ("user",)))
    with pytest.raises(ConfigError, match="blocks of rows of"):
        cut_tables(allocation_of(run), {})
