"""Frequency blocks beside served precision, sweeps, budgets by quality and weightings by group; what is refused."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import tiny_config, tiny_frame
from safetensors.torch import load_file

from autodim import artifact
from autodim.api import open_run as open_result
from autodim.config.schema import BudgetConfig
from autodim.config.sections.searches import OptEmbedConfig, PepConfig, SearchConfig
from autodim.data.frame import encode_rows
from autodim.dimension.allocation import Allocation
from autodim.dimension.blocks import folded, spans_of
from autodim.dimension.budget import resolve
from autodim.dimension.entry import Entry
from autodim.dimension.rounding import spectral_losses
from autodim.dimension.strategies.spectral import factors_of, with_bias
from autodim.embedding.layout import uniform_layout
from autodim.embedding.vectors import Stacked
from autodim.errors import ConfigError
from autodim.export.weights import block_key, load
from autodim.own_model import cut_tables
from autodim.stages import refit as refitting
from autodim.stages.cut import cut_network
from autodim.stages.cutter import Cutter
from autodim.stages.edits import constant, edited_losses, masked
from autodim.stages.evidence import EVIDENCE
from autodim.stages.evidence.question import Question
from autodim.stages.export import write_weights
from autodim.stages.hessian import excluded
from autodim.stages.model_folder import load_network
from autodim.stages.online import continue_run, grown
from autodim.stages.oracle import oracle
from autodim.stages.predict import open_run, predict
from autodim.stages.prepare import open_log
from autodim.stages.prune import problem_of
from autodim.stages.search import search
from autodim.stages.session import Session
from autodim.stages.sweep import sweep
from autodim.stages.widen import Wish, widen
from autodim.training.loop import predict as logits
from autodim.training.losses import task_losses
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


def test_a_refit_s_derivatives_by_block_are_those_of_autograd(run):
    """Of one logit by every projection and offset; of a block that the example does not read they are zero."""
    network = load_network(run.stage("prune") / "model")[0].eval()
    assert any(g.offset is not None for g in network.tables.groups)
    batch = open_log(run).part("valid").batch(slice(0, 6))
    lookup = network.tables.lookup(batch)
    vectors = lookup.inputs()[0].stack().detach().requires_grad_()
    logits = network.model(Stacked(vectors), lookup.inputs()[1], batch.numeric)
    (slope,) = torch.autograd.grad(logits[:, 0].sum(), [vectors])
    features = refitting._features(network, lookup, slope)
    numbers = network.tables.dense_parameters()
    for row in range(6):
        one = network(batch)[row, 0]
        expected = torch.cat([g.flatten() for g in torch.autograd.grad(one, numbers)])
        torch.testing.assert_close(features[row].float(), expected, rtol=1e-3, atol=1e-5)


def test_blocks_are_refitted(run):
    """The same widths, a lower loss on the rows of the refit; only projections and offsets differ."""
    config = with_spending(run.config, "fp32", "params", 0.35)
    cutter = Cutter(type(run)(run.folder, config, run.shared), open_log(run), SESSION)
    plain, fitted = (cutter.cut(s, config.prune.budget) for s in ("spectral", "spectral_refit"))
    assert spans_of(fitted.allocation.entries) and fitted.allocation.entries == plain.allocation.entries
    valid = open_log(run).part("valid").batch(slice(0, 10**6))
    with torch.no_grad():
        one, other = (float(task_losses(c.network.eval()(valid), valid.labels, False).sum()) for c in (plain, fitted))
    assert other < one - 0.002
    before = plain.network.state()
    changed = {k for k, v in fitted.network.state().items() if not torch.equal(v, before[k])}
    assert any(k.endswith("offset") for k in changed)
    assert all(k.endswith(("projection", "offset", "bias")) and not k.startswith("model") for k in changed)


def with_spending(config, precision, unit, share):
    prune = {"precision": precision, "budget": BudgetConfig(unit=unit, share=share)}
    return config.model_copy(update={"prune": config.prune.model_copy(update=prune)})


@pytest.mark.parametrize("share", [0.15, 0.3])
def test_width_is_traded_against_precision_block_by_block(run, share):
    """A free choice of precision never predicts a worse cut than one for all, and never spends more than asked."""
    log, kept = open_log(run), {}
    for precision in ("auto", "fp32", "fp16", "int8"):
        config = with_spending(run.config, precision, "serving_bytes", share)
        cutter = Cutter(type(run)(run.folder, config, run.shared), log, SESSION)
        made = cutter.cut("spectral", config.prune.budget)
        assert made.allocation.spent <= made.allocation.asked and spans_of(made.allocation.entries)
        if precision == "auto":
            problem = with_bias(problem_of(config, log, ""))
            factors = factors_of(problem, cutter.statistics, "test")
            losses = spectral_losses(problem, cutter.statistics, factors, 1.0)
            rows = cutter.statistics.extra["rows"]
            assert set(rows) >= set(problem.limits)
            weight = cutter.network.tables.read("user")["weight"].double()
            (start, stop) = problem.spans["user"][-1]
            own = torch.from_numpy(rows[f"user[{start}:{stop}]"])
            assert bool((own[:, None] == weight[start:stop]).all(2).any(1).all())  # the block's own rows
        total = 0.0
        for name in problem.limits:
            table, _, start, _ = problem.parents.get(name, (name, (), 0, 0))
            entry = next(e for e in reversed(made.allocation.entries) if e.table == table and e.start <= start)
            kept_worth = factors[name].lambdas[: entry.width].sum()
            total += kept_worth - losses[name][entry.precision][entry.width]
        kept[precision] = total
    assert kept["auto"] >= max(kept["fp32"], kept["fp16"], kept["int8"]) - 1e-12


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


def uniform_question(run, strategy="spectral", share=0.3):
    settings = {
        "strategy": strategy,
        "budget": BudgetConfig(share=share),
        "precision": "fp32",
        "search": SearchConfig(trials=2, epochs=1, sampler="random"),
        "pep": PepConfig(epochs=1),
        "optembed": OptEmbedConfig(epochs=1, population=4, generations=1),
    }
    config = run.config.model_copy(update={"prune": run.config.prune.model_copy(update=settings)})
    other = type(run)(run.folder, config, run.shared)
    cutter = Cutter(other, open_log(run), SESSION)
    problem = problem_of(config, cutter.log, "fixed")
    uniform = uniform_layout(cutter.log.slots, cutter.log.tables, 8)
    budget = resolve(config.prune.budget, problem.cost, uniform)
    return cutter, Question(
        other, cutter.network, cutter.log, SESSION, problem, budget, cutter.statistics, cutter.means
    )


def test_an_edit_of_a_block_is_that_edit_of_its_rows(run):
    """Masking a dimension is a zero column of the block's rows; its mean is the cut that leaves the constant alone."""
    cutter, question = uniform_question(run)
    columns = cutter.log.part("valid")
    everything = columns.batch(slice(0, 10**6))
    edits, wanted = [{}], [cutter.network]
    for name in (n for n in question.problem.limits if n.startswith(("user[", "tags["))):
        table, start, stop = question.problem.span(name)
        mask = torch.ones(8)
        mask[3] = 0
        edits.append(dict.fromkeys(question.places[name], masked(mask)))
        other = copy.deepcopy(cutter.network)
        (block,) = other.tables.layout.blocks_of(table)
        group = other.tables.group_of(block)
        group.weight.data[group.rows_of(block)][start:stop, 3] = 0
        wanted.append(other)
        edits.append(dict.fromkeys(question.places[name], constant(cutter.means[name])))
        entries = [Entry(t.name, (t.name,), 0, t.rows, 8) for t in cutter.log.tables if t.name != table]
        rows = cutter.log.counts(table).numel()
        for a, b in ((0, start), (start, stop), (stop, rows)):
            if b > a:
                entries.append(Entry(table, (table,), a, b, 0 if a == start else 8, bias=a == start))
        made = replace(allocation_of(run), entries=tuple(entries), common=8)
        layout = made.layout(cutter.log.slots, cutter.log.tables)
        wanted.append(cut_network(cutter.network, made, layout, cutter.means, cutter.counts, {}))
    found = edited_losses(cutter.network, columns, edits, SESSION, "test", None, cutter.log.tasks)
    with torch.no_grad():
        expected = [float(task_losses(n.eval()(everything), everything.labels, False).sum()) for n in wanted]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)
    assert len({round(v, 6) for v in expected}) > 5


@pytest.mark.parametrize("strategy", sorted(EVIDENCE))
def test_what_strategies_measure_for_themselves_they_measure_by_block(run, strategy):
    cutter, question = uniform_question(run, strategy)
    found = EVIDENCE[strategy](question)
    items = {n for t, c in question.problem.limits.items() for n in ((t,) if strategy != "mask_auc" else c.slots)}
    assert set(found) == items and any("[" in n for n in items)
    made = cutter.cut(strategy, question.run.config.prune.budget)
    assert spans_of(made.allocation.entries) and made.allocation.spent <= made.allocation.asked
    assert made.network.tables.layout.parameters == made.allocation.spent


def test_the_oracle_judges_blocks(run, tmp_path):
    config = with_spending(run.config, "fp32", "params", 0.3)
    found = oracle(config, ["spectral", "sseds"], [0.6, 0.3], QUIET)
    items = problem_of(config, open_log(run), "").limits
    assert found["masks"]["count"] == 8 * len(items) > 8 * 4 and found["cuts"]["count"] == 4
    scores = {s["score"]: s["spearman"] for s in found["scores"]}
    assert scores["spectral, diagonal"] > 0.6 and found["masks"]["correlation"] > 0.6


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
