# mypy: ignore-errors
# (runs in another environment, with libraries that this one does not have)
"""What the workers of all peers share: ready-made batches, timed blocks of steps, memory."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from protocol import Skip, reset_peak, status

BATCHES = 32


def read_log(spec: dict[str, Any]) -> tuple[Any, Any, list[int]]:
    """Ids N x S int32, labels N x 1, rows per slot; ids of scaled tables are spread over them."""
    if spec["log"]["kind"] != "arrays":
        raise Skip("peers read a log of one-hot slots only")
    folder = Path(spec["log"]["path"])
    rows = json.loads((folder / "about.json").read_text())["rows"]
    if np.load(folder / "numeric.npy", mmap_mode="r").shape[1]:
        raise Skip("peers are not given numeric columns")
    scale = spec["variant"]["scale"]
    return (
        np.load(folder / "ids.npy", mmap_mode="r"),
        np.load(folder / "labels.npy", mmap_mode="r"),
        [r * scale for r in rows],
    )


def slices(spec: dict[str, Any], ids: Any, labels: Any) -> list[tuple[Any, Any]]:
    """Up to BATCHES batches of ids and labels as arrays of their own."""
    batch, scale = spec["variant"]["batch"], spec["variant"]["scale"]
    count = max(1, min(BATCHES, len(ids) // batch))
    return [
        (
            np.ascontiguousarray(ids[k * batch : (k + 1) * batch]) * np.int32(scale),
            np.array(labels[k * batch : (k + 1) * batch]),
        )
        for k in range(count)
    ]


class Loop:
    """Timed steps over ready-made batches.

    Args:
        batches: what `train` and `infer` take, one per step, in turn.
        train: one training step. infer: one forward pass.
        modes: switches between training and evaluation.
        facts: about the variant.
        before: resident bytes before the model was built.
    """

    def __init__(
        self,
        batches: list[Any],
        train: Callable[[Any], None],
        infer: Callable[[Any], None],
        modes: tuple[Callable[[], Any], Callable[[], Any]],
        facts: dict[str, Any],
        before: int,
    ):
        self.batches, self._train, self._infer, self.modes, self._facts = batches, train, infer, modes, facts
        self.before, self.position = before, 0

    def facts(self) -> dict[str, Any]:
        return self._facts

    def train(self, steps: int) -> dict[str, float]:
        self.modes[0]()
        return {"seconds": self._timed(self._train, steps)}

    def infer(self, steps: int) -> dict[str, float]:
        self.modes[1]()
        return {"seconds": self._timed(self._infer, steps)}

    def memory(self) -> dict[str, int]:
        return {"peak": status("VmHWM"), "before": self.before}

    def _timed(self, one: Callable[[Any], None], steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            one(self.batches[self.position % len(self.batches)])
            self.position += 1
        return time.perf_counter() - began


def resident() -> int:
    """Resident bytes now; the peak is counted from here."""
    reset_peak()
    return status("VmRSS")
