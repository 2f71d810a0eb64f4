"""Batch norm in a second pass: normalise by the batch as in the first, but leave the running statistics alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """The layers of a module that keep running statistics."""
    return [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]


@contextlib.contextmanager
def statistics_kept(layers: Sequence[_BatchNorm]) -> Iterator[None]:
    """Forward passes inside do not move the running statistics (nor count as batches) of layers in training mode.

    Layers in evaluation mode are left as they are: they read their statistics and never move them.
    """
    # a momentum of 0 would not do: it still counts the batch, and 0 * inf would poison the statistics
    training = [m for m in layers if m.training]
    for layer in training:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in training:
            layer.track_running_stats = True
