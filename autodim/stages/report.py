"""report: RUN/report.html from what the stages left."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from autodim import artifact
from autodim.data.several import file_names
from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import quality_words
from autodim.report import numbers
from autodim.report.data import (
    BudgetRow,
    Command,
    CurvePoint,
    ReportData,
    ResultRow,
    Stability,
    Unit,
    WatchEvent,
)
from autodim.report.html import render
from autodim.report.labels import LabelRow
from autodim.report.slots import slot_rows
from autodim.stages import no_cut
from autodim.stages.evaluate import same_widths
from autodim.stages.means import Means, means_notes, over_seeds
from autodim.stages.pretrain import run_result
from autodim.stages.run import Run
from autodim.stages.serve import precisions
from autodim.stages.sweep_files import read_sweep
from autodim.stages.task_charts import task_report
from autodim.training.bounds import weak_reference
from autodim.training.watch import Event

RULE_WORDS = {"exact": ", exact allocation", "greedy": ", greedy allocation", "nested": ", nested widths"}


def write_report(
    run: Run, baselines: tuple[ResultRow, ...] = (), path: Path | None = None, means: Means | None = None
) -> Path:
    """Draw RUN/report.html (or another file); needs a finished `evaluate`. One offline file, replaced atomically."""
    path = path or run.folder / "report.html"
    artifact.write_text(path, render(report_data(run, baselines, means)))
    if path.parent == run.folder:
        run.reseal(path.name)
    return path


def report_data(run: Run, baselines: tuple[ResultRow, ...] = (), means: Means | None = None) -> ReportData:
    """Everything that a report shows, from the stages' artefacts; `means`: what stands in for the run's own figures."""
    results = artifact.read_json(run.need("evaluate") / "results.json")
    allocation = Allocation.from_yaml((run.need("retrain") / "widths.yaml").read_text())
    config = run.config
    tasks = task_report(run)
    chance: str = results.get("chance", "")
    return ReportData(
        title=run.folder.name,
        created=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        budget=budget_row(run, allocation),
        slots=slot_rows(allocation, config.model.width),
        results=(*over_seeds(result_rows(run, results), means), *(baselines or saved_baselines(run))),
        curves={name: curve(run, name) for name in ("pretrain", "retrain") if curve(run, name)},
        events={name: events(run, name) for name in ("pretrain", "retrain") if events(run, name)},
        stability=stability_of(run),
        facts={
            "log": config.data.log or file_names(config.data),
            "model": f"{config.model.name}, uniform width {config.model.width}",
            "strategy": allocation.strategy + RULE_WORDS.get(allocation.rule, ""),
            **({"tables served in": precisions(allocation)} if allocation.served_rounded else {}),
            "retrain": config.retrain.mode,
            "test rows": f"{results['rows']['test']:,}",
            "label": ", ".join(results["labels"]),
        },
        settings=(run.folder / "config.yaml").read_text(),
        environment=artifact.read_json(run.folder / "environment.json"),
        notes=(
            *([served] if (served := no_cut.words(run)) else ()),
            *sentence(chance),
            *(means_notes(means) if means else ()),
            *quality_notes(run, results),
            *allocation.notes,
            *task_notes(results),
            *(tasks.warnings if tasks else ()),
        ),
        tasks=tasks,
        chance=chance,
        commands=next_commands(run),
        sweep=read_sweep(run.folder / "sweep", run_result(run, "pretrain")) if run.done("pretrain") else None,
    )


def budget_row(run: Run, allocation: Allocation) -> BudgetRow:
    """The budget; where it is by quality, in the words that it was asked in."""
    words = quality_words(run.config.prune.budget) if by_quality(run) else ""
    return BudgetRow(cast(Unit, allocation.unit), allocation.asked, allocation.spent, allocation.uniform, words)


def by_quality(run: Run) -> bool:
    """Whether the widths were found by a budget of quality (and not given by hand)."""
    return run.config.prune.budget.by_quality and (run.stage("prune") / "quality.json").is_file() and same_widths(run)


def quality_notes(run: Run, results: dict[str, Any]) -> tuple[str, ...]:
    """What a budget by quality came to, on the rows that only judged and on test."""
    if not by_quality(run):
        return ()
    found = artifact.read_json(run.stage("prune") / "quality.json")
    measured = {"cut": "the cut without a retrain", "retrained": "the retrained model"}[found["measured"]]
    told: str = results["quality"]["words"] if "quality" in results else ""
    doubt = weak_reference(found["measured"] == "retrained")
    return (
        f"The budget was found by measuring {measured}: {found['asked']}, with {found['confidence']:.4g} confidence "
        f"(one-sided, paired), on {found['rows']['confirm']:,} validation rows that neither stopped a training nor "
        f"were scored. {sum(one['confirmed'] is not None for one in found['tries'])} budgets were tested on them, from "
        f"large to small." + (f" {doubt}." if found.get("gained") and doubt not in told else ""),
        *sentence(told),
    )


def stability_of(run: Run) -> Stability | None:
    """How stable the allocation is, where two halves of the rows were scored."""
    path = run.stage("prune") / "stability.json"
    if not path.is_file():
        return None
    found = artifact.read_json(path)
    return Stability(found["spearman"], found["width_difference"])


def next_commands(run: Run) -> tuple[Command, ...]:
    """What a person may want to do now."""
    folder = run.folder
    budget = run.config.prune.budget
    other = f"prune.budget.share={(budget.share or 0.25) / 2:g}"
    if budget.max_auc_drop is not None:
        other = f"--max-auc-drop {2 * budget.max_auc_drop:g}"
    elif budget.max_loss_increase is not None:
        other = f"--max-loss-increase {2 * budget.max_loss_increase:g}"
    return (
        Command(f"autodim export {folder} --format widths", "the widths file, for git"),
        Command(f"autodim export {folder} --format torchrec", "the same as torchrec table specs"),
        Command(f"autodim predict {folder} new_rows.csv", "score new rows with the small model"),
        Command(f"autodim search {folder} {other}", "another budget; pretraining is kept"),
        Command(f"autodim compare {folder}", "against every baseline at the same budget"),
    )


def saved_baselines(run: Run) -> tuple[ResultRow, ...]:
    """Baselines that `compare` left beside the run."""
    path = run.folder / "baselines.json"
    return tuple(ResultRow(**row) for row in artifact.read_json(path)) if path.is_file() else ()


def sentence(words: str) -> tuple[str, ...]:
    """Words as a sentence of their own; none of no words."""
    return (f"{words[0].upper()}{words[1:]}.",) if words else ()


def result_rows(run: Run, results: dict[str, Any]) -> list[ResultRow]:
    """The run's own models on test."""
    words = {"uniform": f"uniform {run.config.model.width} (before the cut)", "cut": "cut, no retraining"}
    roles = {"uniform": "uncut", "cut": "cut", "retrained": "retrained", "served": "served"}
    seconds = {"uniform": "pretrain", "cut": "prune", "retrained": "retrain", "served": "retrain"}
    rows = []
    for model in results["models"]:
        if not model["test"]:
            continue
        test = model["test"][0]
        gap = results.get("gap") if model["name"] == "uniform" else None
        words["served"] = f"served in {model.get('precision', '')} (memory as served)"
        done = run.done(seconds[model["name"]])
        rows.append(
            ResultRow(
                name=words.get(model["name"], f"retrained ({run.config.retrain.mode})"),
                role=roles[model["name"]],  # type: ignore[arg-type]
                auc=test["auc"],
                logloss=test["logloss"],
                calibration=test["calibration"],
                params=model["params"],
                bytes=model["serve_bytes" if model["name"] == "served" else "train_bytes"],
                seconds=done.seconds if done else None,
                **({"gap": gap["auc"], "gap_half": gap["half"], "gap_seeds": 1} if gap else {}),
            )
        )
    return rows


