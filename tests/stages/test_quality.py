"""Budgets by quality: rows that only judge, a fixed sequence from large to small, and an honest no."""

import numpy as np
import pytest
import torch
from conftest import tiny_config, tiny_frame

from autodim import artifact
from autodim.data.columns import Columns
from autodim.dimension.allocation import Allocation
from autodim.errors import NoSafeCut
from autodim.stages.cutter import Cutter
from autodim.stages.evaluate import allowed
from autodim.stages.holdout import HeldOutLog, take
from autodim.stages.model_folder import load_network
from autodim.stages.prepare import open_log, prepare
from autodim.stages.pretrain_inputs import pretrain_inputs
from autodim.stages.retrain import retrain
from autodim.stages.run import Run
from autodim.stages.search import search
from autodim.stages.session import Session
from autodim.training.bounds import Lost, lost
from autodim.training.evaluation import predict
from autodim.training.progress import Progress

QUIET = Progress("quiet")
CPU = Session(torch.device("cpu"), QUIET)
SHORT = ("pretrain.epochs=3", "retrain.epochs=1", "prune.strategy=spectral")


def config(log, folder, *more):
    return tiny_config(log, folder, *SHORT, *more)


@pytest.fixture(scope="module")
def run(tiny_log, tmp_path_factory):
    folder = tmp_path_factory.mktemp("quality") / "run"
    return search(config(tiny_log, folder, "prune.budget.max_auc_drop=0.08", "retrain.mode=none"), QUIET)


def record(run):
    return artifact.read_json(run.stage("prune") / "quality.json")


def test_validation_rows_are_divided_once_for_all(run):
    whole = open_log(run).part("valid")
    log = prepare(run, CPU)
    watch, judge = log.part("valid"), log.part("confirm")
    assert isinstance(log, HeldOutLog) and len(watch) + len(judge) == len(whole)
    assert 0.4 < len(judge) / len(whole) < 0.6
    age = torch.cat([watch.numeric, judge.numeric]).sort(0).values
    assert torch.equal(age, whole.numeric.sort(0).values)
    lengths = [torch.cat([c.bags["tags"][1].diff() for c in part]).sum() for part in ([watch, judge], [whole])]
    assert lengths[0] == lengths[1]
    again = prepare(Run(run.folder, run.config), CPU)
    assert torch.equal(again.part("confirm").ids, judge.ids)
    assert torch.equal(log.part("test").ids, open_log(run).part("test").ids)


def test_weights_of_bags_go_with_their_rows():
    bags = {"g": (np.array([1, 2, 3, 4]), np.array([0, 1, 3, 4]))}
    columns = Columns.from_arrays(np.zeros((3, 0)), bags=bags, bag_weights={"g": np.array([0.1, 0.2, 0.3, 0.4])})
    found = take(columns, torch.tensor([1, 2]))
    assert found.bags["g"][0].tolist() == [2, 3, 4]
    assert found.bag_weights["g"].tolist() == pytest.approx([0.2, 0.3, 0.4])


def test_the_answer_is_the_last_that_held_on_the_way_down(run):
    found = record(run)
    spent = [one["spent"] for one in found["tries"]]
    assert spent == sorted(spent, reverse=True) and len(set(map(str, (t["widths"] for t in found["tries"])))) == len(
        spent
    )
    tested = [one["inside"] for one in found["tries"] if one["inside"] is not None]
    assert all(tested[:-1]) and tested == [one["inside"] for one in found["tries"]][: len(tested)]
    held = [one["spent"] for one in found["tries"] if one["inside"]]
    allocation = Allocation.from_yaml((run.folder / "widths.yaml").read_text())
    assert held[-1] == found["spent"] == allocation.spent < found["uniform"]
    limits = allowed(run.config)
    for one in found["tries"]:
        if one["confirmed"] is not None:
            assert limits.inside([Lost(**task) for task in one["confirmed"]]) == one["inside"]


def test_what_was_measured_is_what_is_handed_over(run):
    log = prepare(run, CPU)
    rows = log.part("confirm")
    small, uncut = (predict(load_network(run.stage(s) / "model")[0], rows, CPU.device) for s in ("retrain", "pretrain"))
    chosen = next(one for one in record(run)["tries"] if one["spent"] == record(run)["spent"])
    assert [one.to_json() for one in lost(small, uncut, rows.labels)] == chosen["confirmed"]


