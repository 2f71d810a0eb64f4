"""The whole road on a tiny log: what it leaves, what it skips, and the laws of the cut and the warm start."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import tiny_config, tiny_frame

import autodim
from autodim import artifact
from autodim.dimension.allocation import Allocation
from autodim.errors import BudgetError, ConfigError, DataError, RunError
from autodim.stages.model_folder import load_network
from autodim.stages.plan import plan
from autodim.stages.predict import open_run as open_folder
from autodim.stages.prepare import open_log
from autodim.stages.report import curve
from autodim.stages.search import search
from autodim.training.losses import task_losses
from autodim.training.progress import Progress

QUIET = Progress("quiet")


@pytest.fixture(scope="module")
def run(tiny_log, tmp_path_factory):
    return search(tiny_config(tiny_log, tmp_path_factory.mktemp("runs") / "run"), QUIET)


def changed(config, section, **values):
    """The config with some values of a section changed."""
    found = config.model_dump()
    return type(config).model_validate({**found, section: {**found[section], **values}})


def whole_valid(run):
    part = open_log(run).part("valid")
    return part.batch(slice(0, len(part)))


def test_the_road_leaves_what_it_promises(run):
    for name in ("config.yaml", "widths.yaml", "metrics.jsonl", "report.html", "environment.json"):
        assert (run.folder / name).stat().st_size > 0, name
    results = artifact.read_json(run.folder / "evaluate" / "results.json")
    assert [m["name"] for m in results["models"]] == ["uniform", "cut", "retrained"]
    uniform, cut, small = results["models"]
    assert uniform["test"][0]["auc"] > 0.7
    allocation = Allocation.from_yaml((run.folder / "widths.yaml").read_text())
    assert small["params"] == cut["params"] == allocation.spent <= allocation.asked == int(0.4 * uniform["params"])
    # what was spent is what the saved tensors hold
    network, _ = load_network(run.stage("retrain") / "model")
    tables = network.tables
    stored = sum(p.numel() for p in (*tables.table_parameters(), *tables.dense_parameters()))
    assert stored - sum(p.numel() for p in tables.linear_parameters()) == allocation.spent


def test_work_that_is_done_is_skipped_and_another_budget_keeps_the_pretraining(run, capsys):
    before = {p: p.stat().st_mtime_ns for p in (run.folder / "pretrain").rglob("*.safetensors")}
    search(run.config, Progress("plain"))
    assert capsys.readouterr().err.count("up to date") == 5
    other = changed(run.config, "prune", budget={"unit": "params", "share": 0.3})
    search(other, QUIET)
    assert before == {p: p.stat().st_mtime_ns for p in before}
    assert (run.folder / "previous" / "prune-1").is_dir()
    search(run.config, QUIET)


def test_a_refused_command_leaves_the_run_as_it_was(run):
    before = {p: p.read_bytes() for p in run.folder.glob("*") if p.is_file()}
    with pytest.raises(BudgetError):
        search(changed(run.config, "prune", budget={"unit": "params", "amount": 1}), QUIET)
    assert {p: p.read_bytes() for p in run.folder.glob("*") if p.is_file()} == before


def test_a_dry_run_reads_the_log_that_the_config_names_not_the_one_that_was_prepared(run):
    assert plan(run.config)["slots"] > 0
    with pytest.raises(DataError, match="nosuch"):
        plan(changed(run.config, "data", path="nosuch.csv"))


def test_a_part_to_choose_by_needs_every_label_and_one_to_judge_by_may_have_a_single_class(tmp_path):
    frame = tiny_frame(1200)
    frame["day"] = range(1200)
    frame["late"] = [1 - i % 2 if i < 700 else None for i in range(1200)]
    frame.loc[frame["day"] >= 1000, "click"] = 0
    frame.to_csv(tmp_path / "log.csv", index=False)
    split = "data.split={by: time, column: day, valid: 0.167, test: 0.167}"
    short = ("pretrain.epochs=1", "retrain.epochs=1", split)
    run = search(tiny_config(tmp_path / "log.csv", tmp_path / "run", *short), QUIET)
    found = artifact.read_json(run.stage("evaluate") / "results.json")["models"][0]["test"][0]
    assert found["auc"] is None and found["calibration"] is None and found["logloss"] > 0
    two = tiny_config(tmp_path / "log.csv", tmp_path / "two", *short, "data.labels=[click, late]", "model.name=mmoe")
    with pytest.raises(DataError, match="no row of the part valid has the label 'late'"):
        search(two, QUIET)


def test_cut_equals_the_masked_uniform_model(run, tmp_path):
    """The masked model: columns that were not kept set to zero in the uniform model's tables."""
    shutil.copytree(run.folder, tmp_path / "run")
    config = changed(run.config, "prune", strategy="sseds").model_copy(update={"run": str(tmp_path / "run")})
    run = search(config, QUIET, ("prepare", "pretrain", "prune"))
    uniform, _ = load_network(run.stage("pretrain") / "model")
    cut, _ = load_network(run.stage("prune") / "model")
    allocation = Allocation.from_yaml((run.stage("prune") / "widths.yaml").read_text())
    assert any(e.width < 8 for e in allocation.entries)
    with torch.no_grad():
        for entry in allocation.entries:
            dropped = [k for k in range(8) if entry.kept is None or k not in entry.kept]
            uniform.tables.read(entry.table)["weight"][:, dropped] = 0
    batch = whole_valid(run)
    uniform.eval(), cut.eval()
    torch.testing.assert_close(cut(batch), uniform(batch), rtol=1e-5, atol=1e-6)


