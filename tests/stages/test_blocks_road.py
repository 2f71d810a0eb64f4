"""Frequency blocks on the road: never over budget, exact warm starts, the same logits whatever is read back."""

import json

import numpy as np
import pytest
import torch
from conftest import tiny_config

from autodim import artifact
from autodim.dimension.allocation import Allocation
from autodim.dimension.blocks import spans_of
from autodim.dimension.strategies import STRATEGIES
from autodim.errors import ConfigError
from autodim.export.weights import metadata
from autodim.report.slots import slot_rows
from autodim.stages.cut import cut_network
from autodim.stages.evidence import EVIDENCE
from autodim.stages.export import write_weights
from autodim.stages.model_folder import load_network
from autodim.stages.predict import predict
from autodim.stages.prepare import open_log
from autodim.stages.prune import cut_for
from autodim.stages.retrain import start_network
from autodim.stages.scores import cached_score
from autodim.stages.search import search
from autodim.stages.session import Session
from autodim.stages.sweep import predicted_change
from autodim.training.checkpoints import load_tensors
from autodim.training.losses import task_losses
from autodim.training.progress import Progress

QUIET = Progress("quiet")
CPU = Session(torch.device("cpu"), QUIET)
BLOCKS = "prune.blocks={slots: [user, item, tags], shares: [0.3, 0.7], min_rows: 1}"


