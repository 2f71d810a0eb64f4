"""evaluate: every model of a run on the test part: before the cut, after the cut, after the retrain."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from autodim import artifact
from autodim.config.schema import Config
from autodim.data.encoded import EncodedLog
from autodim.dimension.allocation import Allocation
from autodim.embedding.layout import CostModel, Layout
from autodim.optim.costs import state_numbers
from autodim.stages.holdout import inputs_of
from autodim.stages.model_folder import load_network
from autodim.stages.pretrain import run_result
from autodim.stages.run import Run
from autodim.stages.serve import precisions, round_tables, served_bytes
from autodim.stages.session import Session
from autodim.training.bounds import Allowed, Lost, half_width, lost, weak_reference
from autodim.training.chance import chance_words
from autodim.training.evaluation import predict
from autodim.training.gates import GateUse, gate_use
from autodim.training.metrics import evaluate_logits


def evaluate(run: Run, log: EncodedLog, session: Session) -> dict[str, Any]:
    """Write RUN/evaluate/results.json: AUC, log loss and calibration on test (and valid), sizes of each model;
    and of a model with experts gates.json, how each gate mixes them over the test rows.

    Where tables are served in fewer bits, the retrained model is measured once more with its tables so rounded.
    """
    stages = {"uniform": run.stage("pretrain"), "cut": run.stage("prune"), "retrained": run.need("retrain")}
    allocation = Allocation.from_yaml((run.need("retrain") / "widths.yaml").read_text())
    judged_served = allocation.served_rounded and run.config.prune.budget.by_quality
    inputs = artifact.digest(
        {
            "data": run_result(run, "prepare"),
            "retrain": run_result(run, "retrain"),
            "pretrain": run.done("pretrain") is not None and run_result(run, "pretrain"),
            "prune": run.done("prune") is not None and run_result(run, "prune"),
            **({"quality": "served"} if judged_served else {}),
            **inputs_of(log),
        }
    )
    if run.up_to_date("evaluate", inputs):
        session.progress.line("evaluate: up to date")
        return artifact.read_json(run.stage("evaluate") / "results.json")
    with run.working("evaluate", inputs) as folder:
        models, gates, logits = [], {}, {}
        for name, stage in stages.items():
            if (stage / "model").is_dir() and (name != "cut" or same_widths(run)):
                row, gates[name], logits[name] = _measure(run, name, stage / "model", log, session.device)
                models.append(row)
        if allocation.served_rounded:
            served = run.stage("retrain") / "model"
            row, _, logits["served"] = _measure(run, "served", served, log, session.device, allocation)
            models.append(row)
        results: dict[str, Any] = {
            "labels": list(log.labels),
            "tasks": [asdict(task) for task in log.tasks],
            "rows": {p: len(log.part(p)) for p in ("valid", "test")},
            "models": models,
        }
        results["chance"] = chance(models, log)
        against = beside_uncut(logits, log)
        results["gap"] = gap(against)
        if against and run.config.prune.budget.by_quality and same_widths(run):
            results["quality"] = confirm(run.config, against, log)
        artifact.write_json(folder / "results.json", results)
        if any(gates.values()):
            artifact.write_json(folder / "gates.json", {n: [g.to_json() for g in used] for n, used in gates.items()})
    for row in models:
        for task, test in zip(log.tasks, row["test"], strict=True):
            label = f"{task.name}: " if len(log.tasks) > 1 else ""
            figures = f"test AUC {_show(test['auc'])}  logloss {_show(test['logloss'])}"
            if task.kind == "regression":
                figures = f"test RMSE {_show(test['rmse'])}  R2 {_show(test['r2'])}"
            session.progress.line(
                f"evaluate: {row['name']:<10} {label}{figures}  {row['params']:,} embedding parameters"
            )
    if results["chance"]:
        session.progress.line(f"evaluate: {results['chance']}")
    for name, used in gates.items():
        for gate in used:
            if gate.warning:
                session.progress.line(f"evaluate: {name}: {gate.warning}")
    if "quality" in results:
        session.progress.line(f"evaluate: {results['quality']['words']}")
    run.write_metrics()
    return results


def beside_uncut(logits: Mapping[str, torch.Tensor], log: EncodedLog) -> list[Lost]:
    """What the model that is handed over loses of each task on the test part against the uncut one; empty where one of
    them is missing.

    Args:
        logits: of the models on test, N x T, by name.
    """
    small, uncut = logits.get("served", logits.get("retrained")), logits.get("uniform")
    if small is None or uncut is None:
        return []
    return lost(small, uncut, log.part("test").labels.to(small.device), log.tasks)


def confirm(config: Config, found: Sequence[Lost], log: EncodedLog) -> dict[str, Any]:
    """A budget by quality on the test part, once: what the model that is handed over loses (`beside_uncut`), and
    whether it is inside.

    Returns:
        `lost` per task, `inside`, `gained` (better than the uncut model), and `words` for a person.
    """
    limits = allowed(config)
    inside = limits.inside(found)
    verdict = "inside the limit" if inside else "NOT inside the limit with this confidence: give it more rows, or room"
    words = (
        f"confirmed once on {len(log.part('test')):,} test rows: {limits.words(found)} "
        f"({limits.confidence:.4g} one-sided): {verdict}"
    )
    if not inside:
        words = words.replace("confirmed", "measured", 1)
    gained = limits.gained(found)
    if gained:
        words += f". {weak_reference(config.retrain.mode != 'none')}"
    return {"lost": [one.to_json() for one in found], "inside": inside, "gained": gained, "words": words}


def gap(found: Sequence[Lost]) -> dict[str, float] | None:
    """The first task's test AUC of the model that is handed over less the uncut model's, and half of its 95 % interval
    over the test rows (DeLong, paired); None where there is none."""
    if not found or math.isnan(found[0].auc_error):
        return None
    return {"auc": 0.0 - found[0].auc, "half": half_width(found[0].auc_error)}


def chance(models: Sequence[dict[str, Any]], log: EncodedLog) -> str:
    """That the uncut model predicts no better than chance on the test rows, in words; empty where it does."""
    uncut = next((m for m in models if m["name"] == "uniform"), None)
    if uncut is None or not uncut["test"]:
        return ""
    return chance_words([test["auc"] for test in uncut["test"]], log.tasks, log.part("test").labels, "test")


def allowed(config: Config) -> Allowed:
    """The limits that a budget by quality sets."""
    budget = config.prune.budget
    return Allowed(budget.max_auc_drop, budget.max_loss_increase, config.prune.quality.confidence)


def same_widths(run: Run) -> bool:
    """Whether the retrained widths are those of the run's own cut (and not of another widths file)."""
    files = [run.stage(stage) / "widths.yaml" for stage in ("prune", "retrain")]
    return all(f.is_file() for f in files) and files[0].read_bytes() == files[1].read_bytes()