def test_test_is_looked_at_once_and_the_report_says_so(run):
    results = artifact.read_json(run.folder / "evaluate" / "results.json")
    models = {m["name"]: m["test"][0]["auc"] for m in results["models"]}
    assert results["quality"]["lost"][0]["auc"] == pytest.approx(models["uniform"] - models["retrained"], abs=1e-6)
    page = (run.folder / "report.html").read_text()
    assert "AUC at most 0.08 below the uncut model" in page and "rows that neither stopped" in page.replace("\n", " ")


def test_no_row_that_judges_was_scored_or_watched(run):
    """Other labels on the judging rows leave the training, the scores and the cuts as they are."""
    log = prepare(run, CPU)
    history = artifact.read_json(run.folder / "pretrain" / "history.json")
    network, _ = load_network(run.stage("pretrain") / "model")
    watched = log.part("valid")
    best = max(history, key=lambda p: p["valid_auc"])
    from autodim.training.metrics import evaluate_logits

    auc = evaluate_logits(predict(network, watched, CPU.device), watched.labels)[0].auc
    assert auc == pytest.approx(best["valid_auc"], abs=1e-9)  # the early stop saw the watched rows alone
    assert Cutter(run, log, CPU).statistics.rows == len(watched)


def test_no_cut_is_safe_is_an_answer(tiny_log, tmp_path, run):
    wish = config(tiny_log, tmp_path / "run", "prune.budget.max_loss_increase=1e-9", "retrain.mode=none")
    wish = wish.model_copy(update={"prune": wish.prune.model_copy(update={"strategy": "magnitude"})})
    with pytest.raises(
        NoSafeCut, match=r"no cut is safe.*log loss at most 1e-09 above.*mildest cut.*\n  1\. allow more"
    ):
        search(wish, QUIET)
    assert NoSafeCut.exit_code == 7
    found = artifact.read_json(tmp_path / "run" / "quality.json")
    assert found["spent"] is None and found["tries"][0]["inside"] is False
    assert not (tmp_path / "run" / "prune" / "widths.yaml").exists()


def test_a_retrained_model_is_measured_and_not_trained_twice(tiny_log, tmp_path, monkeypatch):
    from autodim.stages import quality

    monkeypatch.setitem(quality.FINE, "retrained", 3.0)  # two retrains are enough here
    wish = config(tiny_log, tmp_path / "run", "prune.budget.max_auc_drop=0.3", "prune.strategy=sseds")
    done = search(wish, QUIET)
    found = record(done)
    assert found["measured"] == "retrained" and found["spent"] < found["uniform"]
    cells = [p for p in (done.folder / "quality").iterdir() if (p / "retrain" / "done.json").is_file()]
    mine = artifact.fingerprint(done.folder / "retrain" / "model")
    assert mine in [artifact.fingerprint(c / "retrain" / "model") for c in cells]
    before = {p: p.stat().st_mtime_ns for p in done.folder.rglob("*.safetensors")}
    search(wish, QUIET)
    assert before == {p: p.stat().st_mtime_ns for p in done.folder.rglob("*.safetensors")}


def test_widths_only_strategies_are_cut_too(tiny_log, tmp_path, run):
    wish = config(tiny_log, tmp_path / "run", "prune.budget.max_auc_drop=0.45", "retrain.mode=none")
    for strategy in ("power_rule", "sseds"):
        prune = wish.prune.model_copy(update={"strategy": strategy})
        done = search(wish.model_copy(update={"prune": prune}), QUIET, ("prepare", "pretrain", "prune"))
        assert record(done)["strategy"] == strategy and np.isfinite(record(done)["spent"])


def test_budgets_that_buy_the_same_widths_are_retrained_once(tiny_log, tmp_path, monkeypatch):
    from autodim.stages import quality

    trained = []
    monkeypatch.setattr(
        quality, "retrain", lambda cell, *rest: (trained.append(cell.folder.name), retrain(cell, *rest))
    )
    monkeypatch.setitem(quality.FINE, "retrained", 1.1)
    # all or nothing of a slot: few allocations, so that several budgets of the bisection buy the same
    wish = config(tiny_log, tmp_path / "run", "prune.budget.max_auc_drop=0.3", "prune.ladder=[8]", "retrain.epochs=1")
    done = search(wish, QUIET)
    widths = list((done.folder / "quality").glob("*/prune/widths.yaml"))
    different = {str(Allocation.from_yaml(path.read_text()).widths) for path in widths}
    assert len(trained) == len(different) < len(widths)
    assert record(done)["spent"] == Allocation.from_yaml((done.folder / "retrain" / "widths.yaml").read_text()).spent


