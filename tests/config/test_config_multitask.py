"""Checks of several tasks in a config."""

from __future__ import annotations

import pytest

from autodim.config import load_config
from autodim.config.check_multitask import _OPTIONS, ARCHITECTURES
from autodim.config.sections.model import SharingConfig
from autodim.errors import ConfigError

TWO = "[{name: click}, {name: buy}]"
SPACE = "[{name: click}, {name: buy, where: click, outside: zero}]"


def config(labels: str = TWO, model: str = "{name: mmoe}", rest: str = "") -> str:
    return f"data:\n  path: x.csv\n  slots: [user]\n  labels: {labels}\nmodel: {model}\n{rest}"


def refused(text: str, *words: str) -> None:
    with pytest.raises(ConfigError) as found:
        load_config(text)
    for word in words:
        assert word in str(found.value)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_architecture_takes_two_labels(name):
    loaded = load_config(config(SPACE if name == "esmm" else TWO, f"{{name: {name}}}"))
    assert loaded.config.model.name == name


@pytest.mark.parametrize("name", [n for n in ARCHITECTURES if n != "single"])
def test_sharing_needs_something_to_share_with(name):
    refused(config("[click]", f"{{name: {name}}}"), "two or more", "single")
    refused(f"data: {{log: flights}}\nmodel: {{name: {name}}}\n", "two or more")


def test_single_is_right_with_one_label():
    assert load_config(config("[click]", "{name: single}")).config.model.name == "single"


def test_every_option_of_sharing_is_checked():
    assert set(_OPTIONS) == set(SharingConfig.model_fields)


@pytest.mark.parametrize("option", ["own_experts: 2", "levels: 3", "connection: aver", "penalty: 0.1"])
def test_an_option_that_mmoe_ignores_is_refused(option):
    refused(config(model=f"{{name: mmoe, sharing: {{{option}}}}}"), option.split(":")[0], "mmoe")


def test_options_of_other_families_are_refused():
    refused(config(model="{name: mmoe, hidden: [64]}"), "model.hidden", "mmoe")
    refused(config(model="{name: mmoe, cross_layers: 2}"), "cross_layers")
    refused(config(model="{name: mmoe, batch_norm: true}"), "batch_norm")
    refused(config(model="{name: dnn, sharing: {towers: [4]}}"), "towers", "dnn")
    refused(config(model="{name: shared_bottom, hidden: []}"), "bottom")
    load_config(config(model="{name: mmoe, cross_layers: 2, dropout: 0.1, sharing: {interaction: cross}}"))
    load_config(config(model="{name: ple, sharing: {own_experts: 2, levels: 1, towers: []}}"))
    load_config(config(model="{name: single, hidden: [64]}"))


def test_esmm_wants_a_click_and_a_conversion_of_the_entire_space():
    for labels in (TWO, "[click, buy, like]", "[{name: click}, {name: buy, where: click}]"):
        refused(config(labels, "{name: esmm}"), "esmm", "outside: zero")
    refused(config("[click, {name: buy, where: click, outside: zero, kind: regression}]", "{name: esmm}"), "regression")


def test_a_sample_space_is_another_binary_label():
    refused(config("[click, {name: buy, where: clik}]"), 'did you mean "click"')
    refused(config("[click, {name: buy, where: buy}]"), "depends on itself")
    refused(config("[{name: a, where: b}, {name: b, where: a}]"), "depends on itself")
    refused(config("[{name: price, kind: regression}, {name: buy, where: price}]"), "regression")
    refused(config("[click, {name: buy, outside: zero}]"), "outside", "has no effect")
    load_config(config("[click, {name: buy, where: click}, {name: keep, where: buy}]"))


def test_a_regression_is_no_threshold_and_the_first_label_is_main():
    refused(config("[click, {name: price, kind: regression, above: 3}]"), "above", "regression")
    refused(config("[{name: click, role: auxiliary}, buy]"), "expected main")
    load_config(config("[click, {name: price, kind: regression, role: auxiliary}]"))


def test_a_limit_on_auc_says_nothing_of_a_regression():
    limit = "prune: {budget: {max_auc_drop: 0.001}}\n"
    refused(config("[click, {name: price, kind: regression}]", rest=limit), "max_auc_drop", "max_loss_increase")
    load_config(config("[click, {name: price, kind: regression, role: auxiliary}]", rest=limit))


def test_a_mean_of_one_main_task_is_no_mean():
    mean = "pretrain: {select_by: mean}\n"
    refused(config("[click, {name: buy, role: auxiliary}]", rest=mean), "select_by", "one main task")
    load_config(config(rest=mean))