def _measure(
    run: Run, name: str, folder: Path, log: EncodedLog, device: torch.device, rounded: Allocation | None = None
) -> tuple[dict[str, Any], list[GateUse], torch.Tensor]:
    """One model's figures, gates, and logits on test; `rounded`: with its tables as this allocation serves them."""
    network, about = load_network(folder, device)
    if rounded is not None:
        round_tables(network, rounded)
    layout = network.tables.layout
    row: dict[str, Any] = {"name": name, "common": layout.common, **sizes(run, layout)}
    if rounded is not None:
        row |= {"serve_bytes": served_bytes(rounded), "precision": precisions(rounded)}
    row["linear_params"] = sum(p.numel() for p in network.tables.linear_parameters())
    row["dense_params"] = sum(p.numel() for p in network.model.parameters())
    row["steps"] = about.get("steps", 0)
    for part in ("valid", "test"):
        columns = log.part(part)
        logits = predict(network, columns, device)
        found = evaluate_logits(logits, columns.labels.to(device), log.tasks) if len(columns) else []
        row[part] = [m.to_json() for m in found]
    return row, gate_use(network, log.part("test"), device, log.tasks), logits


def sizes(run: Run, layout: Layout) -> dict[str, int]:
    """Embedding parameters of a layout, and their bytes in training (with optimizer state) and in serving."""
    state, row_state = state_numbers(run.config.pretrain.optimizer.tables.name)
    training = CostModel("bytes", layout.common, state=state, row_state=row_state)
    return {
        "params": layout.parameters,
        "train_bytes": training.total(layout),
        "serve_bytes": layout.parameters * 4,
        "dims": sum(b.width for b in layout.blocks),
    }


def _show(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"