def test_a_warm_start_begins_at_the_cut_models_loss(run, tmp_path):
    from autodim.stages.retrain import start_network
    from autodim.stages.session import Session

    log = open_log(run)
    allocation = Allocation.from_yaml((run.stage("prune") / "widths.yaml").read_text())
    network = start_network(run, log, allocation, True, 0, Session(torch.device("cpu")))
    cut, _ = load_network(run.stage("prune") / "model")
    batch = whole_valid(run)
    network.eval(), cut.eval()
    first, expected = (task_losses(n(batch), batch.labels) for n in (network, cut))
    assert first.item() == pytest.approx(expected.item(), abs=1e-6)


def test_full_widths_are_the_uniform_model(run):
    from autodim.stages.cut import cut_network

    uniform, _ = load_network(run.stage("pretrain") / "model")
    layout = uniform.tables.layout
    text = "widths:\n" + "".join(f"  {s.name}: 8\n" for s in layout.slots)
    path = run.folder / "full.yaml"
    path.write_text(text)
    from autodim.dimension.allocation import read_widths
    from autodim.stages.prune import cost_model

    log = open_log(run)
    allocation = read_widths(path, log.slots, log.tables, 8, cost_model(run.config))
    counts = {t.name: log.counts(t.name) for t in log.tables}
    full = cut_network(uniform, allocation, allocation.layout(log.slots, log.tables), {}, counts)
    batch = whole_valid(run)
    uniform.eval(), full.eval()
    assert torch.equal(full(batch), uniform(batch))


@pytest.mark.parametrize("mode", ["warm_cold_first", "cold", "none"])
def test_other_retrain_modes(run, tmp_path, mode):
    config = changed(run.config, "retrain", mode=mode)
    search(config, QUIET)
    results = artifact.read_json(run.folder / "evaluate" / "results.json")
    small = results["models"][-1]
    assert 0.5 < small["test"][0]["auc"] < 1
    if mode == "none":
        assert small["test"] == results["models"][1]["test"]
    search(run.config, QUIET)


