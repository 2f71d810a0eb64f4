"""The machine's rates, measured with the threads and on the device of the run."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch

from autodim.bench.work import Rates


def measure(device: torch.device, seconds: float = 0.3) -> Rates:
    """Copy bandwidth (bytes read plus written) and matrix rates, each the best of several short blocks.

    The best and not the median: a limit is what the machine can do when nobody disturbs it.

    Cost: about 4 x `seconds`.
    """
    big = device.type == "cuda"
    source = torch.ones((1 << 30 if big else 1 << 26) // 4, device=device)
    target = torch.empty_like(source)
    copy = _best(lambda: target.copy_(source), device, seconds)
    size = 8192 if big else 1024
    found = {}
    for kind in (torch.float32, torch.bfloat16):
        a, b = torch.randn(2, size, size, device=device).to(kind)
        out = torch.empty_like(a)
        found[kind] = 2 * size**3 / _best(partial(torch.mm, a, b, out=out), device, seconds)
    return Rates(2 * source.numel() * 4 / copy, found[torch.float32], found[torch.bfloat16])


def _best(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    work()
    best, stop = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < stop:
        synchronize(device)
        began = time.perf_counter()
        work()
        synchronize(device)
        best = min(best, time.perf_counter() - began)
    return best


def synchronize(device: torch.device) -> None:
    """Wait for the device; nothing to wait for on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
