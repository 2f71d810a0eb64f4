"""The GPU tests pass on a CUDA device that is emulated on the CPU: no devices are mixed up where there is no GPU."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parent
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.version.cuda is not None, reason="a build of torch with CUDA runs them on a GPU"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler"),
]


def emulated(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "emulated_cuda", "-p", "no:cacheprovider", *arguments]
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    return subprocess.run(command, cwd=TESTS.parent, env=environment, capture_output=True, text=True, check=False)


def test_the_gpu_tests_pass_on_an_emulated_device():
    found = emulated("tests/test_gpu.py")
    assert found.returncode == 0, found.stdout[-3000:]
    assert int(re.findall(r"(\d+) passed", found.stdout)[0]) > 40
    assert " an event at embedding/grouping.py" in found.stdout  # steps went to the device


def test_the_emulated_device_refuses_what_a_gpu_refuses(tmp_path):
    (tmp_path / "test_refused.py").write_text(
        "import pytest, torch\n"
        "def test_refused():\n"
        "    there = torch.ones(3, device='cuda')\n"
        "    for use in (lambda: there + torch.ones(3), lambda: torch.ones(3)[there.long()], there.pin_memory,\n"
        "                lambda: torch.randn(3, device='cuda', generator=torch.Generator())):\n"
        "        with pytest.raises(RuntimeError):\n"
        "            use()\n"
        "    assert (there + 1).sum().item() == 6 and (there * torch.tensor(2.0)).is_cuda\n"
    )
    found = emulated(str(tmp_path))
    assert found.returncode == 0 and "1 passed" in found.stdout, found.stdout[-3000:]
