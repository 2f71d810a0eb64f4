"""Frequency blocks where cuts are measured: refits, precisions, edits, strategies that measure, the oracle."""

import copy

import numpy as np
import pytest
import torch
from conftest import tiny_config

from autodim.config.schema import BudgetConfig
from autodim.config.sections.searches import OptEmbedConfig, PepConfig, SearchConfig
from autodim.dimension.allocation import Allocation
from autodim.dimension.blocks import spans_of
from autodim.dimension.budget import resolve
from autodim.dimension.entry import Entry
from autodim.dimension.rounding import spectral_losses
from autodim.dimension.strategies.spectral import factors_of, with_bias
from autodim.embedding.layout import uniform_layout
from autodim.embedding.vectors import Stacked
from autodim.errors import ConfigError
from autodim.stages import refit as refitting
from autodim.stages.cut import cut_network
from autodim.stages.cutter import Cutter
from autodim.stages.edits import constant, edited_losses, masked
from autodim.stages.evidence import EVIDENCE
from autodim.stages.evidence.question import Question
from autodim.stages.model_folder import load_network
from autodim.stages.oracle import oracle
from autodim.stages.prepare import open_log
from autodim.stages.prune import problem_of
from autodim.stages.search import search
from autodim.stages.session import Session
from autodim.training.losses import task_losses
from autodim.training.progress import Progress

QUIET, CPU = Progress("quiet"), torch.device("cpu")
SESSION = Session(CPU, QUIET)
SHORT = ("pretrain.epochs=2", "retrain.epochs=1", "prune.strategy=spectral")
BLOCKS = "prune.blocks={slots: [user, item, tags], shares: [0.3, 0.7], min_rows: 1}"
SERVED = ("prune.precision=int8", "prune.budget={unit: serving_bytes, share: 0.3}")


@pytest.fixture(scope="module")
def run(tiny_log, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return search(tiny_config(tiny_log, folder, *SHORT, *SERVED, BLOCKS), QUIET)


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


def test_a_refit_that_cannot_fit_the_memory_is_refused_with_the_numbers(monkeypatch):
    monkeypatch.setattr(refitting, "available", lambda device: 4 * 8 * 1000**2)
    refitting.check_room(1000, CPU)
    with pytest.raises(ConfigError, match="1,001 numbers of all projections"):
        refitting.check_room(1001, CPU)


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
        made = Allocation("manual", "params", 0, 0, 0, 8, tuple(entries))
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
