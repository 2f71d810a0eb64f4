"""Learning from the uncut model: the mixed label is the mixed loss, and nothing else changes."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from autodim.data.columns import Columns
from autodim.training.distill import distilled, mixed_labels


def test_the_loss_of_mixed_labels_is_the_mixed_loss_and_so_is_its_gradient():
    torch.manual_seed(0)
    logits = torch.randn(50, 2, dtype=torch.float64, requires_grad=True)
    teacher, labels = torch.randn(50, 2, dtype=torch.float64) * 3, torch.randint(2, (50, 2)).double()
    for mix in (0.0, 0.3, 1.0):
        mixed = F.binary_cross_entropy_with_logits(logits, mixed_labels(labels, teacher, mix))
        both = (1 - mix) * F.binary_cross_entropy_with_logits(logits, labels)
        both = both + mix * F.binary_cross_entropy_with_logits(logits, teacher.sigmoid())
        torch.testing.assert_close(mixed, both)
        torch.testing.assert_close(*(torch.autograd.grad(v, logits)[0] for v in (mixed, both)))


def test_no_mix_is_the_very_rows_and_missing_labels_stay_missing():
    columns = Columns.from_arrays(torch.zeros(3, 1), labels=torch.tensor([[0.0], [1.0], [torch.nan]]))
    assert distilled(columns, None, 0.0, torch.device("cpu")) is columns  # type: ignore[arg-type]
    mixed = mixed_labels(columns.labels, torch.zeros(3, 1), 0.5)
    assert mixed[:2, 0].tolist() == [0.25, 0.75] and mixed[2].isnan()


def test_the_teacher_at_zero_logits_forgets_nothing_in_memory_maps():
    """Labels on disk are not written to: the mixed ones are new numbers."""
    labels = torch.tensor([[0.0], [1.0]])
    before = labels.clone()
    mixed_labels(labels, torch.ones(2, 1), 0.7)
    assert torch.equal(labels, before)
