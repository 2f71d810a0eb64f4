"""Old artefacts open: run folders of each format version are kept here, and newer formats are refused in words."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from autodim import artifact
from autodim.data.encoded import EncodedLog
from autodim.dimension.allocation import Allocation
from autodim.errors import AutodimError
from autodim.stages.export import read_allocation, text, write_weights
from autodim.stages.model_folder import load_network
from autodim.stages.predict import open_run, predict
from autodim.stages.report import report_data
from autodim.stages.verify import damages
from autodim.training.checkpoints import Checkpoints

GOLDEN = Path(__file__).parent / "golden"
VERSIONS = sorted(path.name for path in GOLDEN.iterdir())
CPU = torch.device("cpu")


@pytest.fixture(params=VERSIONS)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / request.param, tmp_path / "golden"))


def test_golden_runs_are_small_and_there():
    assert "format-1" in VERSIONS
    assert sum(p.stat().st_size for p in GOLDEN.rglob("*") if p.is_file()) < 200_000


def test_a_golden_run_is_whole_and_scores_as_it_did(golden):
    assert damages(golden)[1] == []
    found = predict(golden / "run", golden / "rows.csv", CPU)
    kept = pd.read_csv(golden / "scores.csv")
    pd.testing.assert_frame_equal(found.astype("float64"), kept, rtol=1e-4)


def test_every_artefact_of_a_golden_run_opens(golden):
    run = golden / "run"
    log = EncodedLog.open(run / "data" / "log")
    assert {part: len(log.part(part)) for part in ("train", "valid", "test")} == log_rows(run)
    assert all(log.vocabulary(t.name).rows == t.rows for t in log.tables)
    for stage in ("pretrain", "prune", "retrain"):
        assert load_network(run / stage / "model")[0].tables.layout.slots == log.slots
    allocation = read_allocation(run)
    assert Allocation.from_yaml(allocation.to_yaml()) == allocation
    assert text(run, "csv").count("\n") > len(log.slots)
    assert write_weights(run, golden / "weights.safetensors") > 0
    assert len(report_data(open_run(run)).results) == 3
    found = Checkpoints(golden / "checkpoints").latest()
    assert found is not None
    assert found[1]["position"] == 9


def log_rows(run: Path) -> dict[str, int]:
    return {k: v["rows"] for k, v in json.loads((run / "data/log/manifest.json").read_text())["parts"].items()}


def bump(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))
    if (path.parent / artifact.MANIFEST).is_file() and path.name != artifact.MANIFEST:
        artifact.seal_files(path.parent, [path.name])


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("pretrain/model/model.json", '"format": 1', '"format": 2'),
        ("retrain/model/model.json", '"format": 1', '"format": 2'),
        ("data/log/manifest.json", '"format": 1', '"format": 2'),
        ("retrain/model/manifest.sha256.json", '"format": 1', '"format": 2'),
        ("retrain/widths.yaml", "version: 1", "version: 2"),
    ],
)
def test_a_newer_format_is_refused_with_what_to_do(golden, name, old, new):
    path = golden / "run" / name
    bump(path, old, new)
    with pytest.raises(AutodimError) as error:
        load_network(golden / "run" / "pretrain" / "model")
        predict(golden / "run", golden / "rows.csv", CPU)
        read_allocation(golden / "run")
    said = str(error.value)
    assert "2" in said
    assert any(words in said for words in ("upgrade autodim", "run prepare again", "reads version 1"))
    assert path.name in said or "widths" in said


def test_stages_of_a_golden_run_can_be_reported(golden):
    data = report_data(open_run(golden / "run"))
    assert [row.role for row in data.results] == ["uncut", "cut", "retrained"]
    assert io.StringIO(text(golden / "run", "csv")).readline().startswith("slot,")
