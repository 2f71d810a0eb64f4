"""Overrides, presets and the origin of every value."""

from __future__ import annotations

from pathlib import Path

import pytest

from autodim.config import load_config, to_yaml, walk
from autodim.config.presets import PRESETS
from autodim.errors import ConfigError

FILE = """\
data:
  path: x.csv
  labels: [click]
  slots:
    - user
    - {name: item, min_count: 3}
model:
  name: deepfm
  hidden: [64, 32]
prune:
  budget: {unit: bytes, share: 0.5}
"""


def load(*overrides: str, text: str = FILE):
    return load_config(text, overrides, source="my.yaml")


def test_values_follow_the_files_rules() -> None:
    config = load(
        "model.hidden=[8,4]", "pretrain.optimizer.tables.lr=1e-4", "threads=2", "model.batch_norm=true"
    ).config
    assert config.model.hidden == (8, 4)
    assert config.pretrain.optimizer.tables.lr == 1e-4
    assert config.threads == 2
    assert config.model.batch_norm is True


def test_text_is_taken_as_typed() -> None:
    config = load("data.path=a b: #1 [x].csv", "data.delimiter=|", "run=012", "description=no").config
    assert (config.data.path, config.data.delimiter, config.run, config.description) == (
        "a b: #1 [x].csv", "|", "012", "no",
    )  # fmt: skip
    assert load(r'data.delimiter="\t"').config.data.delimiter == "\t"


@pytest.mark.parametrize(
    ("typed", "meant"), [("0,25", "0.25"), ("25%", "0.25"), ("1,000", "1000"), ("1,000.5", "1000.5")]
)
def test_numbers_as_people_write_them_are_told_as_they_are_meant(typed: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"write {meant}, without quotes"):
        load(f"pretrain.optimizer.tables.lr={typed}")


def test_later_overrides_win() -> None:
    assert load("seed=1", "seed=2").config.seed == 2


def test_share_and_amount_displace_each_other() -> None:
    budget = load("prune.budget.amount=1000").config.prune.budget
    assert (budget.unit, budget.share, budget.amount) == ("bytes", None, 1000)
    text = FILE.replace("share: 0.5", "amount: 7")
    budget = load("prune.budget.share=0.125", text=text).config.prune.budget
    assert (budget.unit, budget.share, budget.amount) == ("bytes", 0.125, None)
    with pytest.raises(ConfigError, match="exactly one"):
        load("prune.budget.share=0.125", "prune.budget.amount=3")


def test_the_resolved_file_can_be_overridden_the_same_way() -> None:
    budget = load("prune.budget.amount=1000", text=to_yaml(load().config)).config.prune.budget
    assert (budget.share, budget.amount) == (None, 1000)


