"""What strategies measure for themselves on a trained model: by brute force it is what the whole network says, it is
made once, it goes on after an interruption, and it hits the budget."""

import copy
import importlib
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny_config, tiny_frame

from autodim import artifact
from autodim.config.schema import BudgetConfig
from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import resolve
from autodim.dimension.oracle import mask_exact as brute_force
from autodim.embedding.layout import uniform_layout
from autodim.embedding.vectors import Stacked
from autodim.errors import ConfigError
from autodim.stages import refit as refitting
from autodim.stages.evidence import EVIDENCE
from autodim.stages.evidence.question import Question
from autodim.stages.model_folder import load_network
from autodim.stages.oracle import agreement, oracle
from autodim.stages.prepare import open_log
from autodim.stages.prune import cut_for, problem_of, prune
from autodim.stages.run import Run
from autodim.stages.scores import cached_score
from autodim.stages.search import search as walk
from autodim.stages.session import Session
from autodim.stages.sweep import sweep
from autodim.training.interrupt import Interrupted
from autodim.training.losses import task_losses
from autodim.training.progress import Progress

QUIET = Progress("quiet")
CPU = Session(torch.device("cpu"), QUIET)
trials = importlib.import_module("autodim.stages.evidence.search")  # the package names the function
SMALL = ("prune.search.trials=3", "prune.pep.epochs=2", "prune.optembed.epochs=2", "prune.optembed.generations=3")


@pytest.fixture(scope="module")
def run(tiny_log, tmp_path_factory):
    """A bag before one-hot slots, two slots that share a table, and a slot of pure noise."""
    frame = tiny_frame()
    rng = np.random.default_rng(1)
    frame["noise"] = [f"n{v}" for v in rng.integers(0, 20, len(frame))]
    frame["last"] = np.roll(frame["item"].to_numpy(), 1)
    path = tmp_path_factory.mktemp("log") / "clicks.csv"
    frame.to_csv(path, index=False)
    slots = "data.slots=[{name: tags, kind: multi}, user, item, place, noise, {name: last, table: item}]"
    return walk(tiny_config(path, tmp_path_factory.mktemp("runs") / "run", slots), QUIET, ("pretrain",))


def asked(run, strategy="sseds", share=0.4, session=CPU, **settings):
    prune_config = run.config.prune.model_copy(
        update={"strategy": strategy, "budget": BudgetConfig(share=share), **settings}
    )
    config = run.config.model_copy(update={"prune": prune_config})
    changed = Run(run.folder, config, run.shared)
    log = open_log(run)
    network, _ = load_network(run.stage("pretrain") / "model")
    statistics, means = cached_score(changed, network, log, CPU)
    problem = problem_of(config, log, "the model")
    budget = resolve(prune_config.budget, problem.cost, uniform_layout(log.slots, log.tables, config.model.width))
    return Question(changed, network, log, session, problem, budget, statistics, means)


def loss(network, log, part="valid"):
    columns = log.part(part)
    batch = columns.batch(slice(0, len(columns)))
    with torch.no_grad():
        return float(task_losses(network.eval()(batch).double(), batch.labels.double()).sum())


def test_statistics_belong_to_their_slot_wherever_bags_stand(run):
    question = asked(run)
    columns = question.log.part("valid")
    vectors = question.network.eval().tables.lookup(columns.batch(slice(0, len(columns)))).inputs()[0].stack()
    for k, slot in enumerate(question.log.slots):
        torch.testing.assert_close(question.means[slot.name], vectors[:, k].mean(0), rtol=1e-4, atol=1e-5)


def test_mask_exact_is_the_loss_of_the_whole_network_with_the_column_gone(run):
    question = asked(run)
    found = EVIDENCE["mask_exact"](question)
    assert set(found) == {"tags", "user", "item", "place", "noise"}
    base = loss(question.network, question.log)
    for table in found:
        for j in (0, 5):
            gone = copy.deepcopy(question.network)
            with torch.no_grad():
                gone.tables.read(table)["weight"][:, j] = 0
            assert found[table][j] == pytest.approx(loss(gone, question.log) - base, abs=1e-6)


def test_mask_exact_is_the_oracle(run):
    """And `dimension.oracle` says the same, where no table is shared."""
    question = asked(run)
    columns = question.log.part("valid")
    batch = columns.batch(slice(0, len(columns)))
    with torch.no_grad():
        slots, linear = question.network.eval().tables.lookup(batch).inputs()
        vectors = slots.stack()

        def of(mask):
            logits = question.network.model(Stacked(vectors * torch.from_numpy(mask).float()), linear, batch.numeric)
            return float(task_losses(logits.double(), batch.labels.double()).sum())

        expected = brute_force(of, len(question.log.slots), 8)
    found = EVIDENCE["mask_exact"](question)
    for k, slot in enumerate(question.log.slots):
        if slot.table != "item":
            np.testing.assert_allclose(found[slot.name], -expected[k], atol=1e-6)


