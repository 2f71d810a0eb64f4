"""Together against alone: the outcomes' words, the view of one label, and the command end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from autodim.cli import app
from autodim.report.compare import Spread
from autodim.report.differences import interval
from autodim.report.outcomes import TaskOutcome, outcome, outcome_markdown


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["up", "up"], "all up"),
        (["up", "within noise"], "mixed: some up, none down"),
        (["up", "down"], "see-saw: some up, some down"),
        (["down", "down"], "negative transfer: all down"),
        (["down", "within noise"], "some down, none up"),
        (["within noise", "within noise"], "no difference larger than noise"),
    ],
)
def test_the_outcomes(changes, words):
    assert outcome(changes) == words


def row(mean: float, spread: float, kind: str = "binary") -> TaskOutcome:
    found = interval([mean - spread, mean + spread], [1e-4, 1e-4])
    return TaskOutcome("t", kind, Spread(0.8, 0.01, 2), Spread(0.8 + mean, 0.01, 2),
                       found if kind == "binary" else None, found)  # type: ignore[arg-type]  # fmt: skip


def test_a_task_is_up_where_its_own_measure_is_better_by_more_than_noise():
    assert row(0.01, 1e-4).change == "up" and row(-0.01, 1e-4).change == "down"
    assert row(0.01, 0.01).change == "within noise"
    assert row(-0.1, 1e-4, "regression").change == "up" and row(0.1, 1e-4, "regression").change == "down"
    text = outcome_markdown([row(0.01, 1e-4), row(0.1, 1e-4, "regression")], ["note"])
    assert "Outcome: see-saw" in text and "+.0100" in text and text.endswith("note\n")


@pytest.fixture(scope="module")
def compared(tiny_log: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], dict]:
    folder = tmp_path_factory.mktemp("outcomes")
    config = folder / "two.yaml"
    config.write_text(
        f"run: {folder / 'run'}\nthreads: 1\ndata:\n  path: {tiny_log}\n  labels:\n    - click\n"
        "    - {name: liked, column: age, above: 40, where: click}\n"
        "    - {name: hint, column: click, role: auxiliary}\n"
        "  slots: [user, item, place]\n"
        "  split: {by: random, valid: .2, test: .2}\n"
        "model: {name: mmoe, width: 4, init_std: .3, sharing: {experts: 2}}\n"
        "pretrain: {batch: 128, epochs: 2, evals_per_epoch: 1, optimizer: {tables: {lr: 3e-2}, dense: {lr: 1e-2}}}\n"
        "prune: {tasks: {weights: {click: 2}}}\n"
        "retrain: {batch: 128, epochs: 1, evals_per_epoch: 1}\n"
    )
    command = ["outcomes", str(config), "--seeds", "0,1", "--share", "0.5", "--json"]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return folder, command, json.loads(done.stdout)


def test_every_main_label_is_trained_alone_at_the_same_budget(compared):
    folder, _, found = compared
    here = folder / "run-outcomes"
    assert [t["task"] for t in found["tasks"]] == ["click", "liked"]
    assert found["alone"]["name"] == "single" and found["alone"]["hidden"] == [32, 8]
    assert not (here / "seed-0" / "alone-2").exists()  # the auxiliary one
    for seed in (0, 1):
        for place, labels in ((".", ["click", "liked", "hint"]), ("alone-0", ["click"]), ("alone-1", ["liked"])):
            about = json.loads((here / f"seed-{seed}" / place / "retrain" / "model" / "model.json").read_text())
            assert about["labels"] == labels
    spent = {found["sizes"]["together"]["embeddings"], *(s["embeddings"] for s in found["sizes"]["alone"].values())}
    uniform = 4 * (41 + 31 + 4)
    assert all(0 < s <= 0.5 * uniform for s in spent)
    assert 0.4 < found["per_seed"]["click"]["alone"][0] < 1
    assert "Outcome: " + found["outcome"] in (here / "outcomes.md").read_text()


def test_a_second_call_trains_nothing(compared):
    folder, command, found = compared
    stages = sorted((folder / "run-outcomes").rglob("done.json"))
    before = [p.stat().st_mtime_ns for p in stages]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert json.loads(done.stdout) == found
    assert [p.stat().st_mtime_ns for p in stages] == before


def test_one_label_of_a_log_is_the_same_rows(compared):
    from autodim.data.encoded import EncodedLog
    from autodim.stages.outcomes import OneLabel

    whole = EncodedLog.open(compared[0] / "run-outcomes" / "data" / "log")
    one = OneLabel.of(whole, 1)
    assert one.labels == ("liked",) and [t.name for t in one.tasks] == ["liked"] and one.slots == whole.slots
    for part in ("train", "valid", "test"):
        a, b = whole.part(part), one.part(part)
        assert torch.equal(a.ids, b.ids)
        torch.testing.assert_close(a.labels[:, 1:2], b.labels, equal_nan=True, rtol=0, atol=0)
    assert whole.part("train").labels[:, 1].isnan().any()  # rows outside of its sample space
