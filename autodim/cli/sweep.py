"""`autodim sweep`: quality over budgets, from one pretrained model and one pass, without a retrain."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from autodim.cli.common import ConfigArgument, Json, Overrides, Quiet, print_json, progress, read_config
from autodim.cli.compare import read_shares, read_strategies


def sweep(
    config: ConfigArgument,
    overrides: Overrides = None,
    strategies: Annotated[
        str, typer.Option("--strategies", help="comma-separated")
    ] = "sseds,spectral,spectral_uniform",
    shares: Annotated[
        str, typer.Option("--shares", help="budgets as shares of the uniform model, in the config's unit")
    ] = "0.5,0.25,0.125,0.0625,0.03",
    part: Annotated[Literal["test", "valid"], typer.Option("--on", help="rows to measure on")] = "test",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Cut the pretrained model at every budget and measure each cut, without a retrain."""
    settings = read_config(config, overrides)
    names, budgets = read_strategies(strategies), read_shares(shares)

    from dataclasses import asdict

    from autodim.stages.sweep import HEADS, sweep_cells
    from autodim.stages.sweep import sweep as run

    rows = run(settings, names, budgets, progress(as_json, quiet), part)
    if as_json:
        print_json([asdict(r) for r in rows])
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*HEADS, box=None)
    for cells in sweep_cells(rows):
        table.add_row(*cells)
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    for row in rows:
        if row.infeasible:
            typer.echo(f"{row.strategy} at {row.share:g}: {row.infeasible}", err=True)
    typer.echo(f"saved: {Path(settings.run) / 'sweep'}/sweep.{{md,csv,json}}", err=True)
