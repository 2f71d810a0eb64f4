"""What optimizers, clippers and weightings tell about themselves, gathered on the device and read at evaluations.

- `NAME/clipped`: of each clipper, the share that it clipped (`norm`: of the steps; `agc`: of the units; `cowclip`: of
  the rows), mean over the steps since the last evaluation; `norm/norm`: the mean norm before clipping.
- `sigma/PARAMETER`: Clippy's factor on the parameter's last update; 1: nothing was held back.
- `skipped/PARAMETER`: Clippy's steps so far that were left out for a gradient that was not finite; only where there
  are any.
- of a weighting of several tasks, means since the last evaluation: `weight/TASK`, `loss/TASK` (before any weight), and
  of those by gradients `cosine`, `conflict` (share of pairs below 0), both also as `NAME/TASK/TASK` by pair, and
  `fallback` (share of the solved steps that had nothing to solve).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from autodim.optim.clippy import Clippy
from autodim.optim.methods import CLIPPERS
from autodim.training.step import Step

READINGS = ("clipped", "norm")  # 0-dim tensors that a clipper may keep of its last step


@runtime_checkable
class Told(Protocol):
    """A weighting that keeps means of its own (in its own state)."""

    def read(self) -> dict[str, float]:
        """The means by name; they begin anew."""
        ...


class Gauges:
    """The gauges of one step.

    Cost: one addition of 0-dim tensors per clipper and step; nothing is waited for until `read`.
    """

    def __init__(self, step: Step):
        self.step = step
        names = {kind: name for name, kind in CLIPPERS.items()}
        self.clippers = [(names.get(type(c), type(c).__name__), c) for c in step.clippers]
        self.parameters = {id(p): name for name, p in step.network.named_parameters()}
        self.sums: dict[str, Tensor] = {}
        self.steps = 0

    def update(self) -> None:
        """Take the clippers' last step into the means."""
        if not self.clippers:
            return
        self.steps += 1
        for name, clipper in self.clippers:
            for reading in READINGS:
                value = getattr(clipper, reading, None)
                if isinstance(value, Tensor):
                    key = f"{name}/{reading}"
                    self.sums[key] = self.sums[key] + value if key in self.sums else value.double()

    def read(self) -> dict[str, float]:
        """All gauges as numbers; the means begin anew. Waits for the device once."""
        found = self.peek()
        self.sums, self.steps = {}, 0
        return found

    def peek(self) -> dict[str, float]:
        """All gauges as numbers; the means go on. Waits for the device once."""
        values = {key: total / self.steps for key, total in self.sums.items()}
        skipped = {}
        for optimizer in self.step.optimizers:
            if isinstance(optimizer, Clippy):
                for parameter, state in optimizer.state.items():
                    name = self.parameters[id(parameter)]
                    values[f"sigma/{name}"] = state["sigma"].double()
                    skipped[f"skipped/{name}"] = state["skipped"].double()
        values.update(skipped)
        numbers = torch.stack(list(values.values())).tolist() if values else []
        found = dict(zip(values, numbers, strict=True))
        told = self.step.weighting.read() if isinstance(self.step.weighting, Told) else {}
        return {key: number for key, number in found.items() if key not in skipped or number} | told

    def tensors(self) -> dict[str, Tensor]:
        """What a restart needs, as tensors by name."""
        return {"steps": torch.tensor(self.steps), **self.sums}

    def load(self, tensors: dict[str, Tensor], device: torch.device) -> None:
        """The reverse of `tensors`."""
        self.steps = int(tensors["steps"])
        self.sums = {key: total.to(device) for key, total in tensors.items() if key != "steps"}
