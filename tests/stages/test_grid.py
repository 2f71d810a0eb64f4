"""Cells of settings: products, `also`, checks before work, results kept, diverged trainings counted."""

import math
from pathlib import Path

import pytest
from conftest import REPOSITORY, tiny_config

from autodim import artifact
from autodim.config import catalogue, load_config
from autodim.config.recipes import read_recipes
from autodim.errors import ConfigError
from autodim.stages.grid import Cell, configs, lost, product, run_grid, summary, summary_table
from autodim.stages.stress import stress_cells, stress_table, write_stress
from autodim.training.progress import Progress

QUIET = Progress("quiet")
AXES = {"a": {"x": ["seed=1"], "y": ["seed=2"]}, "b": {"1x": [], "4x": ["pretrain.batch=256"]}}


def test_a_product_has_every_combination_with_its_settings_in_order():
    cells = product(AXES)
    assert [c.folder for c in cells] == ["x-1x", "x-4x", "y-1x", "y-4x"]
    assert cells[1] == Cell({"a": "x", "b": "4x"}, ("seed=1", "pretrain.batch=256"))


def test_also_holds_for_its_combinations_only(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("vary: {a: {x: [], y: []}, b: {p: [], q: []}}\nalso:\n- {when: {a: x, b: q}, set: [seed=7]}\n")
    found = read_recipes(path)
    assert [found.extra(c.names) for c in product(found.vary)] == [(), ("seed=7",), (), ()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vary: {}\n", "vary"),
        ("vary: {a: {}}\n", "vary.a: no entries"),
        ("vary: {a: {x: []}}\nalso: [{when: {b: x}, set: []}]\n", "no axis 'b'"),
        ("vary: {model: {deepfm: []}}\nalso: [{when: {model: deepfn}, set: []}]\n", "deepfm"),
        ("vary: {a: {x: []}}\nvaries: {}\n", "varies"),
    ],
)
def test_recipe_files_that_cannot_be_meant_are_refused(tmp_path, text, message):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_recipes(path)


def test_settings_are_checked_before_anything_is_trained(tiny_log, tmp_path):
    base = tiny_config(tiny_log, tmp_path / "run")
    with pytest.raises(ConfigError, match="batsh"):
        configs(base, [Cell({"a": "x"}, ("pretrain.batsh=1",))])
    with pytest.raises(ConfigError, match="one log"):
        configs(base, [Cell({"a": "x"}, ("data.min_count=3",))])
    with pytest.raises(ConfigError, match="x_y"):
        configs(base, [Cell({"a": "x y"}, ()), Cell({"a": "x/y"}, ())])


def test_shipped_recipes_fit_their_configs(monkeypatch):
    monkeypatch.setenv("AUTODIM_DATA", "/nowhere")
    for log in ("movielens", "frappe"):
        found = read_recipes(REPOSITORY / "examples" / "recipes" / f"optimizers_{log}.yaml")
        base = load_config(catalogue.find_config(log)).config
        cells = [Cell(c.names, (*c.overrides, *found.extra(c.names))) for c in product(found.vary)]
        made = dict(zip([tuple(c.names.values()) for c in cells], configs(base, cells), strict=True))
        assert len(made) == 30
        at = made["dnn", "16x", "cowclip"].pretrain
        assert (at.optimizer.scale_batch, at.optimizer.dense.lr, at.batch) == (16, 1e-3, 16 * base.pretrain.batch)


