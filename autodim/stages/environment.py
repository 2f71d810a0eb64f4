"""What a run ran on: versions and hardware, for the report."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from autodim.training.device import cores


def environment() -> dict[str, str]:
    """Versions of what matters, the processor, the device."""
    found = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "threads": str(torch.get_num_threads()),
    }
    for package in ("autodim", "torch", "numpy", "pandas", "pyarrow", "safetensors"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    found["processor"] = _processor()
    found["cores"] = str(cores())
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        return names[0] if names else platform.processor()
    except OSError:
        return platform.processor()
