"""Which rows stand for all: evenly spread, each at most once, in range, for logs of any length."""

from __future__ import annotations

import pytest
import torch

from autodim.stages.edits import spread_rows


@pytest.mark.parametrize("count", [1, 2, 10, 1000, 2**24 + 3, 20_000_001])
@pytest.mark.parametrize("rows", [1, 2, 7, 999])
def test_some_rows_are_spread_over_all(count, rows):
    found = spread_rows(count, rows)
    assert found.dtype == torch.int64 and len(found) == min(count, rows)
    assert found[0] == 0 and (len(found) == 1 or found[-1] == count - 1)
    steps = found.diff()
    assert not len(steps) or (steps.min() >= 1 and steps.max() - steps.min() <= 1)


def test_every_row_of_a_long_log_is_itself():
    """20,000,001 rows: float32 has no 16,777,217 and rounds 20,000,000 and its neighbours together."""
    assert torch.equal(spread_rows(20_000_001, None), torch.arange(20_000_001))
    most = spread_rows(20_000_001, 20_000_000)
    assert most[-1] == 20_000_000 and bool((most.diff() >= 1).all())


def test_no_rows_are_none():
    assert spread_rows(0, None).tolist() == [] and spread_rows(0, 5).tolist() == []
