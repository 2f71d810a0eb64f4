"""T losses of a batch: what the labels ask of the logits; and what logits say in the labels' units.

Letters: B examples, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from autodim.data.tasks import Task


def task_losses(logits: Tensor, labels: Tensor, missing: bool = False, tasks: Sequence[Task] = ()) -> Tensor:
    """Mean loss per task: cross-entropy, or of a regression the squared error in units of the labels' variance.

    A regression's labels are standardised by the training rows (`Task.mean`, `Task.std`), so that its loss starts near
    1 whatever its unit, and learning rates and the balance of tasks do not depend on it.

    Args:
        logits: B x T. labels: B x T of 0 and 1, or numbers where the task is a regression.
        missing: labels may be NaN; a task's mean is then over the rows that have its label (its sample space), and is
            0, not NaN, for a batch that has none.
        tasks: T; empty: all are binary.

    Returns:
        T losses, in nats (regressions: variances of the training rows).
    """
    if not missing:
        return _values(logits.float(), labels, tasks).mean(0)
    values, known = row_losses(logits, labels, tasks)
    return torch.where(known, values, 0.0).sum(0) / known.sum(0).clamp(min=1)


def row_losses(logits: Tensor, labels: Tensor, tasks: Sequence[Task] = ()) -> tuple[Tensor, Tensor]:
    """Each row's loss of each task, B x T, and where there is a label; elsewhere the loss means nothing."""
    return _values(logits.float(), labels.nan_to_num(), tasks), ~labels.isnan()


def _values(logits: Tensor, labels: Tensor, tasks: Sequence[Task]) -> Tensor:
    if all(task.kind == "binary" for task in tasks):
        return F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    each = zip(logits.unbind(1), labels.unbind(1), tasks, strict=True)
    return torch.stack([_errors(logit, label, task) for logit, label, task in each], dim=1)


def _errors(logit: Tensor, label: Tensor, task: Task) -> Tensor:
    if task.kind == "binary":
        return F.binary_cross_entropy_with_logits(logit, label, reduction="none")
    return (logit - (label - task.mean) / task.std).square()


def predictions(logits: Tensor, tasks: Sequence[Task] = ()) -> Tensor:
    """Probabilities, and a regression's numbers in its labels' unit: B x T.

    Args:
        logits: B x T. tasks: T; empty: all are binary.
    """
    if all(task.kind == "binary" for task in tasks):
        return logits.sigmoid()
    columns = [
        logit.sigmoid() if task.kind == "binary" else logit * task.std + task.mean
        for logit, task in zip(logits.unbind(1), tasks, strict=True)
    ]
    return torch.stack(columns, dim=1)
