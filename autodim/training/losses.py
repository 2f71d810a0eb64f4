"""T losses of a batch: what the labels ask of the logits."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def task_losses(logits: Tensor, labels: Tensor, missing: bool = False) -> Tensor:
    """Mean cross-entropy per task.

    Args:
        logits: B x T. labels: B x T of 0 and 1.
        missing: labels may be NaN; a task's mean is then over the rows that have its label, and is 0, not NaN, for a
            batch that has none.

    Returns:
        T losses, in nats.
    """
    if not missing:
        return F.binary_cross_entropy_with_logits(logits.float(), labels, reduction="none").mean(0)
    known = ~labels.isnan()
    values = F.binary_cross_entropy_with_logits(logits.float(), labels.nan_to_num(), reduction="none")
    return torch.where(known, values, 0.0).sum(0) / known.sum(0).clamp(min=1)