def test_a_noise_slot_is_worth_the_least(run):
    drops = EVIDENCE["mask_auc"](asked(run))
    assert min(drops["user"], drops["item"]) > 0.05
    assert max(drops["noise"], drops["last"]) < 0.25 * min(drops["user"], drops["item"])


def test_fewer_rows_are_evaluated_where_asked(run):
    some = EVIDENCE["mask_exact"](asked(run, rows=100))
    assert not np.allclose(some["user"], EVIDENCE["mask_exact"](asked(run))["user"])


@pytest.mark.parametrize("strategy", ["mask_auc", "mask_exact", "search", "pep", "optembed"])
def test_each_walks_the_road_within_the_budget_and_repeats(run, strategy, tmp_path):
    changes = (f"prune.strategy={strategy}", *(s for s in SMALL if strategy in s))
    texts = []
    for name in ("one", "two"):
        from autodim.config import load_config, to_yaml

        config = load_config(to_yaml(run.config), [f"run={tmp_path / name}", *changes], "here").config
        shared = {"prepare": run.stage("prepare")}
        fresh = tmp_path / name / "pretrain"  # its own: nothing that was measured is shared
        shutil.copytree(run.stage("pretrain"), fresh, ignore=shutil.ignore_patterns("*-*"))
        one = Run(tmp_path / name, config, shared)
        allocation = prune(one, open_log(run), CPU)
        assert 0 < allocation.spent <= allocation.asked and allocation.strategy == strategy
        left = {p.name.split("-")[0] for p in fresh.iterdir() if p.name.endswith(".work")}
        assert not left
        texts.append((one.stage("prune") / "widths.yaml").read_text())
    assert texts[0] == texts[1]
    assert load_network(one.stage("prune") / "model")[0].tables.layout.parameters == allocation.spent


class StopAfter:
    """A signal that comes after a while."""

    def __init__(self, looks):
        self.left = looks

    @property
    def signum(self):
        self.left -= 1
        return 15 if self.left < 0 else None

    def check(self):
        if self.signum is not None:
            raise Interrupted(15)


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_an_interrupted_search_goes_on_as_if_it_had_not(run, sampler, monkeypatch):
    if sampler == "tpe":
        pytest.importorskip("optuna")
    settings = run.config.prune.search.model_copy(update={"sampler": sampler, "trials": 4})
    expected = EVIDENCE["search"](asked(run, "search", search=settings))
    for path in run.stage("pretrain").glob("search-*"):
        shutil.rmtree(path)
    trained = []
    real = trials.train_network
    monkeypatch.setattr(trials, "train_network", lambda *a: trained.append(1) or real(*a))
    with pytest.raises(Interrupted):
        EVIDENCE["search"](asked(run, "search", search=settings, session=Session(CPU.device, QUIET, StopAfter(80))))
    first = len(trained)
    assert 0 < first < 4
    assert EVIDENCE["search"](asked(run, "search", search=settings)) == expected
    assert len(trained) - first in (4 - first, 5 - first)  # finished trials are not trained again
    assert EVIDENCE["search"](asked(run, "search", search=settings)) == expected and len(trained) <= 5


def test_without_optuna_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"autodim\[search\]"):
        trials.Tpe(["a"], 8, 0)


def test_budgets_share_one_supernet(run):
    settings = run.config.prune.optembed.model_copy(update={"epochs": 1, "generations": 2})
    for share in (0.3, 0.6):
        EVIDENCE["optembed"](asked(run, "optembed", share, optembed=settings))
    assert len(list(run.stage("pretrain").glob("supernet-*"))) == 1


@pytest.fixture(scope="module")
def small(run):
    """A spectral cut."""
    question = asked(run, "spectral", 0.35)
    from autodim.dimension.strategies import STRATEGIES

    allocation = STRATEGIES["spectral"](question.problem, question.budget, question.statistics)
    return question, allocation, cut_for(question.run, question.network, allocation, question.log, CPU)


