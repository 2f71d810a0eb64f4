"""Learning from the uncut model: its probabilities mixed into the labels of the training rows (METHODS 1.2b).

Distillation after Hinton et al. 2015 (arXiv 1503.02531) with temperature 1. Cross-entropy is linear in its label, so

    (1 - m) BCE(z, y) + m BCE(z, q) = BCE(z, (1 - m) y + m q),   q = sigmoid(teacher logit):

the mixed labels are made once before training, and a step costs what it cost before.

Differs from the paper: labels are mixed and logits are not softened; rows without a label are left out, teacher or not.

Letters: N rows, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from autodim.data.columns import Columns
from autodim.data.tasks import Task
from autodim.training.evaluation import predict
from autodim.training.losses import predictions
from autodim.training.network import Network


def mixed_labels(labels: Tensor, teacher: Tensor, mix: float, tasks: Sequence[Task] = ()) -> Tensor:
    """Labels `(1 - mix) y + mix sigmoid(teacher)`, N x T; NaN where there is no label.

    A regression mixes in the teacher's number: the squared error of the mix has the gradient of the mixed errors.

    Args:
        labels: N x T of 0, 1 (or numbers) and NaN. teacher: N x T logits. mix: m, 0 to 1.
        tasks: T; empty: all are binary.
    """
    return torch.lerp(labels, predictions(teacher, tasks).to(labels), mix) if mix else labels


def distilled(
    train: Columns, teacher: Network, mix: float, device: torch.device, tasks: Sequence[Task] = ()
) -> Columns:
    """The training rows with mixed labels; for `mix` 0 the very rows.

    Args:
        teacher: the uncut network, on the device; only read.

    Cost: one forward over the rows, and N x T float32 in memory. The same rows give the same labels, so that a resumed
    training goes on exactly.
    """
    if not mix:
        return train
    logits = predict(teacher, train, device).to(train.device)
    return replace(train, labels=mixed_labels(train.labels, logits, mix, tasks))