def test_a_grid_trains_each_cell_once_and_counts_what_diverged(tiny_log, tmp_path):
    base = tiny_config(tiny_log, tmp_path / "run", "pretrain.epochs=3", "pretrain.batch=64")
    cells = product({"rate": {"good": [], "mad": ["pretrain.optimizer.dense={name: sgd, lr: 1e30}"]}})
    told = []
    rows = run_grid(base, cells, [0, 1], tmp_path / "grid", QUIET, save=lambda rows: told.append(len(rows)))
    assert told == [1, 2, 3, 4]
    good, mad = ([r for r in rows if r["rate"] == name] for name in ("good", "mad"))
    assert all(not r["diverged"] and 0.5 < r["auc"] < 1 and r["full"] == 0 for r in good)
    assert all(r["diverged"] and r["auc"] is None and "not finite" in r["error"] for r in mad)
    assert good[0]["auc"] != good[1]["auc"]  # seeds differ
    lines = summary(rows, ["rate"])
    assert [(x["diverged"], x["tried"]) for x in lines] == [(0, 2), (2, 2)]
    assert lines[0]["auc"] == pytest.approx((good[0]["auc"] + good[1]["auc"]) / 2)
    assert lines[0]["auc_sd"] == pytest.approx(abs(good[0]["auc"] - good[1]["auc"]) / math.sqrt(2))

    # results are read and not made again; other settings of a cell are
    path = tmp_path / "grid" / "cells" / "good" / "seed-0" / "result.json"
    kept = artifact.read_json(path)
    kept["result"]["auc"] = 0.123
    artifact.write_json(path, kept)
    again = run_grid(base, cells[:1], [0], tmp_path / "grid", QUIET)
    assert again[0]["auc"] == 0.123
    other = [Cell({"rate": "good"}, ("pretrain.batch=512",))]
    assert run_grid(base, other, [0], tmp_path / "grid", QUIET)[0]["auc"] != 0.123


def test_lost_is_worse_than_guessing():
    assert lost(0.51, 0.6, 0.5) and lost(None, None, 0.5) and lost(0.7, 1.5, 0.5) and lost(0.7, 0.3, 0.02)
    assert not lost(0.7, 0.6, 0.5) and not lost(None, 0.6, 0.5) and not lost(0.7, 0.15, 0.02)


def test_stress_multiplies_rates_and_sizes_and_counts(tiny_log, tmp_path):
    base = tiny_config(tiny_log, tmp_path / "run")
    cells = stress_cells(base, ("adagrad", "clippy", "norm", "agc"), (1, 4), (1, 2), lr=0.01, agc=0.03)
    made = {tuple(c.names.values()): s.pretrain for c, s in zip(cells, configs(base, cells), strict=True)}
    assert len(made) == 16 and {s.watch.policy for s in made.values()} == {"stop"}
    clippy = made["clippy", "2", "4"].optimizer
    assert (clippy.tables.name, clippy.tables.lr, clippy.dense.name, clippy.dense.lr) == (
        "adagrad", 0.04, "clippy_adagrad", 0.04,
    )  # fmt: skip
    assert made["agc", "1", "1"].optimizer.clip[0].clip == 0.03 and not clippy.clip
    wide = dict(zip([tuple(c.names.values()) for c in cells], configs(base, cells), strict=True))["agc", "2", "1"]
    assert wide.model.hidden == tuple(2 * h for h in base.model.hidden)
    rows = [
        {"recipe": "adagrad", "size": "1", "rate": "1", "diverged": False, "auc": 0.7},
        {"recipe": "adagrad", "size": "1", "rate": "1", "diverged": True, "auc": 0.6},
        {"recipe": "adagrad", "size": "1", "rate": "8", "diverged": True, "auc": None},
        {"recipe": "clippy", "size": "1", "rate": "1", "diverged": False, "auc": 0.72},
        {"recipe": "clippy", "size": "1", "rate": "8", "diverged": False, "auc": 0.74},
    ]
    head, body = stress_table(rows)
    assert head[2:4] == ["rate x 1", "rate x 8"]
    assert body == [
        ["adagrad", "1", "1 / 2", "1 / 1", "0.6500 (x 1)"],
        ["clippy", "1", "0 / 1", "0 / 1", "0.7400 (x 8)"],
    ]
    text = Path(write_stress(tmp_path, rows, {"model": "dnn"})).read_text()
    assert "| clippy | 1 | 0 / 1 | 0 / 1 | 0.7400 (x 8) |" in text


def test_a_summary_has_a_column_for_each_task():
    one = {"auc": 0.9, "logloss": 0.3, "seconds": 2.0, "diverged": False}
    figures = [({"a": {"auc": 0.9}, "b": {"auc": 0.7}}), ({"a": {"auc": 0.9}, "b": {"auc": None, "rmse": 0.5}}), None]
    rows = [{"model": "m", "seed": k, **one, "tasks": tasks} for k, tasks in enumerate(figures)]
    rows.append({"model": "lost", "seed": 0, **one, "auc": None, "tasks": None})
    lines = summary(rows, ["model"])
    head, body = summary_table(lines, ["model"])
    assert head == ["model", "test AUC", "test b", "logloss", "seconds", "diverged"]
    assert body[0][2] == "0.6000 ± 0.1414" and body[1][1:3] == ["–", "–"]
