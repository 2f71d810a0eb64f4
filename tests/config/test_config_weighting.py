"""The section `weighting`: options of another method, tasks and models that cannot have it."""

from __future__ import annotations

from typing import Any

import pytest

from autodim.config.check import check
from autodim.config.check_weighting import GRADIENTS, OPTIONS
from autodim.config.schema import Config, WeightingConfig


def problems(weighting: dict[str, Any], labels: tuple[str, ...] = ("click", "like"), **sections: Any) -> list[str]:
    data = {"path": "x.csv", "labels": list(labels), "slots": ["user", {"name": "age", "kind": "value"}]}
    pretrain = {"weighting": weighting, **sections.pop("pretrain", {})}
    return [p.text for p in check(Config(**{"data": data, "pretrain": pretrain, **sections}))]


CASES: list[tuple[dict[str, Any], str]] = [
    ({"name": "mgda", "beta": 0.1}, "pretrain.weighting.beta: has no effect with pretrain.weighting.name: mgda"),
    ({"every": 10}, "only with pcgrad, gradvac, mgda, pe_ltr"),
    ({"name": "static"}, "pretrain.weighting.weights: missing"),
    ({"name": "decayed", "weights": {"click": 2}}, "pretrain.weighting.decay: missing"),
    ({"name": "static", "weights": {"klick": 2}}, 'weights.klick: no such task; did you mean "click"?'),
    ({"name": "uncertainty", "regression": ["rating"]}, "regression[0]: no such task"),
    ({"name": "pe_ltr", "floor": {"click": 0.5, "like": 0.5}}, "found a sum of 1, expected less than 1"),
    ({"name": "pcgrad", "mode": "representation"}, "in model.name: deepfm the tasks share all layers"),
    ({"name": "paperec"}, "in model.name: deepfm the tasks share all layers"),
    ({"name": "pe_ltr", "scale_own": True}, "no parameter is a task's own"),
    ({"name": "dwa", "window": 5}, "they would never move"),
    ({"name": "dwa", "window": 0.5, "window_steps": 9}, "found both window and window_steps"),
    ({"name": "paperec", "group": "usr"}, 'no such slot; did you mean "user"?'),
    ({"name": "paperec", "group": "age"}, "expected one id a row"),
]


@pytest.mark.parametrize(("weighting", "message"), CASES)
def test_what_cannot_be_meant_is_refused(weighting, message):
    found = problems(weighting)
    assert any(message in text for text in found), found


@pytest.mark.parametrize("name", ["uncertainty", "dwa", "gradnorm", "pcgrad", "gradvac", "mgda", "pe_ltr"])
def test_right_settings_pass_and_one_task_is_refused(name):
    assert problems({"name": name}) == []
    assert any("there is one task" in text for text in problems({"name": name}, labels=("click",)))


def test_a_single_task_may_be_weighed_by_hand():
    assert problems({"name": "static", "weights": {"click": 0.5}}, labels=("click",)) == []


def test_every_option_has_its_owner():
    assert set(OPTIONS) == set(WeightingConfig.model_fields) - {"name"}
    assert all(set(owners) <= {"static", "decayed", "uncertainty", "dwa", "gradnorm", "paperec", *GRADIENTS}
               for owners in OPTIONS.values())  # fmt: skip


def test_pieces_of_a_batch_have_the_plain_sum_only():
    assert problems({}, pretrain={"accumulate": 2}) == []
    assert any(
        "found dwa with pretrain.accumulate: 2" in text
        for text in problems({"name": "dwa"}, pretrain={"accumulate": 2})
    )
