"""Learning-rate warm-up and schedules, in torch's own classes; call `step()` on what they return after every update.

`constant` stays, `linear` and `cosine` fall from the optimizer's rate to `floor` of it at the last step. Warm-up rises
linearly before any of them (Goyal et al. 2017).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

SCHEDULES = ("constant", "linear", "cosine")


def rate(step: int, name: str, steps: int, warmup: int, floor: float) -> float:
    """Factor on the learning rate at a step (0 is the first).

    Raises:
        ValueError: a name that is not known.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = min(1.0, (step - warmup) / max(steps - 1 - warmup, 1))
    if name == "constant":
        return 1.0
    if name == "linear":
        return 1 - (1 - floor) * progress
    if name == "cosine":
        return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2
    raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}; found {name!r}")


def make_schedule(
    name: str, optimizer: torch.optim.Optimizer, steps: int, warmup: int = 0, floor: float = 0.0
) -> LambdaLR:
    """A schedule for one optimizer.

    Args:
        name: one of SCHEDULES.
        steps: of the whole training, >= 1.
        warmup: steps of linear rise before it, in [0, steps).
        floor: share of the rate that is left at the end, in [0, 1].

    Returns:
        Its `state_dict` is numbers only, so a restart continues exactly: restore the optimizer, make the schedule anew,
        load its state. It sets the rates outright, so it does not mix with another rule that changes them (`plateau`).

    Raises:
        ValueError: an argument out of its range.
    """
    if name not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}; found {name!r}")
    if steps < 1 or not 0 <= warmup < steps or not 0 <= floor <= 1:
        raise ValueError(
            "steps must be at least 1, warmup in [0, steps) and floor in [0, 1]; "
            f"found steps={steps}, warmup={warmup}, floor={floor}"
        )
    return LambdaLR(optimizer, partial(rate, name=name, steps=steps, warmup=warmup, floor=floor))


def scale_rates(optimizers: Sequence[torch.optim.Optimizer], schedules: Sequence[LRScheduler], factor: float) -> None:
    """Multiply all learning rates, also those that schedules start from (a schedule sets the rates outright)."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] *= factor
            if "initial_lr" in group:
                group["initial_lr"] *= factor
    for schedule in schedules:
        schedule.base_lrs = [rate * factor for rate in schedule.base_lrs]