def test_from_size_to_quality_and_back_trains_two_uncut_models_and_says_why(tiny_log, tmp_path, capsys):
    """Rows that chose the uncut model may not judge what a cut loses against it; going back, nothing is trained."""
    by_size = config(tiny_log, tmp_path / "run", "retrain.mode=none", "pretrain.epochs=1")
    stages = ("prepare", "pretrain", "prune", "retrain")
    first = search(by_size, QUIET, stages)
    model = artifact.fingerprint(first.folder / "pretrain" / "model")
    by_quality = config(
        tiny_log, tmp_path / "run", "retrain.mode=none", "pretrain.epochs=1", "prune.budget.max_auc_drop=0.3"
    )
    search(by_quality, Progress("plain"), stages)
    assert "those that judge must not have chosen the uncut model" in capsys.readouterr().err
    written = {p.stat().st_ino for p in first.folder.rglob("network.safetensors")}
    search(by_size, Progress("plain"), stages)
    said = capsys.readouterr().err
    assert "as a budget by quality wants it" in said and "pretrain: taken back from" in said
    assert artifact.fingerprint(first.folder / "pretrain" / "model") == model
    search(by_quality, QUIET, stages)
    models = (first.folder / stage / "model" / "network.safetensors" for stage in ("pretrain", "prune", "retrain"))
    assert {p.stat().st_ino for p in models} <= written  # moved, not made


def test_weights_from_elsewhere_serve_both_kinds_of_budget(tiny_log, tmp_path):
    """They were stopped by none of our rows."""
    donor = search(config(tiny_log, tmp_path / "donor", "pretrain.epochs=1"), QUIET, ("pretrain",))
    found = {}
    for kind, budget in (("size", ()), ("quality", ("prune.budget.max_auc_drop=0.3",))):
        wish = config(tiny_log, tmp_path / "run", "pretrain.epochs=1", "retrain.mode=none", *budget)
        path = str(donor.folder / "pretrain" / "model" / "network.safetensors")
        section = wish.pretrain.model_copy(update={"weights": path})
        run = Run(tmp_path / "run", wish.model_copy(update={"pretrain": section}))
        found[kind] = pretrain_inputs(run, prepare(run, CPU))
    assert found["size"] == found["quality"]


def test_a_reference_that_was_trained_too_short_is_told_as_such(tmp_path, capsys, monkeypatch):
    """A retrained small model that beats it is "inside the limit" of nothing worth keeping."""
    from autodim.stages import quality
    from autodim.stages.summary import summary, summary_lines

    monkeypatch.setitem(quality.FINE, "retrained", 4.0)
    tiny_frame(6000).to_csv(tmp_path / "clicks.csv", index=False)
    wish = tiny_config(
        tmp_path / "clicks.csv", tmp_path / "run", "pretrain.epochs=1", "pretrain.optimizer.tables.lr=1e-4",
        "retrain.epochs=4", "retrain.optimizer.tables.lr=3e-2", "prune.strategy=spectral",
        "prune.budget.max_auc_drop=0.01", "prune.quality.measure=retrained",
    )  # fmt: skip
    done = search(wish, Progress("plain"))
    said = capsys.readouterr().err
    doubt = "the uncut model is probably under-trained: raise pretrain.patience or pretrain.epochs; a loss against it"
    lines = [line for line in said.splitlines() if doubt in line]
    assert [line.split(":")[0] for line in lines] == ["quality", "quality", "evaluate"]  # once a search, answer, test
    assert record(done)["gained"] is True
    page = " ".join((done.folder / "report.html").read_text().split())
    assert page.count(doubt) == 1 and "Confirmed once on 1,2" in page and "AUC gained" in page
    assert doubt in " ".join(" ".join(summary_lines(summary(done.folder, done.config))).split())


def test_a_fair_reference_is_not_doubted(run):
    assert record(run)["gained"] is False
    assert "under-trained" not in (run.folder / "report.html").read_text()
