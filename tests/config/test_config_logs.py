"""Several logs in a config: what cannot be meant is refused, with the reason."""

from __future__ import annotations

import pytest

from autodim.config import load_config, to_yaml
from autodim.errors import ConfigError

TWO = "[{path: a.csv, labels: [click]}, {path: b.csv, labels: [buy]}]"
BOTH = "[{path: a.csv, labels: [click, buy]}, {path: b.csv, labels: [buy]}]"


def config(logs: str = TWO, labels: str = "[click, buy]", data: str = "", rest: str = "") -> str:
    return f"data:\n  logs: {logs}\n  labels: {labels}\n  slots: [user]\n{data}model: {{name: mmoe}}\n{rest}"


def test_two_logs_are_read_and_written():
    found = load_config(config()).config
    assert [(one.path, one.labels) for one in found.data.logs] == [("a.csv", ("click",)), ("b.csv", ("buy",))]
    assert found.pretrain.alternate == "by_size"
    assert load_config(to_yaml(found)).config == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (config(data="  path: c.csv\n"), "data.logs: found beside data.path; give exactly one"),
        (config(data="  log: planted\n"), "data.logs: found beside data.log"),
        (config("[{path: a.csv, labels: [click, buy]}]"), "data.logs: found one, expected two or more"),
        (config("[{path: a.csv, labels: [click, buy]}, {path: b.csv, labels: []}]"), "data.logs[1].labels: none given"),
        (config(TWO.replace("click]", "clik]")), 'no label "clik" in data.labels; did you mean "click"?'),
        (config(labels="[click, buy, like]"), 'data.labels[2]: no log of data.logs has the label "like"'),
        (config(labels="[click, {name: buy, where: click}]"), 'data.logs[1] (b.csv) has no "click"'),
        (config("[{path: a.csv, label: [click]}]"), "label"),
    ],
)  # fmt: skip
def test_logs_that_cannot_be_meant(text, words):
    with pytest.raises(ConfigError) as found:
        load_config(text)
    assert words in str(found.value)


def test_a_sample_space_may_lie_within_each_log_that_has_the_label():
    logs = "[{path: a.csv, labels: [click]}, {path: b.csv, labels: [click, buy]}]"
    load_config(config(logs, "[click, {name: buy, where: click}]"))


@pytest.mark.parametrize("name", ["pcgrad", "gradvac", "mgda", "pe_ltr", "gradnorm", "paperec"])
def test_what_compares_tasks_needs_two_in_a_batch(name):
    rest = f"pretrain: {{weighting: {{name: {name}}}}}\n"
    with pytest.raises(ConfigError, match="no batch has two tasks"):
        load_config(config(rest=rest))
    load_config(config(BOTH, rest=rest))
    load_config(config(rest=f"pretrain: {{alternate: never, weighting: {{name: {name}}}}}\n"))


@pytest.mark.parametrize(
    "weighting", ["{name: uncertainty}", "{name: dwa, window: .5}", "{name: static, weights: {buy: 2}}"]
)
def test_what_weighs_losses_needs_none(weighting):
    load_config(config(rest=f"pretrain: {{weighting: {weighting}}}\n"))


def test_settings_of_turns_that_have_no_effect_or_no_meaning():
    for rest, words in (
        ("pretrain: {weighting: {name: pcgrad, every: 5}}\n", "weighting.every: found 5"),
        ("pretrain: {windows: {period: 1d, size: 2}}\n", "alternate: never"),
    ):
        data = "  split: {by: time, column: when}\n"
        with pytest.raises(ConfigError, match=words):
            load_config(config(BOTH, data=data, rest=rest))
        load_config(config(BOTH, data=data, rest=rest.replace("{", "{alternate: never, ", 1)))
    one = "data: {path: a.csv, labels: [click], slots: [user]}\npretrain: {alternate: equal}\n"
    with pytest.raises(ConfigError, match=r"pretrain\.alternate: has no effect with one log"):
        load_config(one)
