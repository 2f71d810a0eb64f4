"""`autodim search` and its stages as commands of their own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from autodim.stages.run import Run

from autodim.cli.common import ConfigArgument, Json, Overrides, Quiet, print_json, progress, read_config

DryRun = Annotated[bool, typer.Option("--dry-run", help="check everything, estimate size and time, do nothing")]
MaxLoss = Annotated[
    float | None,
    typer.Option(
        "--max-loss-increase",
        help="budget by quality: the smallest model whose log loss rises at most so much, as 1e-4",
    ),
]
MaxAuc = Annotated[
    float | None,
    typer.Option(
        "--max-auc-drop", help="budget by quality: the smallest model whose AUC falls at most so much, as 0.0005"
    ),
]
Widths = Annotated[Path | None, typer.Option("--widths", help="a widths file to use instead of the run's own")]


def search(
    config: ConfigArgument,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    max_loss_increase: MaxLoss = None,
    max_auc_drop: MaxAuc = None,
    from_weights: Annotated[
        Path | None,
        typer.Option("--from-weights", help="a trained model (.pt or .safetensors) in the place of the pretraining"),
    ] = None,
    weights_map: Annotated[
        Path | None,
        typer.Option(
            "--map", help="of --from-weights, YAML: which of its tensors is which table; not for our own exports"
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Walk the whole road: prepare, pretrain, prune, retrain, evaluate, report. Run it again to continue.

    The budget is prune.budget.share=0.25 of the uniform model, or one by quality: --max-auc-drop, --max-loss-increase.
    `autodim show CONFIG --origins` tells all settings.
    """
    files = {"weights": from_weights, "weights_map": weights_map}
    taken = [f"pretrain.{key}={json.dumps(str(path.resolve()))}" for key, path in files.items() if path is not None]
    settings = read_config(config, [*with_quality(overrides, max_loss_increase, max_auc_drop), *taken])
    if dry_run:
        from autodim.stages.plan import plan, plan_lines

        found = plan(settings)
        if as_json:
            print_json(found)
        else:
            typer.echo("\n".join(plan_lines(found)))
        return
    from autodim.stages.search import search as walk

    run = walk(settings, progress(as_json, quiet))
    print_run(run.folder, as_json)


def print_run(folder: Path, as_json: bool) -> None:
    """What a finished run found: widths and results on stdout, where things are and what to do next on stderr."""
    from autodim import artifact
    from autodim.stages.predict import open_run
    from autodim.stages.report import label_rows, quality_notes, report_data, saved_baselines

    run = open_run(folder)
    data = report_data(run)
    if as_json:
        print_json(
            {
                "run": str(folder),
                "widths": {s.name: s.width for s in data.slots},
                "budget": {"unit": data.budget.unit, "asked": data.budget.asked, "spent": data.budget.spent},
                **artifact.read_json(run.stage("evaluate") / "results.json"),
            }
        )
        return
    from rich.console import Console

    from autodim.report.terminal import labels_table, results_table, widths_table

    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(widths_table(data.slots, data.budget.unit))
    results = artifact.read_json(run.stage("evaluate") / "results.json")
    several = label_rows(run, results, saved_baselines(run))
    console.print(labels_table(several) if several else results_table(data.results))
    print_truth(run)
    for note in quality_notes(run, results):
        typer.echo(note)
    if data.chance:
        typer.echo(data.chance)
    if not any(r.role == "baseline" for r in data.results):
        typer.echo(f"no baseline was run beside it: `autodim compare {folder}` judges the widths", err=True)
    typer.echo(f"report: {folder / 'report.html'}\nwidths: {folder / 'widths.yaml'}\n\nnext:", err=True)
    for command in data.commands:
        typer.echo(f"  {command.command}   # {command.purpose}", err=True)


def print_truth(run: Run) -> None:
    """On a planted log: the true widths beside the found ones."""
    from autodim.stages.export import read_allocation
    from autodim.stages.truth import true_widths, truth_spearman

    truth = true_widths(run)
    if truth is None:
        return
    allocation = read_allocation(run.folder)
    pairs = ", ".join(f"{name} {allocation.widths[name]} ({width})" for name, width in truth.items())
    rho = truth_spearman(run, allocation)
    told = "undefined" if rho is None else f"{rho:.2f}"
    typer.echo(f"planted: found (true) widths: {pairs}; Spearman {told}")


def prepare(config: ConfigArgument, overrides: Overrides = None, quiet: Quiet = False) -> None:
    """Encode the log into the run's folder."""
    _stages(config, overrides, quiet, ())


def pretrain(config: ConfigArgument, overrides: Overrides = None, quiet: Quiet = False) -> None:
    """Train the uniform model."""
    _stages(config, overrides, quiet, ("pretrain",))


def prune(
    config: ConfigArgument,
    overrides: Overrides = None,
    max_loss_increase: MaxLoss = None,
    max_auc_drop: MaxAuc = None,
    quiet: Quiet = False,
) -> None:
    """Score every dimension, allocate the budget, cut."""
    _stages(config, with_quality(overrides, max_loss_increase, max_auc_drop), quiet, ("prune",))


def with_quality(overrides: list[str] | None, loss: float | None, auc: float | None) -> list[str]:
    """The overrides with those that the flags of a budget by quality stand for."""
    flags = {"max_loss_increase": loss, "max_auc_drop": auc}
    found = [f"prune.budget.{name}={value}" for name, value in flags.items() if value is not None]
    return [*(overrides or ()), *found]


def retrain(config: ConfigArgument, overrides: Overrides = None, widths: Widths = None, quiet: Quiet = False) -> None:
    """Train the cut model (warm or cold, from the run's allocation or any widths file) and measure it."""
    print_run(_stages(config, overrides, quiet, ("retrain", "evaluate"), widths), False)


def evaluate(config: ConfigArgument, overrides: Overrides = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Measure every model of the run on its test part, and draw the report."""
    folder = _stages(config, overrides, quiet or as_json, ("evaluate",))
    print_run(folder, as_json)


def _stages(
    config: str, overrides: list[str] | None, quiet: bool, stages: tuple[str, ...], widths: Path | None = None
) -> Path:
    settings = read_config(config, overrides)
    from autodim.stages.search import search as walk

    return walk(settings, progress(False, quiet), stages, widths=widths).folder
