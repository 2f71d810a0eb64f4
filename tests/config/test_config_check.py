"""Contradictions across sections are found, each by its own message; right configs pass."""

from __future__ import annotations

from typing import Any

import pytest

from autodim.config import load_config
from autodim.config.check import check, require
from autodim.config.schema import Config, ModelConfig
from autodim.errors import ConfigError


def raw(**sections: dict[str, Any]) -> dict[str, Any]:
    data = {"path": "x.csv", "labels": ["click"], "slots": ["user", "item", {"name": "age", "kind": "value"}]}
    return {**sections, "data": {**data, **sections.get("data", {})}}


def optimizer(**sections: Any) -> dict[str, Any]:
    return {"pretrain": {"optimizer": sections}}


CASES: list[tuple[dict[str, Any], str]] = [
    ({"data": {"path": None}}, "data: found neither `path` nor `log`"),
    ({"data": {"slots": []}}, "data.slots: none given"),
    ({"data": {"labels": []}}, "data.labels: none given"),
    ({"data": {"path": None, "log": "criteo"}}, "data.path: missing, expected the criteo file"),
    ({"data": {"log": "planted"}}, "data.path: has no effect with data.log: planted"),
    ({"data": {"options": {"rows": 3}}}, "data.options: has no effect"),
    ({"data": {"path": "x.parquet", "delimiter": ";"}}, "data.delimiter: has no effect with a Parquet file"),
    ({"data": {"header": False}}, "data.names does not name the columns"),
    ({"data": {"names": ["a"]}}, "set header: false"),
    ({"data": {"delimiter": "ab"}}, "expected one character"),
    ({"data": {"slots": ["user", "item", "user"]}}, 'data.slots[2]: the name "user" is already data.slots[0]\'s'),
    ({"data": {"labels": ["click", "click"]}}, "data.labels[1]: the name"),
    ({"data": {"slots": ["user", {"name": "c", "column": "click"}]}}, 'the column "click" is also label "click"'),
    ({"data": {"slots": ["user", "a\nb"]}}, r'found "a\nb", expected 1 to 200 printable'),
    ({"data": {"slots": ["user", "x" * 300]}}, "expected 1 to 200 printable"),
    ({"data": {"slots": [""]}}, 'found "", expected 1 to 200'),
    ({"data": {"labels": [{"name": "l", "above": 1, "equals": 2}]}}, "found both `above` and `equals`"),
    ({"data": {"slots": ["part"], "split": {"by": "column", "column": "part"}}}, "is data.split.column"),
    ({"data": {"slots": [{"name": "a", "pooling": "sum"}]}}, "data.slots[0].pooling: has no effect"),
    ({"data": {"slots": [{"name": "a", "separator": ","}]}}, "it needs kind: multi"),
    (
        {"data": {"slots": [{"name": "a", "kind": "buckets", "bins": 9}]}},
        "it needs kind: buckets and buckets: quantile",
    ),
    ({"data": {"slots": [{"name": "a", "kind": "multi", "prefix": 9}]}}, "it needs kind: categorical"),
    ({"data": {"slots": [{"name": "a", "kind": "value", "table": "b"}]}}, "it needs a kind with ids"),
    ({"data": {"slots": [{"name": "a", "weights": "w"}]}}, "data.slots[0].weights: has no effect"),
    (
        {"data": {"slots": [{"name": "a", "kind": "multi", "weights": "w", "weight_separator": ":"}]}},
        "found both `weights` and `weight_separator`",
    ),
    (
        {"data": {"slots": [{"name": "a", "kind": "multi", "weight_separator": "|"}]}},
        'weight_separator: found "|", expected text that is not in the separator',
    ),
    ({"data": {"slots": [{"name": "a", "kind": "multi", "weights": "click"}]}}, "predicts nothing: take it out"),
    ({"data": {"slots": [{"name": "a", "kind": "multi", "separator": ""}]}}, "expected what separates the ids"),
    ({"data": {"slots": [{"name": "a", "kind": "buckets", "hash": 9}]}}, "data.slots[0].hash: has no effect"),
    (
        {"data": {"slots": ["a", {"name": "b", "hash": 9, "table": "a"}]}},
        "data.slots[1].hash: found 9, but data.slots[0] of the same table has none",
    ),
    ({"data": {"slots": [{"name": "a", "kind": "scaled", "table": "b"}]}}, "it needs a kind with ids"),
    ({"data": {"split": {"by": "group"}}}, "data.split.column: missing"),
    ({"data": {"split": {"by": "file", "column": "part"}}}, "has no effect with data.split.by: file"),
    ({"data": {"split": {"by": "file", "test": 0.3}}}, "data.split.test: has no effect"),
    ({"data": {"split": {"by": "group", "column": "u", "valid_from": "test"}}}, "valid_from: has no effect"),
    ({"data": {"split": {"by": "time"}}}, "data.split.column: missing"),
    ({"data": {"split": {"by": "column"}}}, "data.split.column: missing"),
    ({"data": {"split": {"column": "part"}}}, "data.split.column: has no effect with data.split.by: random"),
    ({"data": {"split": {"valid": 0.5, "test": 0.5}}}, "expected less than 1 so that rows train"),
    ({"data": {"split": {"valid": 0}}}, "data.split.valid: found 0"),
    ({"data": {"split": {"by": "column", "column": "p", "valid": 0.3}}}, "with valid_from it is the share"),
    (
        {"data": {"split": {"by": "column", "column": "p", "test_values": ["train"]}}},
        '"train" means both train and test',
    ),
    ({"data": {"split": {"valid_from": "train"}}}, "data.split.valid_from: has no effect"),
    ({"model": {"name": "fm", "hidden": [3]}}, "model.hidden: has no effect with model.name: fm"),
    ({"model": {"name": "fm", "dropout": 0.1}}, "model.dropout: has no effect"),
    ({"model": {"name": "deepfm", "cross_layers": 2}}, "only with dcn, dcnv2"),
    ({"model": {"name": "deepfm", "product": "outer"}}, "only with pnn"),
    ({"prune": {"strategy": "manual"}}, "prune.widths: missing"),
    ({"prune": {"alpha": 0.5}}, "only with power_rule"),
    ({"prune": {"nested": True, "strategy": "uniform"}}, "prune.nested: has no effect"),
    ({"prune": {"nested": True, "strategy": "search"}}, "each budget has its own search"),
    ({"prune": {"precision": "auto"}}, "prune.budget.unit=serving_bytes"),
    (
        {"prune": {"precision": "auto", "strategy": "power_rule", "budget": {"unit": "serving_bytes", "share": 0.1}}},
        "expected rank ratio and one of sseds",
    ),
    (
        {"prune": {"precision": "auto", "nested": True, "budget": {"unit": "serving_bytes", "share": 0.1}}},
        "prune.nested: with prune.precision: auto",
    ),
    ({"prune": {"widths": "w.yaml"}}, "only with manual"),
    ({"prune": {"seed": 3}}, "only with random"),
    ({"prune": {"min_dim": 4, "max_dim": 2}}, "prune.min_dim: found 4, expected at most max_dim: 2"),
    ({"prune": {"max_dim": 17}}, "prune.max_dim: found 17, expected at most model.width: 16"),
    ({"prune": {"min_dim": 17}}, "prune.min_dim: found 17, expected at most model.width: 16"),
    ({"prune": {"multiple_of": 32}}, "prune.multiple_of: found 32"),
    ({"prune": {"slots": {"usr": {"fixed": 1}}}}, 'prune.slots.usr: no such slot; did you mean "user"?'),
    ({"prune": {"slots": {"age": {"fixed": 1}}}}, "prune.slots.age: a slot of kind value has no table"),
    ({"prune": {"slots": {"user": {"fixed": 17}}}}, "prune.slots.user.fixed: found 17, expected at most model.width"),
    ({"prune": {"multiple_of": 4, "slots": {"user": {"fixed": 6}}}}, "expected a multiple of 4"),
    ({"prune": {"slots": {"user": {"fixed": 6, "min_dim": 2}}}}, "min_dim: has no effect beside `fixed`"),
    ({"prune": {"slots": {"user": {"min_dim": 6, "max_dim": 2}}}}, "found 6, expected at most max_dim: 2"),
    ({"prune": {"max_dim": 4, "slots": {"user": {"min_dim": 6}}}}, "prune.slots.user.min_dim: found 6"),
    ({"run": " "}, "run: found"),
    (optimizer(clip=[{"name": "cowclip"}], tables={"l2": 1e-5}), "move it: l2: 1e-05 here"),
    (optimizer(clip=[{"name": "cowclip", "l2": 0.1}], tables={"l2": 1e-5}), "optimizer.tables.l2 to 0 and keep"),
    (
        {"retrain": {"optimizer": {"clip": [{"name": "cowclip"}], "tables": {"l2": 1}}}},
        "retrain.optimizer.clip[0]: cow",
    ),
    ({"pretrain": {"plateau": 0.1, "optimizer": {"schedule": {"name": "cosine"}}}}, "beside pretrain.plateau: 0.1"),
    ({"pretrain": {"epochs": 2, "optimizer": {"schedule": {"name": "linear", "warmup": 2}}}}, "found 2 epochs"),
    (optimizer(schedule={"name": "constant", "floor": 0.1}), "schedule.floor: has no effect"),
    (optimizer(perturb={"name": "sam", "xi": 0.5}), "pretrain.optimizer.perturb.xi: has no effect with"),
    (optimizer(perturb={"name": "sam", "frequency": "ema"}), "perturb.name: sam, only with helen; take it out"),
    (optimizer(perturb={"name": "asam", "frequency": "global"}), "perturb.name: asam, only with helen"),
    (optimizer(perturb={"name": "asam", "norm_scope": "row"}), "perturb.norm_scope: has no effect"),
    (optimizer(perturb={"name": "sam", "dense": "none"}), "perturb.dense: has no effect"),
    (optimizer(perturb={"name": "helen", "eta": 0.5}), "perturb.name: helen, only with asam"),
    (optimizer(perturb={"name": "helen", "decay": 0.5}), "perturb.frequency: batch, only with ema"),
    (optimizer(clip=[{"name": "norm"}]), "pretrain.optimizer.clip[0].max_norm: missing, expected"),
    (optimizer(clip=[{"name": "norm", "max_norm": 1, "zeta": 1}]), "clip[0].zeta: has no effect"),
    (optimizer(clip=[{"name": "agc", "max_norm": 1}]), "clip[0].name: agc, only with norm"),
    (optimizer(clip=[{"name": "cowclip", "clip": 1}]), "clip[0].name: cowclip, only with agc"),
    (optimizer(clip=[{"name": "agc"}, {"name": "agc"}]), "clip[1]: agc is listed twice"),
    (optimizer(dense={"mode": "tfrs"}), "pretrain.optimizer.dense.mode: has no effect"),
    (optimizer(perturb={"rho": 0.1}), "pretrain.optimizer.perturb.name: missing, expected one of helen, sam, asam"),
    (optimizer(perturb={"name": "helena"}), 'did you mean "helen"?'),
]


