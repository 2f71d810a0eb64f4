"""The tables from name to class: rules for embedding tables, rules for everything else, second passes and clippers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from autodim.optim.adagrad import Adagrad
from autodim.optim.agc import AGC
from autodim.optim.asam import ASAM
from autodim.optim.clippy import ClippyAdagrad, ClippyAdam
from autodim.optim.cowclip import CowClip
from autodim.optim.helen import Helen
from autodim.optim.lazy_adam import LazyAdam
from autodim.optim.norm_clip import NormClip
from autodim.optim.rows import RowOptimizer
from autodim.optim.rowwise_adagrad import RowwiseAdagrad
from autodim.optim.sam import SAM
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
    "clippy_adagrad": ClippyAdagrad,
    "clippy_adam": ClippyAdam,
}

PERTURBATIONS = {"helen": Helen, "sam": SAM, "asam": ASAM}

CLIPPERS = {"norm": NormClip, "agc": AGC, "cowclip": CowClip}

UNFUSED = ("clippy_adagrad", "clippy_adam")  # our own rules have no kernel of torch's to choose


def fused(name: str, params: Sequence[nn.Parameter]) -> bool | None:
    """Whether torch's fused kernel can take these parameters; None leaves torch its own choice."""
    if name in UNFUSED:
        return None
    devices = {p.device.type for p in params}
    # fused Adagrad on CUDA is younger than the oldest torch that autodim allows
    known = {"cpu"} if name == "adagrad" else {"cpu", "cuda"}
    return True if len(devices) == 1 and devices <= known else None
