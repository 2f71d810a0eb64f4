"""The tables from name to class: rules for embedding tables, and rules for everything else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from autodim.optim.adagrad import Adagrad
from autodim.optim.lazy_adam import LazyAdam
from autodim.optim.rows import RowOptimizer
from autodim.optim.rowwise_adagrad import RowwiseAdagrad
from autodim.optim.sgd import SGD

TABLE_OPTIMIZERS: dict[str, Callable[..., RowOptimizer]] = {
    "adagrad": Adagrad,
    "rowwise_adagrad": RowwiseAdagrad,
    "lazy_adam": LazyAdam,
    "sgd": SGD,
}

DENSE_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adagrad": torch.optim.Adagrad,
    "sgd": torch.optim.SGD,
}


def fused(name: str, params: Sequence[nn.Parameter]) -> bool | None:
    """Whether torch's fused kernel can take these parameters; None leaves torch its own choice."""
    devices = {p.device.type for p in params}
    # fused Adagrad on CUDA is younger than the oldest torch that autodim allows
    known = {"cpu"} if name == "adagrad" else {"cpu", "cuda"}
    return True if len(devices) == 1 and devices <= known else None