@pytest.fixture(scope="module")
def run(tiny_log, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return search(tiny_config(tiny_log, folder, "prune.strategy=spectral", "retrain.epochs=1", BLOCKS), QUIET)


def test_part(run):
    return open_log(run).part("test").batch(slice(0, 10**6))


test_part.__test__ = False


def pruned(run):
    return Allocation.from_yaml((run.stage("prune") / "widths.yaml").read_text())


def test_the_budget_holds_and_the_saved_numbers_are_what_is_spent(run):
    allocation = pruned(run)
    assert spans_of(allocation.entries), "some table is cut"
    tables = load_network(run.stage("retrain") / "model")[0].tables
    numbers = sum(g.weight.numel() for g in tables.groups if g.weight is not None)
    numbers += sum(p.numel() for p in tables.dense_parameters())
    assert numbers == allocation.spent <= allocation.asked


def test_the_retrain_starts_at_the_cut_model(run):
    log, batch = open_log(run), test_part(run)
    cut, _ = load_network(run.stage("prune") / "model")
    start = start_network(run, log, pruned(run), True, 0, CPU)
    assert torch.equal(start.eval()(batch), cut.eval()(batch))
    uniform, _ = load_network(run.stage("pretrain") / "model")
    assert not torch.equal(uniform.eval()(batch), cut(batch))


def test_each_row_of_a_cut_block_is_what_its_factors_say(run):
    """For one id: mu + (v - mu) A P with the mean over the rows' own block, whatever the other blocks do."""
    log, allocation = open_log(run), pruned(run)
    uniform, _ = load_network(run.stage("pretrain") / "model")
    cut, _ = load_network(run.stage("prune") / "model")
    statistics, means = cached_score(run, uniform, log, CPU)
    from autodim.stages.prune import table_factors

    factors = table_factors(run.config, allocation, statistics)
    batch = test_part(run)
    before, after = (n.tables.lookup(batch).inputs()[0].stack()[:, 0] for n in (uniform, cut))  # slot user
    ids = batch.ids[:, 0]
    assert log.slots[0].name == "user"
    seen = 0
    for e in (e for e in allocation.entries if e.table == "user"):
        held = (ids >= e.start) & (ids < e.stop)
        name = f"user[{e.start}:{e.stop}]"
        wanted = before[held]
        if e.projected:
            f = factors[name]
            mu = torch.from_numpy(f.moments["user"].mean)
            a, p = torch.from_numpy(f.encoder(e.width).copy()), torch.from_numpy(f.decoder(e.width).copy())
            wanted = (mu + (wanted.double() - mu) @ a @ p).float()
        elif e.width == 0:
            wanted = means[name].expand_as(wanted)
        torch.testing.assert_close(after[held], wanted, rtol=1e-4, atol=1e-4)
        seen += int(held.sum())
    assert seen == len(ids)


def test_statistics_of_blocks_are_those_of_their_examples(run):
    log = open_log(run)
    uniform, _ = load_network(run.stage("pretrain") / "model")
    statistics, means = cached_score(run, uniform, log, CPU)
    valid = log.part("valid").batch(slice(0, 10**6))
    vectors = uniform.tables.lookup(valid).inputs()[0].stack()[:, 0].double()
    whole = statistics.extra["spectral"]["user"]
    total = np.zeros(8)
    for start, stop in spans_of(pruned(run).entries).get("user", ()) or [(0, 41)]:
        name = f"user[{start}:{stop}]"
        found = statistics.extra["spectral"][name]
        held = (valid.ids[:, 0] >= start) & (valid.ids[:, 0] < stop)
        own = vectors[held]
        assert found.count == len(own)
        np.testing.assert_allclose(found.mean, own.mean(0), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(found.covariance, np.cov(own.T, bias=True), rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(means[name].double(), own.mean(0), rtol=1e-5, atol=1e-6)
        total += statistics.scores[name]
    # saliencies of blocks are parts of the slot's: they add up to it
    np.testing.assert_allclose(total, statistics.scores["user"], rtol=1e-6, atol=1e-9)
    assert whole.count == len(vectors)


def test_statistics_keep_their_slots_where_a_bag_stands_first(tiny_log, tmp_path):
    slots = "data.slots=[{name: tags, kind: multi}, user, item]"
    config = tiny_config(tiny_log, tmp_path / "r", slots, "pretrain.epochs=1", BLOCKS)
    other = search(config, QUIET, stages=("prepare", "pretrain", "prune"))
    log = open_log(other)
    network, _ = load_network(other.stage("pretrain") / "model")
    _, means = cached_score(other, network, log, CPU)
    vectors = network.tables.lookup(log.part("valid").batch(slice(0, 10**6))).inputs()[0].stack()
    for k, slot in enumerate(log.slots):
        torch.testing.assert_close(means[slot.name], vectors[:, k].mean(0), rtol=1e-4, atol=1e-5)
    tail = next(n for n in means if n.startswith("user["))
    start, stop = (int(v) for v in tail[5:-1].split(":"))
    ids = log.part("valid").ids[:, 0]
    held = (ids >= start) & (ids < stop)
    torch.testing.assert_close(means[tail], vectors[held, 1].mean(0), rtol=1e-4, atol=1e-5)


def test_a_prediction_for_one_block_is_the_measured_change_to_second_order(run):
    """Cutting one small tail only: what is predicted is near what is measured on the scored rows."""
    log = open_log(run)
    uniform, _ = load_network(run.stage("pretrain") / "model")
    statistics, means = cached_score(run, uniform, log, CPU)
    from dataclasses import replace

    allocation = pruned(run)
    counts = {t.name: log.counts(t.name) for t in log.tables}
    valid = log.part("valid").batch(slice(0, 10**6))
    uniform.eval()
    with torch.no_grad():
        base = float(task_losses(uniform(valid), valid.labels, False).sum())
        for table in ("user", "tags"):
            entries = []
            for e in allocation.entries:
                whole = replace(e, width=8, projected=False, bias=False, kept=None)
                cut = e.table == table and e.start > 0 and not any(x.bias for x in entries if x.table == table)
                entries.append(replace(whole, width=0, bias=True) if cut else whole)
            one = replace(allocation, entries=tuple(entries))
            small = cut_network(uniform, one, one.layout(log.slots, log.tables), means, counts, {})
            change = float(task_losses(small.eval()(valid), valid.labels, False).sum()) - base
            predicted = predicted_change(uniform, one, statistics.extra["spectral"], means, counts, {})
            assert abs(change) > 1e-4
            assert predicted == pytest.approx(change, rel=0.5, abs=2e-3), table


def test_blocks_at_full_width_are_the_uniform_model(run):
    from dataclasses import replace

    log, allocation, batch = open_log(run), pruned(run), test_part(run)
    uniform, _ = load_network(run.stage("pretrain") / "model")
    entries = tuple(replace(e, width=8, projected=False, bias=False) for e in allocation.entries)
    full = replace(allocation, entries=entries)
    same = cut_network(
        uniform, full, full.layout(log.slots, log.tables), {}, {t.name: log.counts(t.name) for t in log.tables}
    )
    torch.testing.assert_close(same.eval()(batch), uniform.eval()(batch), rtol=1e-5, atol=1e-5)


def test_a_generous_budget_joins_whole_blocks_and_is_the_uniform_model_to_the_bit(tiny_log, tmp_path, run):
    config = tiny_config(tiny_log, tmp_path / "b", "prune.strategy=sseds", "prune.budget.share=1", BLOCKS)
    other = type(run)(tmp_path / "b", config, {n: run.stage(n) for n in ("prepare", "pretrain")})
    from autodim.stages.prune import prune

    allocation = prune(other, open_log(run), CPU)
    assert not spans_of(allocation.entries)
    batch = test_part(run)
    cut, uniform = (load_network(other.stage(s) / "model")[0].eval() for s in ("prune", "pretrain"))
    assert torch.equal(cut(batch), uniform(batch))


@pytest.mark.parametrize("strategy", sorted(set(STRATEGIES) - set(EVIDENCE) - {"manual"}))
@pytest.mark.parametrize("share", [0.15, 0.5])
def test_every_strategy_knows_blocks_and_never_overspends(run, strategy, share, tmp_path):
    from autodim.dimension.budget import resolve
    from autodim.embedding.layout import uniform_layout
    from autodim.errors import BudgetError
    from autodim.stages.prune import problem_of

    log = open_log(run)
    uniform, _ = load_network(run.stage("pretrain") / "model")
    statistics, _ = cached_score(run, uniform, log, CPU)
    prune = run.config.prune.model_copy(
        update={"budget": run.config.prune.budget.model_copy(update={"share": share}), "strategy": strategy}
    )
    config = run.config.model_copy(update={"prune": prune})
    problem = problem_of(config, log, "")
    budget = resolve(prune.budget, problem.cost, uniform_layout(log.slots, log.tables, 8))
    try:
        allocation = STRATEGIES[strategy](problem, budget, statistics)
    except BudgetError:
        pytest.skip("infeasible")
    layout = allocation.layout(log.slots, log.tables)
    assert layout.parameters == allocation.spent <= budget.amount
    if allocation.common == 8:
        cut_for(run, uniform, allocation, log, CPU)


def test_the_widths_file_is_read_back_and_trains(run, tmp_path):
    """Hand-edited blocks: other edges than were scored are scored anew."""
    from autodim.dimension.allocation import read_widths
    from autodim.stages.prune import cost_model

    log, allocation = open_log(run), pruned(run)
    path = tmp_path / "widths.yaml"
    path.write_text(allocation.to_yaml())
    again = read_widths(path, log.slots, log.tables, 8, cost_model(run.config))
    assert again.entries == allocation.entries and again.strategy == "spectral"
    moved = allocation.to_yaml()
    user = [e for e in allocation.entries if e.table == "user"]
    edge = user[0].stop
    moved = moved.replace(f"stop: {edge},", f"stop: {edge + 1},", 1).replace(
        f"start: {edge},", f"start: {edge + 1},", 1
    )
    path.write_text(moved)
    edited = read_widths(path, log.slots, log.tables, 8, cost_model(run.config))
    assert spans_of(edited.entries)["user"][0] == (0, edge + 1)
    uniform, _ = load_network(run.stage("pretrain") / "model")
    cut_for(run, uniform, edited, log, CPU)


def test_exported_tensors_and_the_report_say_the_blocks(run, tmp_path):
    retrained = Allocation.from_yaml((run.stage("retrain") / "widths.yaml").read_text())
    write_weights(run.folder, tmp_path / "w.safetensors")
    tensors = load_tensors(tmp_path / "w.safetensors")
    spans = spans_of(retrained.entries)
    network, _ = load_network(run.stage("retrain") / "model")
    batch = test_part(run)
    vector = network.tables.lookup(batch).inputs()[0].stack()[:, 0]
    ids = batch.ids[:, 0].long()
    rebuilt = torch.zeros_like(vector)
    for block in metadata(retrained, open_log(run).slots)["blocks"]:
        if block["slots"] != ["user"]:
            continue
        held = (ids >= block["start"]) & (ids < block["stop"])
        part = torch.zeros(int(held.sum()), 8)
        if block["table"]:
            part = tensors[block["table"]][ids[held] - block["start"]]
        if block["projection"]:
            part = part @ tensors[block["projection"]]
        if block["biases"]:
            part = part + tensors[block["biases"]["user"]]
        rebuilt[held] = part
    torch.testing.assert_close(rebuilt, vector, rtol=1e-5, atol=1e-5)
    names = [row.name for row in slot_rows(retrained)]
    assert all(f"{t} [{a}:{b})" in names for t, parts in spans.items() for a, b in parts)


def test_new_rows_are_predicted(run, tiny_log):
    found = predict(run.folder, tiny_log, torch.device("cpu"))
    assert len(found) == 3000 and found["click"].between(0, 1).all()


def test_helen_and_clippers_train_blocks(tiny_log, tmp_path, run):
    """Every filling of the step works on the rows that blocks hold."""
    extra = (
        "prune.strategy=spectral",
        "retrain.epochs=1",
        "retrain.optimizer.perturb={name: helen, frequency: global}",
        "retrain.optimizer.clip=[{name: cowclip, l2: 1e-5}]",
        BLOCKS,
    )
    config = tiny_config(tiny_log, tmp_path / "h", *extra)
    from autodim.stages.prune import prune
    from autodim.stages.retrain import retrain

    other = type(run)(tmp_path / "h", config, {n: run.stage(n) for n in ("prepare", "pretrain")})
    prune(other, open_log(run), CPU)
    retrain(other, open_log(run), CPU)
    history = json.loads((other.stage("retrain") / "history.json").read_text())
    assert all(p["train_loss"] < 1 for p in history[1:])  # the first is what it began with
    assert artifact.is_valid(other.stage("retrain") / "model")


def test_settings_that_cannot_be_meant_are_refused(tiny_log, tmp_path):
    for override, words in (
        ("prune.blocks={slots: [usr]}", "usr"),
        ("prune.blocks={slots: [age]}", "no table of ids"),
        ("prune.blocks={slots: auto, shares: [0.9, 0.5]}", "rising"),
        ("prune.blocks={shares: [0.9]}", "no table is cut"),
    ):
        with pytest.raises(ConfigError, match=words):
            tiny_config(tiny_log, tmp_path / "r", override)
    with pytest.raises(ConfigError, match="all rows get one width"):
        tiny_config(tiny_log, tmp_path / "r", BLOCKS, "prune.strategy=uniform")
    with pytest.raises(ConfigError, match="dims"):
        tiny_config(tiny_log, tmp_path / "r", BLOCKS, "prune.budget={unit: dims, share: 0.5}")
