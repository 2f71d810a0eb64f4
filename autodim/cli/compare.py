"""`autodim compare`: strategies against each other at the same budgets, over seeds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from autodim.cli.common import ConfigArgument, Json, Overrides, Quiet, print_json, progress, read_config
from autodim.config.catalogue import components
from autodim.errors import ConfigError, did_you_mean


def compare(
    config: ConfigArgument,
    overrides: Overrides = None,
    strategies: Annotated[
        str, typer.Option("--strategies", help="comma-separated; default: sseds and every baseline")
    ] = "sseds,uniform,random,magnitude,frequency_tiers,power_rule,fourth_root",
    shares: Annotated[str, typer.Option("--shares", help="budgets as shares of the uniform model")] = "",
    seeds: Annotated[str, typer.Option("--seeds", help="comma-separated")] = "0,1,2",
    out: Annotated[
        Path | None, typer.Option("--out", help="folder; default: RUN/compare or the run's name + -compare")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Every strategy at the same budgets, over seeds, against the uncut model; run it again to continue."""
    settings = read_config(config, overrides)
    names = read_strategies(strategies)
    budgets = read_shares(shares) or [settings.prune.budget.share or 0.25]
    numbers = read_seeds(seeds)
    finished = (Path(config) / "pretrain" / "done.json").is_file()
    folder = out or (Path(config) / "compare" if finished else Path(settings.run + "-compare"))

    from autodim.stages.compare import Grid, Place
    from autodim.stages.compare import compare as run
    from autodim.stages.tables import comparisons, write_reports, write_tables

    place = Place(folder, Path(config) if finished else None)
    grid = Grid(tuple(names), tuple(budgets), tuple(numbers))
    rows = run(settings, place, grid, progress(as_json, quiet))
    table = write_tables(folder, rows)
    reports = write_reports(settings, place, grid, rows)
    if as_json:
        print_json(rows)
        return
    from rich.console import Console

    from autodim.report.terminal import comparison_table

    for title, compared in comparisons(rows):
        Console(width=None if sys.stdout.isatty() else 140).print(title, comparison_table(compared), sep="\n")
    for row in rows:
        if "infeasible" in row:
            typer.echo(f"{row['strategy']} at {row['share']:g}, seed {row['seed']}: {row['infeasible']}", err=True)
    typer.echo("saved: " + ", ".join(map(str, [table, folder / "comparison.json", *reports])), err=True)


def read_strategies(text: str) -> list[str]:
    """Names from `a,b`.

    Raises:
        ConfigError: none, or one that is not a strategy.
    """
    known = [e.name for e in components()["strategies"]]
    names = [n.strip() for n in text.split(",") if n.strip()]
    if not names:
        raise ConfigError(
            f"--strategies: found {text!r}, expected names separated by commas; known: {', '.join(known)}"
        )
    for name in names:
        if name not in known:
            raise ConfigError(f"--strategies: found {name!r}{did_you_mean(name, known)}")
    return list(dict.fromkeys(names))


def read_shares(text: str) -> list[float]:
    """Shares from `0.5,0.25`, each above 0 and at most 1.

    Raises:
        ConfigError: anything else.
    """
    shares = [_number(part, "--shares", float) for part in text.split(",") if part.strip()]
    for share in shares:
        if not 0 < share <= 1:
            raise ConfigError(f"--shares: found {share:g}, expected shares of the uniform model, above 0 and at most 1")
    return list(dict.fromkeys(shares))


def read_modes(text: str) -> list[str]:
    """Ways of retraining from `none,warm`.

    Raises:
        ConfigError: none, or one that is not known.
    """
    known = ["none", "warm", "warm_cold_first", "cold", "distill"]
    modes = [m.strip() for m in text.split(",") if m.strip()]
    if not modes:
        raise ConfigError(f"--modes: found {text!r}, expected names separated by commas; known: {', '.join(known)}")
    for mode in modes:
        if mode not in known:
            raise ConfigError(f"--modes: found {mode!r}{did_you_mean(mode, known)}")
    return list(dict.fromkeys(modes))


def read_seeds(text: str) -> list[int]:
    """Whole numbers from `0,1,2`.

    Raises:
        ConfigError: none, or something else.
    """
    seeds = [int(_number(part, "--seeds", int)) for part in text.split(",") if part.strip()]
    if not seeds:
        raise ConfigError(f"--seeds: found {text!r}, expected whole numbers separated by commas")
    return list(dict.fromkeys(seeds))


def _number(part: str, flag: str, kind: Callable[[str], float]) -> float:
    try:
        return kind(part)
    except ValueError as error:
        what = "whole numbers" if kind is int else "numbers"
        raise ConfigError(f"{flag}: found {part.strip()!r}, expected {what} separated by commas") from error
