"""Which device trains, with how many threads."""

from __future__ import annotations

import os

import torch

from autodim.errors import ConfigError, did_you_mean
from autodim.training.memory import keep_memory

DEVICES = ("auto", "cpu", "cuda")


def set_up(device: str, threads: int | None) -> torch.device:
    """Resolve `auto | cpu | cuda`, set the CPU threads and the allocator.

    Raises:
        ConfigError: another word, or cuda was asked for and there is none; nothing falls back silently.
    """
    if device not in DEVICES:
        raise ConfigError(f"device: found {device!r}{did_you_mean(device, list(DEVICES))}")
    # a user's OMP_NUM_THREADS is a wish too
    count = threads or int(os.environ.get("OMP_NUM_THREADS", "0") or 0) or cores()
    torch.set_num_threads(count)
    keep_memory()
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: found cuda, but torch sees no CUDA device; use device=auto or device=cpu")
    name = "cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu"
    if name == "cpu":
        return torch.device(name)
    torch.backends.cuda.matmul.allow_tf32 = False  # fp32 is fp32 unless bf16 is asked for
    return torch.device(name, torch.cuda.current_device())  # with its number, as the devices of tensors have it


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def bf16_pays(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices faster than float32 ones, by its feature flags."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    try:
        with open("/proc/cpuinfo") as file:
            return any("avx512_bf16" in line or "amx_bf16" in line for line in file if line.startswith("flags"))
    except OSError:
        return False


def use_bf16(wish: str, device: torch.device) -> bool:
    """Resolve `auto | on | off`."""
    return wish == "on" or (wish == "auto" and bf16_pays(device))
