"""Every shipped config walks the whole road: its own command, cut small by overrides and by fewer rows of the log."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY
from typer.testing import CliRunner

from autodim import artifact
from autodim.cli import app
from autodim.config import load_config
from autodim.config.paths import expand_path
from autodim.data.logs import flights
from autodim.dimension.allocation import Allocation
from autodim.errors import DataError

ROWS = 20_000
SHORT = ["pretrain.epochs=1", "retrain.epochs=1", "threads=1"]
CONFIGS = sorted((REPOSITORY / "configs").glob("*.yaml"))
SAMPLED = [
    "movielens", "movielens_genres_bag", "movielens_two_labels", "census_income", "census_multitask", "frappe",
]  # fmt: skip
AS_PUBLISHED = ["criteo_sample", "avazu_sample"]


def sample(config: Path, folder: Path, data: Path) -> str:
    """The override that points at the log's first rows; of a split by column, the first rows of each of its values."""
    settings = load_config(config).config.data
    table = pq.read_table(data / Path(settings.path or "").name)
    if settings.split.by == "column":
        parts = table[settings.split.column].to_numpy(zero_copy_only=False)
        values = sorted(set(parts))
        rows = np.sort(np.concatenate([np.flatnonzero(parts == v)[: ROWS // len(values)] for v in values]))
        table = table.take(pa.array(rows))
    else:
        table = table.slice(0, ROWS)
    assert table.num_rows <= ROWS
    pq.write_table(table, folder / "sample.parquet")
    return f"data.path={folder / 'sample.parquet'}"


def walk(config: str, *overrides: str) -> dict:
    """`autodim search CONFIG ... --json`, and what every finished run owes; returns what it printed."""
    # the command that the file's first line promises; the log, in the shared folder, is found by AUTODIM_DATA
    text = (REPOSITORY / "configs" / f"{config}.yaml").read_text()
    command = text.splitlines()[0].removeprefix("# autodim ").split()
    assert command == ["search", f"configs/{config}.yaml"]
    done = CliRunner().invoke(app, [*command, *overrides, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    run = Path(found["run"])
    settings = load_config(run / "config.yaml").config
    allocation = Allocation.from_yaml((run / "widths.yaml").read_text())
    assert 0 < found["budget"]["spent"] <= found["budget"]["asked"]
    assert found["widths"] == allocation.widths and max(found["widths"].values()) > 0
    assert max(found["widths"].values()) <= settings.model.width
    assert [m["name"] for m in found["models"]] == ["uniform", "cut", "retrained"]
    uniform, _, small = found["models"]
    unit = {"params": "params", "bytes": "train_bytes", "dims": "dims"}[settings.prune.budget.unit]
    assert small[unit] == found["budget"]["spent"] < uniform[unit]
    for model in found["models"]:
        assert all(0 < t["auc"] < 1 and 0 < t["logloss"] < 2 for t in model["test"]), model
    for manifest in run.rglob(artifact.MANIFEST):
        artifact.verify(manifest.parent)
    assert (run / "report.html").stat().st_size > 10_000
    return found


def need_flights() -> None:
    try:
        flights.package_data()
    except DataError as error:
        pytest.skip(str(error))


def test_every_config_is_run_here():
    names = [*SAMPLED, *AS_PUBLISHED, "flights", "planted", "planted_recovery", "template", "mmoe_synthetic"]
    assert sorted(names) == [c.stem for c in CONFIGS]


@pytest.mark.parametrize("name", SAMPLED)
def test_a_config_walks_the_road_on_the_first_rows_of_its_log(name, public_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUTODIM_DATA", str(public_data))
    config = REPOSITORY / "configs" / f"{name}.yaml"
    found = walk(name, sample(config, tmp_path, public_data), *SHORT)
    assert Path(found["run"]) == Path("runs") / name
    slots = [s for s in load_config(config).config.data.slots if s.kind != "value"]
    assert list(found["widths"]) == [s.name for s in slots]
    assert all(rows > 1_000 for rows in found["rows"].values())


@pytest.mark.parametrize("name", AS_PUBLISHED)
def test_a_sample_in_the_raw_format_walks_the_road(name, public_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUTODIM_DATA", str(public_data))
    log = expand_path(load_config(REPOSITORY / "configs" / f"{name}.yaml").config.data.path, tmp_path)
    assert log.parent.resolve() == Path(os.environ["AUTODIM_DATA"]).resolve()
    found = walk(name, *SHORT)
    assert len(found["widths"]) == {"criteo_sample": 39, "avazu_sample": 23}[name]


def test_flights_on_its_first_rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    need_flights()
    # the log brings its own rows, so there is no path to override; what it joins is the last place to take fewer
    monkeypatch.setattr(flights, "joined", lambda folder, whole=flights.joined: whole(folder).head(ROWS))
    found = walk("flights", *SHORT)
    assert len(found["widths"]) == len(flights.CATEGORIES) + len(flights.BUCKETS)
    assert found["rows"]["test"] == pytest.approx(0.1 * ROWS, rel=0.1)


@pytest.mark.slow
def test_flights_as_it_stands_but_for_the_epochs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    need_flights()
    found = walk("flights", *SHORT)
    assert found["rows"]["test"] == pytest.approx(32_735, rel=0.02)
    assert found["models"][0]["test"][0]["auc"] > 0.65


@pytest.mark.parametrize("name", ["planted", "planted_recovery"])
def test_planted(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = walk(name, "data.options.rows=5000", *SHORT)
    truth = json.loads((Path(found["run"]) / "data" / "log" / "log" / "truth.json").read_text())
    assert list(found["widths"]) == list(truth["slots"])


def test_a_log_of_numbers_alone_walks_the_road_though_nothing_is_cut(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = str(REPOSITORY / "configs" / "mmoe_synthetic.yaml")
    options = ["data.options.rows=600", "pretrain.epochs=1", "threads=1"]
    done = CliRunner().invoke(app, ["search", config, *options, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["widths"] == {} and found["budget"]["spent"] == 0
    assert all(0 < task["rmse"] < 5 for task in found["models"][0]["test"])


def test_the_template_runs_as_it_stands_on_a_log_that_fits_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = 1_500
    user, item = rng.integers(0, 60, rows), rng.integers(0, 40, rows)
    frame = pd.DataFrame(
        {
            "clicked": (rng.random(rows) < np.where(user % 3 == item % 3, 0.8, 0.2)).astype(int),
            "user": [f"u{u}" for u in user],
            "item": [f"i{i}" for i in item],
            "city": rng.choice(["Bonn", "Köln", "", "Ulm"], rows),
            "zip": rng.integers(10_000, 99_999, rows).astype(str),
            "tags": ["|".join(rng.choice(["red", "wool", "sale", "new"], n, replace=False)) for n in user % 4],
            "price": rng.lognormal(3, 1, rows).round(2),
            "age": rng.integers(18, 80, rows),
        }
    )
    frame.to_csv("clicks.csv", index=False)
    found = walk("template")
    assert found["run"] == "runs/clicks"
    assert list(found["widths"]) == ["user", "item", "city", "region", "tags", "price"]