def test_a_refit_lowers_the_loss_and_leaves_tables_and_model(small):
    question, _, cut = small
    before = loss(cut, question.log)
    after, again = copy.deepcopy(cut), copy.deepcopy(cut)
    damping = refitting.refit(after, question.network, question.log.part("valid"), CPU)
    assert damping in refitting.DAMPINGS and loss(after, question.log) < before - 0.002
    changed = {k for k, v in after.state().items() if not torch.equal(v, cut.state()[k])}
    assert changed and all("projection" in k or k == "tables.bias" for k in changed)
    refitting.refit(again, question.network, question.log.part("valid"), CPU)
    assert all(torch.equal(v, after.state()[k]) for k, v in again.state().items())


def test_a_refit_that_helps_nobody_is_not_made(small, monkeypatch):
    question, _, cut = small
    real = refitting._equations
    monkeypatch.setattr(refitting, "_equations", lambda *a: (real(*a)[0], -real(*a)[1]))  # uphill
    same = copy.deepcopy(cut)
    assert refitting.refit(same, question.network, question.log.part("valid"), CPU) is None
    assert all(torch.equal(v, cut.state()[k]) for k, v in same.state().items())


def test_a_refits_derivatives_are_those_of_autograd(small):
    """Of one logit by every projection and bias, shared table and bag included."""
    question, _, cut = small
    cut = copy.deepcopy(cut).eval()
    batch = question.log.part("valid").batch(slice(0, 3))
    lookup = cut.tables.lookup(batch)
    vectors = lookup.inputs()[0].stack().detach().requires_grad_()
    logits = cut.model(Stacked(vectors), lookup.inputs()[1], batch.numeric)
    (slope,) = torch.autograd.grad(logits[:, 0].sum(), [vectors])
    features = refitting._features(cut, lookup, slope)
    numbers = cut.tables.dense_parameters()
    for row in range(3):
        one = cut(batch)[row, 0]
        expected = torch.cat([g.flatten() for g in torch.autograd.grad(one, numbers)])
        torch.testing.assert_close(features[row].float(), expected, rtol=1e-3, atol=1e-5)


def test_a_cut_that_equals_its_teacher_is_left_alone(small, monkeypatch):
    question, _, cut = small
    monkeypatch.setattr(refitting, "MIX", 1.0)
    same = copy.deepcopy(cut)
    refitting.refit(same, cut, question.log.part("valid"), CPU)
    for name, value in same.state().items():
        torch.testing.assert_close(value, cut.state()[name], atol=1e-5, rtol=1e-4)


def test_the_refit_is_part_of_the_cut_everywhere(run):
    question = asked(run, "spectral_refit", 0.35)
    allocation = prune(Run(run.folder, question.run.config, run.shared), question.log, CPU)
    assert allocation.strategy == "spectral_refit"
    saved, _ = load_network(run.stage("prune") / "model")
    kept = Allocation.from_yaml((run.stage("prune") / "widths.yaml").read_text())
    again = cut_for(question.run, question.network, kept, question.log, CPU)
    assert all(torch.equal(v, again.state()[k]) for k, v in saved.state().items())
    rows = {r.strategy: r for r in sweep(run.config, ["spectral", "spectral_refit"], [0.35], QUIET, part="valid")}
    assert rows["spectral_refit"].widths == rows["spectral"].widths
    assert rows["spectral_refit"].measured < rows["spectral"].measured
    assert rows["spectral_refit"].logloss == pytest.approx(loss(saved, question.log), abs=1e-6)


def test_the_oracle_command_judges_the_scores(run):
    found = oracle(run.config, ["spectral", "sseds"], [0.6, 0.3], QUIET)
    assert found == artifact.read_json(run.folder / "oracle" / "oracle.json")
    scores = {s["score"]: s["spearman"] for s in found["scores"]}
    assert scores["spectral, diagonal"] > 0.8 and found["masks"]["correlation"] > 0.8
    assert found["masks"]["count"] == 5 * 8 and found["cuts"]["count"] == 4
    assert 0.1 < found["cuts"]["slope"] < 3 and found["cuts"]["correlation"] > 0.5


def test_agreement_is_a_line_through_the_points():
    x = np.array([1.0, 2.0, 4.0])
    assert agreement(x, 3 * x + 1) == {"slope": pytest.approx(3), "correlation": pytest.approx(1), "count": 3}
    assert agreement(x, x * 0)["slope"] is None


def test_one_class_says_so(run, tmp_path):
    frame = pd.DataFrame({"user": [f"u{k % 7}" for k in range(400)], "click": [int(k < 1) for k in range(400)]})
    frame.to_csv(tmp_path / "c.csv", index=False)
    config = tiny_config(tmp_path / "c.csv", tmp_path / "run", "data.slots=[user]")
    one = walk(config, QUIET, ("pretrain",))
    with pytest.raises(Exception, match="one class only"):
        EVIDENCE["mask_auc"](asked(one))