def test_retrain_from_a_hand_edited_widths_file(run, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("widths: {user: 3, item: 2, place: 0, tags: 1}\n")
    search(run.config, QUIET, stages=("retrain", "evaluate"), widths=path)
    network, _ = load_network(run.stage("retrain") / "model")
    assert [b.width for b in network.tables.layout.blocks] == [3, 2, 0, 1]
    path.write_text("widths: {user: 3, itm: 2, place: 0, tags: 1}\n")
    with pytest.raises(ConfigError, match="item"):
        search(run.config, QUIET, stages=("retrain",), widths=path)
    search(run.config, QUIET)


@pytest.mark.parametrize(
    "overrides",
    [
        ("prune.strategy=uniform",),
        ("prune.strategy=magnitude", "prune.zero=mean", "prune.budget.share=0.2"),
        ("prune.strategy=random", "prune.zero=keep_min"),
        ("prune.strategy=power_rule",),
        ("prune.strategy=fourth_root", "prune.budget.unit=bytes"),
        ("prune.strategy=frequency_tiers", "prune.budget.unit=dims"),
        ("prune.preset=paper", "retrain.mode=warm_cold_first"),
        ("model.name=fm",),
        ("model.name=pnn", "prune.multiple_of=4"),
        ("model.name=dcnv2", "pretrain.optimizer.tables.name=adagrad"),
        (
            "pretrain.optimizer.perturb.name=helen",
            "pretrain.optimizer.perturb.frequency=global",
            "pretrain.optimizer.clip=[{name: agc}]",
            "pretrain.optimizer.schedule.name=cosine",
            "pretrain.optimizer.schedule.warmup=0.5",
            "retrain.optimizer.perturb.name=asam",
            "retrain.optimizer.clip=[{name: cowclip, l2: 1e-4}, {name: norm, max_norm: 5}]",
            "retrain.optimizer.dense.name=clippy_adagrad",
        ),
    ],
)
def test_every_strategy_walks_the_road(tiny_log, tmp_path, overrides):

    config = tiny_config(tiny_log, tmp_path / "run", "pretrain.epochs=1", "retrain.epochs=1", *overrides)

    finished = search(config, QUIET)
    allocation = Allocation.from_yaml((finished.folder / "widths.yaml").read_text())
    assert 0 < allocation.spent <= allocation.asked


def test_stabilisers_walk_the_road_and_leave_their_gauges(tiny_log, tmp_path):
    config = tiny_config(
        tiny_log,
        tmp_path / "run",
        "pretrain.optimizer.perturb={name: helen, rho: 0.02, frequency: global}",
        "pretrain.optimizer.clip=[{name: norm, max_norm: 1}]",
        "pretrain.optimizer.schedule={name: cosine, warmup: 0.5, floor: 0.1}",
        "retrain.optimizer.clip=[{name: cowclip, l2: 1e-5}]",
    )
    finished = search(config, QUIET)
    first, last = (artifact.read_json(finished.stage(s) / "history.json") for s in ("pretrain", "retrain"))
    assert {*first[0]["optimizer"]} == {"norm/clipped", "norm/norm"} and {*last[1]["optimizer"]} == {"cowclip/clipped"}
    assert first[0]["lr"] > first[-1]["lr"] > 0
    results = artifact.read_json(finished.folder / "evaluate" / "results.json")["models"]
    assert results[0]["test"][0]["auc"] > 0.7
    assert [p.valid_auc for p in curve(finished, "pretrain")] == [p["valid_auc"] for p in first]


def test_helen_without_a_radius_is_the_base_to_the_bit_in_the_pipeline(run, tiny_log, tmp_path):
    config = tiny_config(tiny_log, tmp_path / "run", "pretrain.optimizer.perturb={name: helen, rho: 0}")
    found = search(config, QUIET, stages=("prepare", "pretrain"))
    expected, _ = load_network(run.stage("pretrain") / "model")
    network, _ = load_network(found.stage("pretrain") / "model")
    assert all(torch.equal(v, network.state()[k]) for k, v in expected.state().items())
    assert (found.stage("pretrain") / "history.json").read_bytes() == (
        run.stage("pretrain") / "history.json"
    ).read_bytes()


def test_an_infeasible_budget_is_named_before_anything_is_lost(run):
    config = changed(run.config, "prune", budget={"unit": "params", "amount": 3}, min_dim=2)
    with pytest.raises(BudgetError, match="smallest"):
        search(config, QUIET)
    search(run.config, QUIET)


def test_predict_new_rows_without_labels_and_with_unseen_ids(run):
    frame = tiny_frame(50, seed=9).drop(columns="click")
    frame.loc[0, "user"] = "never seen"
    frame.index = range(100, 150)
    result = autodim.open_run(run.folder)
    found = result.predict(frame)
    assert list(found.columns) == ["click"] and list(found.index) == list(frame.index)
    assert ((found > 0) & (found < 1)).all().all()
    other = frame.copy()
    other.loc[100 - 100 + 0 if 0 in other.index else 100, "user"] = "somebody else who was never seen"
    pd.testing.assert_series_equal(result.predict(other).iloc[0], found.iloc[0])


def test_five_lines_of_python(tmp_path):
    result = autodim.search(
        tiny_frame(1500),
        label="click",
        slots=["user", "item", "place"],
        budget="50% params",
        run=tmp_path / "run",
        settings={
            "model": {"width": 4, "hidden": [8]},
            "pretrain": {"batch": 128, "epochs": 1},
            "retrain": {"batch": 128, "epochs": 1},
        },
        quiet=True,
    )
    assert list(result.widths.slot) == ["user", "item", "place"]
    assert result.metrics.set_index("model").loc["retrained", "params"] <= 0.5 * 4 * (41 + 31 + 4)
    assert result.report.is_file()


def test_not_a_run_folder(tmp_path):
    with pytest.raises(RunError, match="not a run folder"):
        autodim.open_run(tmp_path)


def test_damage_is_found_and_named(tiny_log, tmp_path):
    config = tiny_config(tiny_log, tmp_path / "run", "pretrain.epochs=1", "retrain.epochs=1")
    finished = search(config, QUIET)
    path = Path(finished.folder / "retrain" / "model" / "network.safetensors")
    data = bytearray(path.read_bytes())
    data[-5] ^= 4
    path.write_bytes(data)
    with pytest.raises(RunError, match=r"network\.safetensors"):
        autodim.open_run(finished.folder).predict(tiny_frame(5))


def test_a_damaged_or_missing_model_is_made_again(tiny_log, tmp_path, capsys):
    config = tiny_config(tiny_log, tmp_path / "run", "pretrain.epochs=1", "retrain.epochs=1")
    finished = search(config, QUIET)
    before = artifact.fingerprint(finished.folder / "retrain" / "model")
    for spoil in ("damage", "remove"):
        path = finished.folder / "retrain" / "model" / "network.safetensors"
        if spoil == "damage":
            path.write_bytes(path.read_bytes()[:-1])
        else:
            shutil.rmtree(path.parent)
        search(config, Progress("plain"))
        assert "made again" in capsys.readouterr().err
        assert artifact.fingerprint(finished.folder / "retrain" / "model") == before


@pytest.mark.parametrize(
    ("strategy", "told"), [("sseds", "affords no dimension"), ("spectral", "at least 32 params(.|\n)*strategy=sseds")]
)
def test_a_budget_that_affords_nothing_is_refused_before_training(tiny_log, tmp_path, strategy, told):
    config = tiny_config(tiny_log, tmp_path / "run", f"prune={{strategy: {strategy}, budget: {{amount: 3}}}}")
    with pytest.raises(BudgetError, match=told):
        search(config, QUIET)
    assert not (tmp_path / "run" / "pretrain").exists()


def test_python_guesses_kinds_of_columns_as_init_does(tmp_path):
    frame = tiny_frame(1500)
    frame["list"] = [text.split("|") for text in frame.tags]
    frame["row"] = range(len(frame))
    short = {"batch": 128, "epochs": 1}
    settings = {"model": {"width": 4, "hidden": [8]}, "pretrain": short, "retrain": short}
    result = autodim.search(frame, label="click", budget=0.5, run=tmp_path / "run", settings=settings, quiet=True)
    kinds = {s.name: s.kind for s in open_log(open_folder(tmp_path / "run")).manifest.slots}
    assert kinds["tags"] == kinds["list"] == "multi" and "row" not in kinds
    assert set(result.widths.slot) == set(kinds)


def test_a_list_column_that_is_not_declared_is_named(tmp_path):
    frame = tiny_frame(200)
    frame["tags"] = [text.split("|") for text in frame.tags]
    with pytest.raises(DataError, match="kind: multi"):
        autodim.search(frame, label="click", slots=["user", "tags"], run=tmp_path / "run", quiet=True)


def test_the_report_tells_the_interval_of_the_difference_to_the_uncut_model(run):
    results = artifact.read_json(run.folder / "evaluate" / "results.json")
    uniform, _, small = (m["test"][0]["auc"] for m in results["models"])
    assert results["gap"]["auc"] == pytest.approx(small - uniform, abs=1e-9)
    assert 0 < results["gap"]["half"] < 0.1
    text = (run.folder / "report.html").read_text()
    assert "its 95 % interval of" in text and "log loss is" in text
