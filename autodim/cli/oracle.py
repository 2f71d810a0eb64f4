"""`autodim oracle`: what the one-shot scores are worth, by brute force."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from autodim.cli.common import ConfigArgument, Json, Overrides, Quiet, print_json, progress, read_config
from autodim.cli.compare import read_shares, read_strategies
from autodim.errors import ConfigError


def oracle(
    config: ConfigArgument,
    overrides: Overrides = None,
    strategies: Annotated[
        str, typer.Option("--strategies", help="whose cuts are predicted and measured; comma-separated")
    ] = "sseds,magnitude,spectral,spectral_uniform",
    shares: Annotated[
        str, typer.Option("--shares", help="budgets of the cuts, as shares of the uniform model")
    ] = "0.5,0.25,0.125,0.0625,0.03",
    part: Annotated[Literal["test", "valid"], typer.Option("--on", help="rows to measure the cuts on")] = "test",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judge the one-shot scores: by the loss without each single dimension, and by cuts measured beside predicted."""
    settings = read_config(config, overrides)
    names, budgets = read_strategies(strategies), read_shares(shares)
    if refused := [n for n in names if n in ("uniform", "manual", "spectral_refit")]:
        raise ConfigError(f"--strategies: {refused[0]}: its cut has no prediction; take it out")

    from autodim.stages.oracle import oracle as run

    found = run(settings, names, budgets, progress(as_json, quiet), part)
    if as_json:
        print_json(found)
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 120)
    scored = found["scored"]
    table = Table("score", "Spearman with the rise of the loss", "with the size of its change", box=None)
    for row in found["scores"]:
        table.add_row(row["score"], _number(row["spearman"]), _number(row["spearman_of_size"]))
    console.print(
        f"{scored['dimensions']:,} dimensions, each masked alone, {scored['rows']:,} rows of {scored['part']}"
    )
    console.print(table)
    table = Table("predicted and measured change of the loss", "points", "slope", "correlation", box=None)
    for name, key in (("one dimension masked", "masks"), (f"whole cuts, on {found['cuts']['part']}", "cuts")):
        row = found[key]
        table.add_row(name, str(row["count"]), _number(row["slope"]), _number(row["correlation"]))
    console.print(table)
    typer.echo(f"saved: {Path(settings.run) / 'oracle' / 'oracle.json'}", err=True)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