def label_rows(run: Run, results: dict[str, Any], baselines: Sequence[ResultRow] = ()) -> list[LabelRow]:
    """A row per model and label; empty where one binary label is all. Baselines know their first label alone."""
    tasks = results.get("tasks", [])
    if len(tasks) < 2 and all(task["kind"] == "binary" for task in tasks):
        return []
    measured = [model for model in results["models"] if model["test"]]
    names = [task["name"] + ("" if task["role"] == "main" else " (auxiliary)") for task in tasks]
    figures = ("auc", "logloss", "rmse", "calibration", "r2")
    rows = []
    for row, model in zip(result_rows(run, results), measured, strict=True):
        for name, test in zip(names, model["test"], strict=True):
            rows.append(LabelRow(row, name, **{figure: test.get(figure) for figure in figures}))
    rows += [LabelRow(r, names[0], auc=r.auc, logloss=r.logloss, calibration=r.calibration) for r in baselines]
    return rows


def events(run: Run, stage: str) -> tuple[WatchEvent, ...]:
    """What the watch saw in a stage."""
    path = run.stage(stage) / "events.json"
    if not path.is_file():
        return ()
    found = [Event.from_json(e) for e in artifact.read_json(path)]
    return tuple(WatchEvent(e.step, e.kind, e.words()) for e in found)


def task_notes(results: dict[str, Any]) -> list[str]:
    """One line a label: the uncut and the last model on test; empty where one binary label is all."""
    tasks = results.get("tasks", [])
    models = [m for m in results["models"] if m["test"]]
    if not models or (len(tasks) < 2 and all(task["kind"] == "binary" for task in tasks)):
        return []
    notes = []
    for t, task in enumerate(tasks):
        figure, words = ("rmse", "RMSE") if task["kind"] == "regression" else ("auc", "AUC")
        shown = [f"{m['name']} {numbers.ratio(m['test'][t][figure])}" for m in models if m["name"] != "cut"]
        role = "" if task["role"] == "main" else " (auxiliary)"
        notes.append(f"{task['name']}{role}: test {words} {', '.join(shown)}")
    return notes


def curve(run: Run, stage: str) -> tuple[CurvePoint, ...]:
    """A stage's evaluations."""
    path = run.stage(stage) / "history.json"
    if not path.is_file():
        return ()
    found = [
        CurvePoint(p["step"], p["train_loss"], p["valid_auc"], p["valid_logloss"]) for p in artifact.read_json(path)
    ]
    train = run.config.pretrain if stage == "pretrain" else run.config.retrain
    if train.windows is not None and found:
        found[-1] = replace(found[-1], kept=True)
    return tuple(found)
