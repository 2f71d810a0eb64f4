"""Tables that change their width: expansions lose nothing, a reduction loses the least."""

import pytest
import torch

from autodim.embedding.resize import linear_batch_norm, reduce_linear, zero_fill


def table(rows=50, width=4):
    g = torch.Generator().manual_seed(0)
    return torch.randn(rows, width, generator=g) @ torch.diag(torch.tensor([3.0, 1.0, 0.3, 0.1])), torch.arange(
        1, rows + 1
    )


def test_zero_fill_keeps_the_old_columns():
    old, _ = table()
    new = zero_fill(old, 7)
    assert torch.equal(new.table[:, :4], old) and not new.table[:, 4:].any() and torch.equal(new.restored, old)


@pytest.mark.parametrize("width", [4, 9])
def test_batch_norm_leaves_even_columns_and_the_way_back(width):
    old, counts = table()
    new = linear_batch_norm(old, width, counts, torch.Generator().manual_seed(1))
    weights = counts / counts.sum()
    mean = weights @ new.table
    spread = (weights @ (new.table - mean).square()).sqrt()
    usual = (weights @ (old - weights @ old).square()).mean().sqrt()
    torch.testing.assert_close(mean, torch.zeros(width), atol=1e-5, rtol=0)
    torch.testing.assert_close(spread, usual.expand(width), rtol=1e-2, atol=0)
    torch.testing.assert_close(new.restored, old, rtol=1e-4, atol=1e-5)
    again = linear_batch_norm(old, width, counts, torch.Generator().manual_seed(1))
    assert torch.equal(again.table, new.table)


def test_a_table_that_was_never_seen_is_resized_too():
    old, counts = table()
    for rows in (old, torch.zeros_like(old)):
        new = linear_batch_norm(rows, 6, counts * 0, torch.Generator().manual_seed(1))
        assert new.table.isfinite().all()
        torch.testing.assert_close(new.restored, rows, rtol=1e-4, atol=1e-5)


def test_a_reduction_is_the_best_of_its_rank():
    old, counts = table()
    root = counts.sqrt()[:, None]
    values = torch.linalg.svdvals(root * old)
    for width in range(5):
        lost = (root * (reduce_linear(old, width, counts).restored - old)).square().sum()
        torch.testing.assert_close(lost, values[width:].square().sum(), rtol=1e-4, atol=1e-4)


def test_the_wrong_direction_is_refused():
    old, counts = table()
    with pytest.raises(ValueError, match="reduce_linear"):
        zero_fill(old, 3)
    with pytest.raises(ValueError, match="found 5"):
        reduce_linear(old, 5, counts)
