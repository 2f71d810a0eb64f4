"""What a report says of several tasks, from the stages' artefacts."""

from __future__ import annotations

import math
from typing import Any

from autodim import artifact
from autodim.report.tasks import GateRow, Series, TaskCourse, TaskReport, TaskShares, loss_warning
from autodim.stages.evaluate import same_widths
from autodim.stages.run import Run


def task_report(run: Run) -> TaskReport | None:
    """Shares, gates and courses of a finished run; None where there is nothing to say."""
    courses = {stage: course for stage in ("pretrain", "retrain") if (course := task_course(run, stage)) is not None}
    gates, gates_of, warnings = gate_rows(run)
    warnings = [w for stage, course in courses.items() if (w := loss_warning(stage, course.losses))] + warnings
    shares = task_shares(run)
    if not courses and not gates and shares is None:
        return None
    return TaskReport(shares, tuple(gates), gates_of, courses, tuple(warnings))


def task_shares(run: Run) -> TaskShares | None:
    """What `prune` wrote of the tasks, where the widths are still its own."""
    path = run.stage("prune") / "scores.json"
    if not path.is_file():
        return None
    found = artifact.read_json(path)
    return TaskShares(
        tasks=tuple(found["tasks"]),
        slots={name: tuple(shares) for name, shares in found["slots"].items()},
        lost=tuple(found["lost"] or ()) if same_widths(run) else (),
        measure=found["measure"],
        combine=found["combine"],
    )


def gate_rows(run: Run) -> tuple[list[GateRow], str, list[str]]:
    """The gates of the model that is handed over, its name, and what is wrong with any model's gates."""
    path = run.stage("evaluate") / "gates.json"
    if not path.is_file():
        return [], "", []
    found: dict[str, list[dict[str, Any]]] = artifact.read_json(path)
    warnings = [f"{model}: {g['warning']}." for model, used in found.items() for g in used if g["warning"]]
    model = next((name for name in ("retrained", "cut", "uniform") if found.get(name)), "")
    rows = [
        GateRow(g["task"] or "all tasks", g["level"], tuple(g["experts"]), tuple(g["mean"]), tuple(g["spread"]))
        for g in found.get(model, [])
    ]
    return rows, model, warnings


def task_course(run: Run, stage: str) -> TaskCourse | None:
    """The gauges of a stage's weighting over its evaluations; None where it told nothing."""
    path = run.stage(stage) / "history.json"
    points = artifact.read_json(path) if path.is_file() else []
    told = [(float(p["step"]), p["optimizer"]) for p in points if p.get("optimizer")]
    names = list(dict.fromkeys(key for _, values in told for key in values))

    def series(name: str) -> Series:
        known = [(step, values.get(name)) for step, values in told]
        return tuple((step, value) for step, value in known if value is not None and math.isfinite(value))

    def of_tasks(kind: str) -> dict[str, Series]:
        prefix = f"{kind}/"
        return {name.removeprefix(prefix): series(name) for name in names if name.startswith(prefix)}

    losses = of_tasks("loss")
    # a weighting by groups of rows tells a weight of each group too
    weights = {name: found for name, found in of_tasks("weight").items() if name in losses}
    course = TaskCourse(weights, losses, series("conflict"), series("cosine"))
    return course if len(course.losses) > 1 else None
