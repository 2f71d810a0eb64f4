"""`autodim sweep`: quality over budgets, from one pretrained model and one pass."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from autodim.cli.common import ConfigArgument, Json, Overrides, Quiet, print_json, progress, read_config
from autodim.cli.compare import read_modes, read_shares, read_strategies


def sweep(
    config: ConfigArgument,
    overrides: Overrides = None,
    strategies: Annotated[
        str, typer.Option("--strategies", help="comma-separated")
    ] = "spectral,spectral_uniform,sseds",
    shares: Annotated[
        str, typer.Option("--shares", help="budgets as shares of the uniform model, in the config's unit")
    ] = "0.5,0.25,0.125,0.0625,0.03",
    points: Annotated[
        int, typer.Option("--points", help="so many budgets instead, evenly spaced in their logarithm, .03 to 1", min=0)
    ] = 0,
    modes: Annotated[
        str, typer.Option("--modes", help="comma-separated: none (the cut), warm, warm_cold_first, cold, distill")
    ] = "none",
    cost: Annotated[bool, typer.Option("--cost", help="also time a scoring pass and one training epoch")] = False,
    part: Annotated[Literal["test", "valid"], typer.Option("--on", help="rows to measure on")] = "test",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Cut the pretrained model at every budget and measure each cut, without a retrain or with (--modes)."""
    settings = read_config(config, overrides)
    names, budgets, ways = read_strategies(strategies), read_shares(shares), read_modes(modes)
    if points:
        budgets = [float(f"{0.03 ** (k / max(points - 1, 1)):.4g}") for k in range(points)]

    from dataclasses import asdict

    from autodim import artifact
    from autodim.stages.sweep import sweep as run
    from autodim.stages.sweep_cost import Cost
    from autodim.stages.sweep_files import HEADS, sweep_cells, sweep_data

    rows = run(settings, names, budgets, progress(as_json, quiet), part, modes=ways, cost=cost)
    seconds = artifact.read_json(Path(settings.run) / "sweep" / "cost.json")
    found = sweep_data(rows, part)
    if as_json:
        knees = {name: asdict(point) for name, point in found.knees.items()}
        print_json({"rows": [asdict(r) for r in rows], "knees": knees, "cost": seconds})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*HEADS, box=None)
    for cells in sweep_cells(rows):
        table.add_row(*cells)
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    for sentence in found.sentences:
        typer.echo(sentence)
    typer.echo(Cost(**{k: v for k, v in seconds.items() if k in Cost.__dataclass_fields__}).words())
    for row in rows:
        if row.infeasible:
            typer.echo(f"{row.strategy} at {row.share:g}: {row.infeasible}", err=True)
    typer.echo(f"saved: {Path(settings.run) / 'sweep'}/sweep.{{html,md,csv,json}}", err=True)
