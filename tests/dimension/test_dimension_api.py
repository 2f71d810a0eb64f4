"""`allocate` on scores of one's own, without the pipeline."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from autodim.config.schema import BudgetConfig
from autodim.dimension.api import allocate
from autodim.dimension.moments import Moments
from autodim.dimension.scores import Scores
from autodim.dimension.strategies import STRATEGIES
from autodim.errors import BudgetError, ConfigError

ROWS = {"user": 1000, "item": 200}
SCORES = {"user": [8, 0, 1, 0], "item": [3, 2, -4, 1]}


def test_a_case_by_hand():
    """Ratios: item 4, 3, 2, 1 over 204 (whole: over 200), user 8 and 1 over 1004; scores sum to 19."""
    # by ratio: item 2, 0, 1 (.0196, .0147, .0098), then whole, which leaves no room for user: 10 of 19. But user's best
    # and item's two best cost 1004 + 408 and gain 15: the exact allocation takes these
    assert allocate(SCORES, ROWS, "1412 params").widths == {"user": 1, "item": 2}
    assert allocate(SCORES, ROWS, "1412 params", nested=True).widths == {"user": 0, "item": 3}
    assert allocate(SCORES, ROWS, "1616 params").widths == {"user": 1, "item": 3}
    assert allocate(SCORES, ROWS, "1616 params").entries[1].kept == (0, 1, 2)
    assert allocate(SCORES, ROWS, "1804 params").widths == {"user": 1, "item": 4}
    assert allocate(SCORES, ROWS, "100%").widths == {"user": 2, "item": 4}  # the zeros earn nothing


def test_scores_objects_and_mappings_agree():
    scores = Scores(tuple(SCORES), tuple(np.array(v, float) for v in SCORES.values()))
    assert allocate(scores, ROWS, "50%") == allocate(SCORES, ROWS, BudgetConfig(share=0.5))


def test_limits_and_seed_reach_the_strategy():
    assert allocate(SCORES, ROWS, "60%", min_dim=2).widths["user"] >= 2
    assert allocate(SCORES, ROWS, "60%", slots={"user": {"fixed": 1}}).widths["user"] == 1
    assert set(allocate(SCORES, ROWS, "60%", multiple_of=2).widths.values()) <= {0, 2, 4}
    draws = {allocate(SCORES, ROWS, "60%", strategy="random", seed=k).entries[0].scores for k in range(5)}
    assert len(draws) == 5
    plain, adam = (allocate(SCORES, ROWS, "50% bytes", state=k).uniform for k in (0, 2))
    assert plain == 4 * 4800 and adam == 3 * plain


MEASURED = {"mask_auc", "mask_exact", "search", "pep", "optembed"}  # these measure on a run's trained model


@pytest.mark.parametrize("strategy", [s for s in STRATEGIES if s != "manual" and s not in MEASURED])
def test_every_strategy_runs(strategy):
    zero, eye = np.zeros((4, 4)), np.eye(4)
    moments = {name: Moments(9, zero[0], zero[0], np.diag(np.abs(v)), zero, eye) for name, v in SCORES.items()}
    found = allocate(moments if "spectral" in strategy else SCORES, ROWS, "50%", strategy=strategy)
    assert found.strategy == strategy and 0 < found.spent <= found.asked == 2400


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scores": {}}, "no scores"),
        ({"rows": {"user": 9}}, "rows has no slot 'item'"),
        ({"rows": {**ROWS, "itm": 9}}, 'did you mean "item"'),
        ({"rows": {**ROWS, "item": 0}}, "0 rows"),
        ({"scores": {**SCORES, "item": [1, 2]}}, "the same D"),
        ({"scores": {**SCORES, "item": [1, 2, 3, np.nan]}}, "not finite"),
        ({"strategy": "ssed"}, 'did you mean "sseds"'),
        ({"strategy": "manual"}, "read_widths"),
        ({"budget": "25% parms"}, "budget"),
        ({"min_dim": -1}, "min_dim"),
        ({"zero": "none"}, "zero"),
        ({"slots": {"user": {"fix": 1}}}, "slots.user.fix"),
        ({"slots": {"usr": {"fixed": 1}}}, 'did you mean "user"'),
    ],
)
def test_wrong_arguments_are_said(change, words):
    arguments = {"scores": SCORES, "rows": ROWS, "budget": "25%"} | change
    with pytest.raises(ConfigError) as error:
        allocate(**arguments)
    assert words in str(error.value)


def test_too_little():
    with pytest.raises(BudgetError, match="at least"):
        allocate(SCORES, ROWS, "1%", min_dim=1)


def test_allocating_does_not_load_torch():
    code = "import sys; import autodim.dimension.api, autodim.dimension.statistics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
