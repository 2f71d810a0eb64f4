"""Predictions and metrics of a network on one part of a log."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from autodim.data.columns import Columns
from autodim.data.tasks import Task
from autodim.training.metrics import Metrics, evaluate_logits
from autodim.training.network import Network

CHUNK = 8192  # rows of a prediction batch; small enough for the activations to stay in cache
CHUNK_GPU = 32_768  # few launches, bounded memory


def chunk_rows(device: torch.device) -> int:
    """Rows that are read at a time without gradients."""
    return CHUNK if device.type == "cpu" else CHUNK_GPU


def predict(
    network: Network, columns: Columns, device: torch.device, chunk: int | None = None, rows: Tensor | None = None
) -> Tensor:
    """Logits N x T of all rows (or of some, by number), on the device, in evaluation mode and without gradients.

    Args:
        chunk: rows at a time; default `chunk_rows`.
    """
    chunk = chunk or chunk_rows(device)
    was_training = network.training
    network.eval()
    parts = []
    with torch.inference_mode():
        count = len(columns) if rows is None else len(rows)
        for start in range(0, count, chunk):
            span = slice(start, min(start + chunk, count))
            batch = columns.batch(span if rows is None else rows[span], device)
            parts.append(network(batch).float())
    network.train(was_training)
    return torch.cat(parts) if parts else torch.zeros(0, columns.labels.shape[1], device=device)


def evaluate(
    network: Network, columns: Columns, device: torch.device, tasks: Sequence[Task] = (), rows: Tensor | None = None
) -> list[Metrics]:
    """Metrics per task on one part of a log, or on some of its rows."""
    logits = predict(network, columns, device, rows=rows)
    labels = columns.labels if rows is None else columns.labels.index_select(0, rows.to(columns.device))
    return evaluate_logits(logits, labels.to(device), tasks)
