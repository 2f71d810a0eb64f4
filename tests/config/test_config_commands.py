"""`ls`, `cp` and `show` as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from autodim.cli.cp import cp
from autodim.cli.ls import ls
from autodim.cli.show import show
from autodim.config import catalogue, load_config
from autodim.errors import ConfigError

app = typer.Typer()
for command in (ls, cp, show):
    app.command()(command)


def run(*args: str) -> str:
    return CliRunner().invoke(app, args, catch_exceptions=False).stdout


def test_ls_names_every_config_and_component() -> None:
    listed = run("ls")
    for title, entries in {"configs": catalogue.configs(), **catalogue.components()}.items():
        assert f"\n{title} (" in f"\n{listed}"
        assert all(f"  {e.name} " in listed and e.description in listed for e in entries)


def test_ls_json_and_one_family() -> None:
    assert list(json.loads(run("ls", "--json"))) == ["configs", *catalogue.COMPONENTS]
    assert list(json.loads(run("ls", "optimizers", "--json"))) == ["table_optimizers", "dense_optimizers"]
    assert [e["name"] for e in json.loads(run("ls", "models", "--json"))["models"]][:2] == ["fm", "deepfm"]
    with pytest.raises(ConfigError, match='did you mean "models"'):
        run("ls", "model")


def test_cp_copies_and_never_overwrites_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("cp", "template") == "template.yaml\n"
    copy = Path("template.yaml")
    assert copy.read_bytes() == catalogue.find_config("configs/template.yaml").read_bytes()
    copy.write_text("mine")
    with pytest.raises(ConfigError, match="--force"):
        run("cp", "configs/template.yaml", "template.yaml")
    assert copy.read_text() == "mine"
    run("cp", "configs/template.yaml", "template.yaml", "--force")
    assert copy.read_text().startswith("# autodim search")
    Path("folder").mkdir()
    assert run("cp", "movielens", "folder") == "folder/movielens.yaml\n"


def test_cp_refuses_links_and_missing_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("target").write_text("mine")
    Path("link.yaml").symlink_to("target")
    with pytest.raises(ConfigError, match="not a regular file"):
        run("cp", "template", "link.yaml", "--force")
    assert Path("target").read_text() == "mine"
    with pytest.raises(ConfigError, match="does not exist"):
        run("cp", "template", "nowhere/x.yaml")
    with pytest.raises(ConfigError, match="did you mean"):
        run("cp", "tmplate")


def test_show_prints_a_config_that_loads() -> None:
    printed = run("show", "movielens", "prune.budget.share=0.125", "seed=3")
    expected = load_config(catalogue.find_config("movielens"), ["prune.budget.share=0.125", "seed=3"]).config
    assert load_config(printed).config == expected
    assert json.loads(run("show", "flights", "--json"))["config"]["data"]["log"] == "flights"


def test_show_origins_has_one_line_a_value() -> None:
    loaded = load_config(catalogue.find_config("movielens"), ["seed=3"])
    lines = run("show", "movielens", "seed=3", "--origins").splitlines()
    assert len(lines) == sum(origin != "default" or "[" not in key for key, origin in loaded.origins.items())
    (seed,) = [line for line in lines if line.startswith("seed: ")]
    assert "seed: 3" in seed and "# override" in seed and "initial weights" in seed
    (device,) = [line for line in lines if line.startswith("device: ")]
    assert "# default" in device
    (zip3,) = [line for line in lines if line.startswith("data.slots[6].prefix: 3")]
    assert "movielens.yaml:" in zip3
    assert json.loads(run("show", "movielens", "seed=3", "--origins", "--json"))["origins"]["seed"] == "override"


def test_show_tells_what_a_component_is_and_how_to_choose_it() -> None:
    printed = run("show", "adagrad")
    assert "pretrain.optimizer.tables.name=adagrad" in printed
    assert "pretrain.optimizer.dense.name=adagrad" in printed
    assert json.loads(run("show", "deepfm", "--json"))[0]["key"] == "model.name"
    assert "pretrain.optimizer.perturb.name=helen" in run("show", "helen")
    told = run("show", "agc").split("choose it with ")[1].strip().replace("'", "")
    assert load_config(catalogue.find_config("movielens"), [told]).config.pretrain.optimizer.clip[0].name == "agc"
    with pytest.raises(ConfigError, match='did you mean "deepfm"'):
        run("show", "deepfn")


def test_show_of_a_wrong_config_lists_its_errors(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("data:\n  log: flights\nmodle:\n  width: 3\n")
    with pytest.raises(ConfigError, match=r'my\.yaml:3: modle: unknown key; did you mean "model"'):
        run("show", str(path))