@pytest.mark.parametrize(("sections", "message"), CASES, ids=[message[:40] for _, message in CASES])
def test_each_contradiction_has_its_message(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(raw(**sections))
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"model": {"name": "fm", "hidden": [400, 400, 400], "cross_layers": 3, "product": "inner"}},  # the defaults
        {"model": {"name": "dcn", "cross_layers": 2}},
        {"model": {"name": "pnn", "product": "outer"}},
        {"prune": {"strategy": "power_rule", "alpha": 0.5}},
        {"prune": {"strategy": "manual", "widths": "w.yaml"}},
        {"prune": {"min_dim": 8, "slots": {"user": {"fixed": 2}, "item": {"min_dim": 1, "max_dim": 4}}}},
        {"data": {"split": {"by": "column", "column": "p", "valid_from": "test", "valid": 0.5}}},
        {"data": {"split": {"by": "time", "column": "hour"}}},
        {"data": {"slots": ["zip", {"name": "zip3", "column": "zip", "prefix": 3}]}},
        {"data": {"slots": ["user", {"name": "last", "table": "user"}]}},
        {"data": {"header": False, "names": ["click", "user", "item", "age"]}},
        {"data": {"drop": {"click": -1}}},
        optimizer(perturb={"name": "helen", "xi": 0.5, "frequency": "ema", "decay": 0.5, "dense": "none"}),
        optimizer(perturb={"name": "sam", "rho": 0}, clip=[{"name": "agc"}, {"name": "norm", "max_norm": 1}]),
        optimizer(perturb={"name": "asam", "eta": 0.5, "xi": 0.3, "frequency": "batch"}),  # the others' defaults
        optimizer(clip=[{"name": "cowclip", "l2": 1e-5}], schedule={"name": "linear", "warmup": 0.5, "floor": 0.1}),
        optimizer(dense={"name": "clippy_adam", "mode": "tfrs"}, tables={"l2": 1e-5}, clip=[{"name": "agc"}]),
    ],
)
def test_what_makes_sense_passes(sections: dict[str, Any]) -> None:
    assert check(load_config(raw(**sections)).config) == []


