"""Budgets by quality in a config: what excludes what, and flags that stand for keys."""

import pytest

from autodim.cli.search import with_quality
from autodim.config import load_config
from autodim.errors import ConfigError

RAW = {"data": {"path": "x.csv", "labels": ["click"], "slots": ["user"]}, "prune": {"budget": {"share": 0.5}}}


def test_a_quality_displaces_the_files_share_and_the_other_way_round():
    flags = with_quality(["retrain.mode=none"], None, 0.0005)
    assert flags == ["retrain.mode=none", "prune.budget.max_auc_drop=0.0005"]
    budget = load_config(RAW, flags).config.prune.budget
    assert budget.by_quality and budget.share is None and budget.max_auc_drop == 0.0005
    both = load_config(RAW, with_quality(None, 1e-4, 0.001)).config.prune.budget
    assert (both.max_loss_increase, both.max_auc_drop, both.share) == (1e-4, 0.001, None)
    quality = {**RAW, "prune": {"budget": {"max_auc_drop": 0.01}}}
    assert load_config(quality, ["prune.budget.amount=9"]).config.prune.budget.max_auc_drop is None


@pytest.mark.parametrize(
    ("prune", "retrain", "told"),
    [
        ({"budget": {"share": 0.5, "max_auc_drop": 0.1}}, {}, "give exactly one"),
        ({"budget": {"max_auc_drop": 0.0}}, {}, "max_auc_drop"),
        ({"budget": {"share": 0.5}, "quality": {"confidence": 0.9}}, {}, "prune.quality.confidence: has no effect"),
        ({"budget": {"max_auc_drop": 0.1}, "quality": {"confirm": 0.0}}, {}, "expected some rows to judge"),
        ({"budget": {"max_auc_drop": 0.1}, "strategy": "manual", "widths": "w.yaml"}, {}, "found manual"),
        ({"budget": {"max_auc_drop": 0.1}, "strategy": "uniform"}, {"mode": "none"}, "spectral_uniform"),
        ({"budget": {"max_auc_drop": 0.1}, "quality": {"measure": "retrained"}}, {"mode": "none"}, "say cut"),
    ],
)
def test_what_cannot_be_meant_is_refused(prune, retrain, told):
    with pytest.raises(ConfigError, match=told):
        load_config({**RAW, "prune": prune, "retrain": retrain})
