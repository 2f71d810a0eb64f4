"""Every example runs as a user would run it, and says what it promises."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import REPOSITORY

SCRIPTS = sorted((REPOSITORY / "examples").glob("*.py"))
EXPECTED = {
    "01_five_lines": [r"user +301 +\d", r"retrained +0\.8", r"report: .*report\.html"],
    "02_own_torch_model": [r"widths \{'user': [1-7], 'tags': [1-7]\}", r"trained again: held-out loss 0\.6[0-4]"],
    "03_hand_edited_widths": [r"true .*'s00': 0", r"edited \{'s00': 0, .*test AUC 0\.[5-9]"],
    "04_export_to_torchrec": [r"'embedding_dim': (4|8|12|16),", r"refuse: nothing", r"slot vectors: [0-9.]+e-0[789]"],
    "05_own_training_loop": [r"uniform, 863,944 parameters: .*AUC 0\.[56]", r"true widths, 63,942 .*AUC 0\.[56]"],
    "06_score_new_rows": [r"of [\d,]+ params\)", r"later flights: 0\.[67]", r"without a column: .*'carrier'"],
    "07_own_checkpoint": [
        r"widths \{'user': \d, 'item': \d, 'tags': \d\}, [\d,]+ of 14,400",
        r"written: tables.safetensors, widths.yaml",
        r"cut, nothing trained: test loss 0\.5[0-6]",
    ],
    "08_rank_sharing": [r"correlation 0: .*shared_bottom 0\.", r"second loss x 100: .*single 0\.\d+/0\.\d+"],
}


def test_examples_are_numbered_and_each_is_expected_here():
    assert [s.stem for s in SCRIPTS] == sorted(EXPECTED)
    assert [s.name[:2] for s in SCRIPTS] == [f"{k:02d}" for k in range(1, len(SCRIPTS) + 1)]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.stem)
def test_an_example_is_short_and_opens_with_its_command(script: Path):
    text = script.read_text()
    assert len(text.splitlines()) < 80
    opening = ast.get_docstring(ast.parse(text))
    assert opening is not None and "Shows " in opening and f"    python examples/{script.name}" in opening


def run(script: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    here = folder / script.stem / "here"
    here.mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=here,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(here.parent), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert not list(here.iterdir()), f"{script.name} writes where it was started"
    return done


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, subprocess.CompletedProcess[str]]:
    """Every script, run to its end, two at a time: each is mostly one core at work."""
    folder = tmp_path_factory.mktemp("examples")
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(SCRIPTS, pool.map(lambda script: run(script, folder), SCRIPTS), strict=True))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.stem)
def test_an_example_runs_anywhere_and_prints_a_few_lines(script: Path, finished):
    done = finished[script]
    if "package_data" in script.read_text() and "autodim[demo]" in done.stderr:
        pytest.skip("the package of the demo extra is not installed")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert 3 <= len(done.stdout.splitlines()) <= 15
    for pattern in EXPECTED[script.stem]:
        assert re.search(pattern, done.stdout), f"{pattern} in\n{done.stdout}"