def test_a_section_is_replaced_whole_and_null_takes_back() -> None:
    assert load("prune.budget={share: 0.1}").config.prune.budget.unit == "params"
    assert load("prune.budget=null").config.prune.budget.share == 0.25
    assert load("model.hidden=null").config.model.hidden == (400, 400, 400)
    assert load("model=null").config.model.hidden == (400, 400, 400)
    assert load("prune.slots.user.fixed=4").config.prune.slots["user"].fixed == 4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("prune.budgett.share=0.1", 'override: prune.budgett: unknown key; did you mean "budget"?'),
        ("prunne=1", 'override: prunne: unknown key; did you mean "prune"?'),
        ("width=4", 'override: width: unknown key; it belongs elsewhere: "model.width"'),
        ("model.width.x=4", "override: model.width: found a section {x}, expected a whole number >= 1"),
        ("model.hidden.x=4", "model.hidden is [64, 32] (my.yaml:9), not a section; set model.hidden as a whole"),
        ("data.slots.0.bins=4", "data.slots is "),
        ("model.width", "expected key=value"),
        ("=3", "expected key=value"),
        ("model..width=3", "expected key=value"),
        ("model.hidden=[64", "override model.hidden:1: not readable as YAML"),
        ("model.width=no", 'override: model.width: found "no", expected a whole number >= 1'),
        ("model.width={a: 1, a: 2}", "given twice"),
        ("run=a\udcff", "half a surrogate"),
    ],
)
def test_overrides_that_cannot_be_meant(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(override)
    assert message in str(error.value)


def test_an_override_of_the_model_leaves_the_files_other_settings_idle() -> None:
    loaded = load("model.name=fm")
    assert loaded.config.model.hidden == (400, 400, 400)
    assert loaded.origins["model.hidden"] == "default"
    assert load(text=to_yaml(loaded.config)).config == loaded.config
    with pytest.raises(ConfigError, match=r"override: model.hidden: has no effect with model.name: fm"):
        load("model.name=fm", "model.hidden=[3]")


def test_origins_name_every_value() -> None:
    loaded = load("seed=7", "prune.preset=paper", "prune.budget.unit=dims", "prune.slots={user: {fixed: 2}}")
    origins = loaded.origins
    assert set(origins) == {walk.dotted(path) for path, _ in walk.leaves(loaded.config)}
    expected = {
        "seed": "override",
        "device": "default",
        "data.path": "my.yaml:2",
        "data.slots[0].name": "my.yaml:5",
        "data.slots[0].kind": "default",
        "data.slots[1].min_count": "my.yaml:6",
        "data.slots[1].kind": "default",
        "model.hidden": "my.yaml:9",
        "prune.budget.share": "my.yaml:11",
        "prune.budget.unit": "override",
        "prune.rank": "preset paper",
        "retrain.mode": "preset paper",
        "retrain.batch": "default",
        "prune.slots.user.fixed": "override",
        "prune.slots.user.min_dim": "default",
    }
    assert {key: origins[key] for key in expected} == expected


def test_the_paper_preset_fills_every_open_choice() -> None:
    config = load(
        "prune.preset=paper", text=FILE.replace("  budget: {unit: bytes, share: 0.5}\n", "  rows: 9\n")
    ).config
    assert (config.prune.strategy, config.prune.rank, config.prune.zero) == ("sseds", "score", "drop")
    assert (config.prune.budget.unit, config.prune.budget.share) == ("dims", 0.25)
    assert config.retrain.mode == "warm_cold_first"
    assert load(text=to_yaml(config)).config == config


@pytest.mark.parametrize("path", PRESETS["paper"])
def test_a_preset_refuses_each_setting_that_contradicts_it(path: tuple[str, ...]) -> None:
    other = {"strategy": "magnitude", "unit": "params", "rank": "ratio", "zero": "mean", "mode": "cold"}[path[-1]]
    text = FILE.replace("unit: bytes", "unit: dims") + "  preset: paper\n"
    load(f"{'.'.join(path)}={PRESETS['paper'][path]}", text=text)
    with pytest.raises(ConfigError) as error:
        load(f"{'.'.join(path)}={other}", text=text)
    assert f'override: {".".join(path)}: found "{other}", but prune.preset: paper (my.yaml:12) means' in str(
        error.value
    )


def test_a_preset_that_overrides_outranks_the_file_but_no_other_override() -> None:
    text = FILE + "  strategy: spectral\nretrain: {mode: warm}\n"
    config = load("prune.preset=paper", text=text).config
    assert (config.prune.strategy, config.prune.budget.unit, config.retrain.mode) == (
        "sseds",
        "dims",
        "warm_cold_first",
    )
    assert config.prune.budget.share == 0.5
    with pytest.raises(ConfigError, match=r'override: prune\.strategy: found "spectral"'):
        load("prune.preset=paper", "prune.strategy=spectral", text=text)
    # 5,000 bytes are not 5,000 dims
    with pytest.raises(ConfigError, match=r'my\.yaml:11: prune\.budget\.unit: found "bytes"'):
        load("prune.preset=paper", text=FILE.replace("share: 0.5", "amount: 5000"))


def test_a_file_is_named_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(FILE.replace("path: x.csv", "pth: x.csv"))
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert str(error.value).startswith(f'{path}:2: data.pth: unknown key; did you mean "path"?')
    path.write_text(FILE)
    assert load_config(path).config == load_config(str(path)).config == load().config


def test_python_values_are_read_by_the_same_rules() -> None:
    raw = {"data": {"path": Path("x.csv"), "labels": ("click",), "slots": ["user", {"name": "item", "min_count": 3}]}}
    assert load_config(raw, ["model.hidden=[64,32]", "prune.budget={unit: bytes, share: 0.5}"]).config == load().config
    for wrong in (float("nan"), float("inf"), "a\0", object(), b"x"):
        with pytest.raises(ConfigError, match="found"):
            load_config({**raw, "seed": wrong})


def test_an_emptied_section_means_its_defaults() -> None:
    assert load(text=FILE + "retrain:\n  # mode: cold\n").config.retrain.mode == "warm"
