"""A comparison is one resumable job: shared pretraining, a table over seeds, reports, and an existing run's own."""

import json

import pytest
from conftest import tiny_config

from autodim import artifact
from autodim.report import numbers
from autodim.stages.compare import Grid, Place, compare
from autodim.stages.differences import differences
from autodim.stages.search import search
from autodim.stages.tables import comparisons, write_reports, write_tables
from autodim.training.progress import Progress

QUIET = Progress("quiet")


def test_a_comparison_over_seeds(tiny_log, tmp_path, capsys):
    config = tiny_config(tiny_log, tmp_path / "unused", "pretrain.epochs=2", "retrain.epochs=1")
    grid = Grid(("sseds", "uniform", "random"), (0.5, 0.05), (0, 1))
    place = Place(tmp_path / "cmp")
    rows = compare(config, place, grid, QUIET)
    cells = [r for r in rows if r["strategy"] != "uncut"]
    assert len(cells) == 12 and len(rows) == 14
    infeasible = [r for r in cells if "infeasible" in r]
    assert {(r["strategy"], r["share"]) for r in infeasible} == {("uniform", 0.05)}
    assert all(r["spent"] <= r["asked"] for r in cells if "spent" in r)
    titles = [t for t, _ in comparisons(rows)]
    assert titles == ["budget 0.5 of the uniform model", "budget 0.05 of the uniform model"]
    assert "| sseds |" in write_tables(place.folder, rows).read_text()
    reports = write_reports(config, place, grid, rows)
    assert "random" in reports[0].read_text()
    # again: nothing is trained, the same table
    trained = {p: p.stat().st_mtime_ns for p in place.folder.rglob("*.safetensors")}
    assert compare(config, place, grid, Progress("plain")) == rows
    assert trained == {p: p.stat().st_mtime_ns for p in place.folder.rglob("*.safetensors")}
    assert "up to date" in capsys.readouterr().err
    assert json.loads((place.folder / "comparison.json").read_text()) == rows


def test_a_report_compares_means_over_the_same_seeds(tiny_log, tmp_path):
    config = tiny_config(tiny_log, tmp_path / "run", "pretrain.epochs=2", "retrain.epochs=1")
    run = search(config, QUIET)
    place = Place(run.folder / "compare", run.folder)
    grid = Grid(("magnitude", "spectral"), (0.4,), (0, 1))
    rows = compare(config, place, grid, QUIET)
    both, own = write_reports(config, place, grid, rows)
    auc = {(r["strategy"], r["seed"]): r["auc"] for r in rows}
    mean = {name: (auc[name, 0] + auc[name, 1]) / 2 for name in ("uncut", "magnitude", "spectral")}
    page = both.read_text()
    head = f"test AUC {numbers.ratio(mean['magnitude'])} against {numbers.ratio(mean['uncut'])} uncut"
    assert head in page and "means over the seeds 0, 1" in page
    cut = [r["cut_auc"] for r in rows if r["strategy"] == "magnitude"]
    assert f"{numbers.ratio(sum(cut) / 2)}" in page and "retrained (warm)" in page
    # the run's own report has its own seed's figures, and differences that are paired by seed
    assert (
        f"test AUC {numbers.ratio(auc['spectral', 0])} against {numbers.ratio(auc['uncut', 0])} uncut"
        in own.read_text()
    )
    (saved,) = json.loads((run.folder / "baselines.json").read_text())
    found = differences(config, place, grid, rows, "spectral", QUIET)[0.4]
    paired = next(d for d in found if d.name == "magnitude").auc
    assert saved["gap"] == pytest.approx(mean["spectral"] - mean["magnitude"]) and saved["gap_seeds"] == 2
    assert saved["gap_half"] == pytest.approx(paired.half) and paired.half > paired.seeds > 0
    for text in (page, own.read_text()):
        assert ("beats every baseline" in text) <= paired.real


def test_a_finished_run_lends_its_pretraining_and_gets_the_baselines(tiny_log, tmp_path):
    config = tiny_config(tiny_log, tmp_path / "run", "pretrain.epochs=2", "retrain.epochs=1")
    run = search(config, QUIET)
    before = artifact.fingerprint(run.folder / "pretrain" / "model")
    place = Place(run.folder / "compare", run.folder)
    grid = Grid(("uniform", "magnitude"), (0.4,), (0,))
    rows = compare(config, place, grid, QUIET)
    assert not (place.folder / "seed-0" / "pretrain").exists()
    assert artifact.fingerprint(run.folder / "pretrain" / "model") == before
    write_reports(config, place, grid, rows)
    assert "magnitude" in (run.folder / "report.html").read_text()


def test_on_a_planted_log_the_true_widths_are_the_judge(tmp_path):
    from autodim.config.reader import load_config
    from autodim.stages.prepare import prepare
    from autodim.stages.run import Run
    from autodim.stages.session import Session
    from autodim.stages.truth import true_widths

    text = f"""
run: {tmp_path / "run"}
threads: 1
data: {{log: planted, options: {{rows: 4000, slots: 6, width: 8, seed: 1}}}}
model: {{name: fm, width: 8}}
pretrain: {{batch: 256, epochs: 1}}
prune: {{budget: {{unit: dims, share: 0.5}}}}
retrain: {{batch: 256, epochs: 1}}
"""
    config = load_config(text, (), "planted").config
    place = Place(tmp_path / "cmp")
    rows = compare(config, place, Grid(("sseds", "uniform"), (0.5,), (0,)), QUIET)
    found = {r["strategy"]: r["truth_spearman"] for r in rows}
    assert found["uncut"] is None and found["uniform"] is None and -1 <= found["sseds"] <= 1
    assert "| sseds | 0.5 |" in write_tables(place.folder, rows).read_text()
    import torch

    base = Run(place.folder, config)
    prepare(base, Session(torch.device("cpu")))
    assert set(true_widths(base).values()) <= {0, 1, 2, 4, 8}
