"""A run's folder in about a screen: what it is, from which log, at which budget, before and after, where things are.

Torch-free, and every part may be missing: a folder is looked at while its search runs, too.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autodim import artifact
from autodim.config.schema import Config
from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import quality_words
from autodim.report import numbers, svg
from autodim.stages import no_cut
from autodim.stages.advice import advice
from autodim.stages.run import FOLDERS, STAGES, Run

WIDE, SLOTS, LABELS = 110, 24, 4  # characters of a line, widths and labels that are told
FILES = (
    ("report", "report.html"),
    ("widths file", "widths.yaml"),
    ("small model", "retrain/model"),
    ("uncut model", "pretrain/model"),
    ("wide model", "widen/model"),
    ("curves", "metrics.jsonl"),
)


def summary(folder: Path, config: Config) -> dict[str, Any]:
    """What a run's folder holds; a part that is not there is None or empty.

    Raises:
        RunError: a record or an artefact is damaged.
    """
    run = Run(folder, config)
    done = {name: found for name in FOLDERS if (found := run.done(name)) is not None}
    missing = [name for name in STAGES if name not in done]
    log, results = _json(folder / "data/log/manifest.json"), _json(folder / "evaluate/results.json")
    quality = _json(folder / "prune/quality.json")
    mark, refreshed = _json(folder / "continued_from.json"), _json(folder / "refresh.json")
    return {
        "run": str(folder),
        "stages": list(done),
        "seconds": sum(one.seconds for one in done.values()),
        "continues": None if mark is None else mark["from"],
        "refreshed": refreshed is not None,
        "log": config.data.path or config.data.log or " + ".join(log.path for log in config.data.logs),
        "rows": None if log is None else {part: found["rows"] for part, found in log["parts"].items()},
        "slots": None if log is None else len(log["slots"]),
        "ids": None if log is None else sum(table["rows"] for table in log["tables"]),
        "labels": [label.name for label in config.data.labels] if log is None else log["labels"],
        "model": config.model.name,
        "width": config.model.width,
        "strategy": config.prune.strategy,
        "retrain": config.retrain.mode,
        "asked": quality_words(config.prune.budget) if config.prune.budget.by_quality else None,
        "budget": _budget(folder, done),
        "results": [] if results is None or "evaluate" not in done else _results(results),
        "confirmed": None if results is None or quality is None else results.get("quality", {}).get("words"),
        "chance": results.get("chance", "") if results is not None and "evaluate" in done else "",
        "continued": _continued(folder),
        "serves": no_cut.words(run),
        "next": None if mark is not None or not missing else advice(folder, missing[0]),
        "files": {name: str(folder / path) for name, path in FILES if (folder / path).exists()},
    }


def summary_lines(found: dict[str, Any]) -> list[str]:
    """The summary for people."""
    stages, name = found["stages"], found["run"]
    state = "finished" if "evaluate" in stages else f"{', '.join(stages) or 'nothing'} done"
    state += f", {numbers.seconds(found['seconds'])} of work" if stages else ""
    lines = [("run", f"{name}: {state}")]
    if found["continues"]:
        lines.append(("", f"an online continuation of {found['continues']}"))
    if found["refreshed"]:
        lines.append(("", "a refreshed run: widths and live model carried over to a new log"))
    if found["serves"]:
        lines.append(("note", found["serves"]))
    rows = found["rows"]
    parts = "" if rows is None else ": " + ", ".join(f"{part} {count:,}" for part, count in rows.items())
    sizes = "" if rows is None else f"; {found['slots']} slots, {found['ids']:,} ids"
    lines.append(("log", f"{found['log']}{parts}{sizes}"))
    lines.append(("labels", ", ".join(found["labels"])))
    lines.append(
        ("model", f"{found['model']}, width {found['width']}; cut by {found['strategy']}, retrained {found['retrain']}")
    )
    budget = found["budget"]
    if found["asked"]:
        lines.append(("asked", found["asked"]))
    if budget:
        unit = budget["unit"]
        spent, uniform, asked = (numbers.amount(budget[key], unit) for key in ("spent", "uniform", "asked"))
        share = numbers.share(budget["spent"], budget["uniform"])
        grown = ", before new ids came" if budget["spent"] > budget["asked"] else ""
        lines.append(("budget", f"{spent} of {uniform} {unit} ({share}), asked at most {asked}{grown}"))
        blocks = {slot: w if isinstance(w, list) else [w] for slot, w in budget["widths"].items()}
        wide = sorted(blocks.items(), key=lambda item: -max(item[1]))
        more = f", and {len(wide) - SLOTS} more slots" if len(wide) > SLOTS else ""
        told = ", ".join(f"{slot} {'/'.join(map(str, own))}" for slot, own in wide[:SLOTS])
        lines.append(("widths", told + more))
    lines += [("", line) for line in _table(found["results"])]
    if found["chance"]:
        lines.append(("note", found["chance"]))
    if found["confirmed"]:
        lines.append(("quality", found["confirmed"]))
    lines += [("continued", line) for line in found["continued"]]
    lines += [(kind, path) for kind, path in found["files"].items()]
    if found["next"]:
        lines.append(("next", found["next"]))
    shown = []
    for head, text in lines:
        cut = [text] if not head and "  " in text else textwrap.wrap(text, WIDE, break_on_hyphens=False) or [""]
        shown += [svg.clean(f"{head if k == 0 else '':<12} {line}").rstrip() for k, line in enumerate(cut)]
    return shown


def _json(path: Path) -> Any:
    return artifact.read_json(path) if path.is_file() else None


def _budget(folder: Path, done: dict[str, Any]) -> dict[str, Any] | None:
    for stage in ("retrain", "prune"):
        path = folder / FOLDERS[stage] / "widths.yaml"
        if stage in done and path.is_file():
            found = Allocation.from_yaml(path.read_text(encoding="utf-8"))
            figures = {"unit": found.unit, "asked": found.asked, "spent": found.spent, "uniform": found.uniform}
            return {**figures, "widths": found.block_widths}
    return None


def _results(results: dict[str, Any]) -> list[dict[str, Any]]:
    """A row per model and label on the test rows."""
    rows = []
    for model in results["models"]:
        for label, test in zip(results["labels"], model["test"], strict=False):
            figures = {figure: test.get(figure) for figure in ("auc", "logloss", "rmse", "r2")}
            rows.append({"model": model["name"], "label": label, **figures, "params": model["params"]})
    return rows


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    if not rows:
        return []
    labels = list(dict.fromkeys(row["label"] for row in rows))
    figures = [("auc", "test AUC"), ("logloss", "logloss"), ("rmse", "RMSE"), ("r2", "R2")]
    figures = [(key, head) for key, head in figures if any(row[key] is not None for row in rows)]
    cells = [["model", *(["label"] if len(labels) > 1 else []), *(head for _, head in figures), "parameters"]]
    for row in rows:
        if row["label"] in labels[:LABELS]:
            named = [row["label"]] if len(labels) > 1 else []
            told = [numbers.ratio(row[key]) for key, _ in figures]
            cells.append([row["model"], *named, *told, numbers.count(row["params"])])
    left = len(cells[0]) - len(figures) - 1
    widths = [max(len(line[k]) for line in cells) for k in range(len(cells[0]))]
    lines = [
        "  ".join(f"{c:<{w}}" if k < left else f"{c:>{w}}" for k, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in cells
    ]
    return lines + ([f"and {len(labels) - LABELS} more labels: in the report"] if len(labels) > LABELS else [])


def _continued(folder: Path) -> list[str]:
    found = _json(folder / "continue.json")
    if found is None:
        return []
    told = []
    for label, before, after in zip(found["labels"], found["before"], found["after"], strict=True):
        figures = [numbers.ratio(metrics["auc"]) for metrics in (before, after)]
        told.append(f"{label}: AUC on the new test rows {figures[0]} before, {figures[1]} after")
    return told[:LABELS]