@pytest.mark.parametrize("log", ["flights", "planted"])
def test_a_known_log_brings_its_own_slots_which_may_be_replaced(log: str) -> None:
    assert load_config({"data": {"log": log}}).config.data.slots == ()
    own = load_config({"data": {"log": log, "slots": ["a"], "labels": ["b"]}, "prune": {"slots": {"a": {"fixed": 1}}}})
    assert own.config.data.slots[0].name == "a"


def test_configs_built_in_python_can_be_checked_too() -> None:
    config = load_config(raw()).config
    require(config)
    broken = config.model_copy(update={"model": ModelConfig(name="fm", dropout=0.5)})
    assert isinstance(broken, Config)
    with pytest.raises(ConfigError, match=r"model\.dropout"):
        require(broken)


@pytest.mark.parametrize(
    ("setting", "strategy"),
    [
        ("prune.gamma=0.3", "spectral_tempered"),
        ("prune.thresholds=[1, 2, 3, 4, 5, 6]", "frequency_tiers"),
        ("prune.search.trials=3", "search"),
        ("prune.pep.granularity=global", "pep"),
        ("prune.optembed.population=4", "optembed"),
        ("prune.seed=3", "optembed"),
    ],
)
def test_what_one_strategy_is_told_is_refused_by_the_others(setting, strategy):
    text = "data: {path: a.csv, labels: [click], slots: [user]}\n"
    load_config(text, [f"prune.strategy={strategy}", setting], "here")
    with pytest.raises(ConfigError, match=f"no effect with prune.strategy: spectral, only with .*{strategy}"):
        load_config(text, [setting], "here")


def test_thresholds_go_with_the_ladder():
    text = "data: {path: a.csv, labels: [click], slots: [user]}\nprune: {strategy: frequency_tiers, ladder: [8, 1]}\n"
    load_config(text, ["prune.thresholds=[50, 5]"], "here")
    with pytest.raises(ConfigError, match="found 1, expected 2"):
        load_config(text, ["prune.thresholds=[50]"], "here")
    with pytest.raises(ConfigError, match="do not fall"):
        load_config(text, ["prune.thresholds=[5, 50]"], "here")
