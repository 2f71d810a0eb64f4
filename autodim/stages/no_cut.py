"""What a run's folder goes on serving after a search by quality that found no safe cut: the model of the search before.

RUN/no_safe_cut.json    which model that is, and what was asked in vain; gone once a search has cut again
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from autodim import artifact
from autodim.dimension.allocation import Allocation
from autodim.report import numbers
from autodim.stages.run import Run

NAME = "no_safe_cut.json"


def note(run: Run, asked: str, before: dict[str, Any] | None) -> str | None:
    """Keep that the latest search found no safe cut, where the folder has an earlier search's model.

    Args:
        asked: the budget by quality, in words.
        before: the record of the last search by quality, if there is one: whether the model there is its answer.

    Returns:
        In words what the folder serves; None where it has nothing to serve.
    """
    clear(run)
    done, path = run.done("retrain"), run.stage("retrain") / "widths.yaml"
    if done is None or not path.is_file():
        return None
    found = Allocation.from_yaml(path.read_text(encoding="utf-8"))
    budget = f"asked at most {numbers.amount(found.asked, found.unit)}"
    if before is not None and before.get("spent") == found.spent and before.get("unit") == found.unit:
        budget = f"asked {before['asked']}"
    spent, uniform = (numbers.amount(value, found.unit) for value in (found.spent, found.uniform))
    record = {
        "asked": asked,
        "when": _clock(datetime.datetime.now(datetime.UTC).timestamp()),
        "result": done.result,
        "serves": f"{found.strategy}, {spent} of {uniform} {found.unit} ({budget}), "
        f"finished {_clock((run.stage('retrain') / 'done.json').stat().st_mtime)}",
    }
    artifact.write_json(run.folder / NAME, record)
    return words(run)


def words(run: Run) -> str | None:
    """That the latest search found no safe cut, and which search's model the folder serves; None where they agree."""
    path, done = run.folder / NAME, run.done("retrain")
    if done is None or not path.is_file():
        return None
    record = artifact.read_json(path)
    if record["result"] != done.result:
        return None  # retrained since
    return (
        f"{run.folder}: the latest search (of {record['when']}, asked {record['asked']}) found no safe cut; the small "
        f"model here is the earlier search's: {record['serves']}"
    )


def clear(run: Run) -> None:
    """A search has cut, so the folder serves its own model."""
    Path(run.folder / NAME).unlink(missing_ok=True)


def _clock(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
