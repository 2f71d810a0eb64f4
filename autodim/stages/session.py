"""What every stage needs besides its inputs: where it computes, how it shows itself, whether it should stop."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from autodim.training.interrupt import StopFlag
from autodim.training.progress import Progress


@dataclass(frozen=True)
class Session:
    """One process at work on a run."""

    device: torch.device
    progress: Progress = field(default_factory=lambda: Progress("quiet"))
    stop: StopFlag = field(default_factory=StopFlag)
