"""`autodim recipes`: optimizers (or any settings) against each other on one log, over seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autodim.cli.common import (
    ConfigArgument,
    Json,
    Overrides,
    Quiet,
    finished_data,
    print_json,
    print_table,
    progress,
    read_config,
)
from autodim.cli.compare import read_seeds


def recipes(
    config: ConfigArgument,
    file: Annotated[Path, typer.Argument(metavar="RECIPES", help="a YAML file of named settings")],
    overrides: Overrides = None,
    seeds: Annotated[str, typer.Option("--seeds", help="one training for each; comma-separated")] = "0,1,2,3,4",
    out: Annotated[Path | None, typer.Option("--out", help="folder; default: the run's name + -recipes")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train the uniform model with every named set of settings, over seeds; run it again to continue."""
    from autodim.config.recipes import read_recipes

    settings = read_config(config, overrides)
    found = read_recipes(file)
    numbers = read_seeds(seeds)

    from autodim.stages.grid import Cell, product, run_grid, summary, summary_table, write_summary

    cells = [Cell(c.names, (*c.overrides, *found.extra(c.names))) for c in product(found.vary)]
    folder, axes = out or Path(settings.run + "-recipes"), list(found.vary)
    rows = run_grid(
        settings,
        cells,
        numbers,
        folder,
        progress(as_json, quiet),
        finished_data(config),
        lambda rows: write_summary(folder, "recipes", rows, axes),
    )
    lines = summary(rows, axes)
    if as_json:
        print_json({"rows": rows, "summary": lines})
        return
    print_table(*summary_table(lines, axes), len(axes))
    typer.echo(f"saved: {folder / 'recipes.md'}, {folder / 'recipes.json'}", err=True)
