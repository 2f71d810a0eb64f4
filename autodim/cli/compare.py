"""`autodim compare`: strategies against each other at the same budgets, over seeds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from autodim.cli.common import ConfigArgument, Json, Overrides, Quiet, print_json, progress, read_config
from autodim.config.catalogue import components
from autodim.config.schema import Config
from autodim.errors import ConfigError, did_you_mean


def compare(
    config: ConfigArgument,
    overrides: Overrides = None,
    strategies: Annotated[
        str, typer.Option("--strategies", help="comma-separated; default: spectral, sseds and every baseline")
    ] = "spectral,sseds,uniform,random,magnitude,frequency_tiers,power_rule,fourth_root",
    shares: Annotated[
        str, typer.Option("--shares", help="budgets as shares of the uniform model; default: the config's budget")
    ] = "",
    seeds: Annotated[str, typer.Option("--seeds", help="every cell once for each; comma-separated")] = "0,1,2",
    modes: Annotated[
        str,
        typer.Option("--modes", help="ways of retraining, compared too: none, warm, warm_cold_first, cold, distill"),
    ] = "",
    reference: Annotated[
        str, typer.Option("--reference", help="what differences are taken to: uncut, a strategy, or `strategy, mode`")
    ] = "uncut",
    also: Annotated[
        list[str] | None,
        typer.Option("--also", help="one more config (another log or model) in the same job; repeatable"),
    ] = None,
    models: Annotated[str, typer.Option("--models", help="models by name, in place of each config's own")] = "",
    out: Annotated[
        Path | None, typer.Option("--out", help="folder; default: RUN/compare or the run's name + -compare")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare strategies at the same budgets, over seeds, with the uncut model; run it again to continue."""
    names, numbers = read_strategies(strategies), read_seeds(seeds)
    ways = read_modes(modes) if modes else [None]
    jobs = read_jobs([config, *(also or ())], overrides, [m.strip() for m in models.split(",") if m.strip()])
    if len(jobs) > 1 and out is None:
        raise ConfigError("--out: several configs or models are compared; say in which folder")

    from autodim.stages.compare import Grid, Place
    from autodim.stages.compare import compare as run
    from autodim.stages.differences import differences
    from autodim.stages.tables import comparisons, write_reports, write_tables

    results: dict[str, list[dict[str, Any]]] = {}
    for title, name, settings in jobs:
        finished = (Path(name) / "pretrain" / "done.json").is_file()
        folder = out or (Path(name) / "compare" if finished else Path(settings.run + "-compare"))
        if out is not None and len(jobs) > 1:
            folder = out / title
            if not (as_json or quiet):
                typer.echo(f"== {title}", err=True)
        budgets = read_shares(shares) or [settings.prune.budget.share or 0.25]
        place = Place(folder, Path(name) if finished and len(jobs) == 1 else None)
        grid = Grid(tuple(names), tuple(budgets), tuple(numbers), tuple(ways))
        rows = results[title] = run(settings, place, grid, progress(as_json, quiet))
        found = differences(settings, place, grid, rows, reference, progress(as_json, quiet))
        table = write_tables(folder, rows, found)
        reports = write_reports(settings, place, grid, rows, progress(as_json, quiet))
        if as_json:
            continue
        from rich.console import Console

        from autodim.report.terminal import comparison_table, differences_table

        console = Console(width=None if sys.stdout.isatty() else 140)
        for share, (heading, compared) in zip(sorted(found, reverse=True), comparisons(rows), strict=False):
            console.print(heading, comparison_table(compared), differences_table(found[share]), sep="\n")
        for row in rows:
            if "infeasible" in row:
                typer.echo(f"{row['strategy']} at {row['share']:g}, seed {row['seed']}: {row['infeasible']}", err=True)
        typer.echo("saved: " + ", ".join(map(str, [table, folder / "comparison.json", *reports])), err=True)
    if out is not None and len(jobs) > 1:
        from autodim import artifact

        tables = [(title, out / title / "comparison.md") for title, _, _ in jobs]
        artifact.write_text(out / "comparison.md", "\n".join(f"## {t}\n\n{p.read_text()}" for t, p in tables))
        if not as_json:
            typer.echo(f"saved: {out / 'comparison.md'}", err=True)
    if as_json:
        print_json(results if len(jobs) > 1 else next(iter(results.values())))


def read_jobs(
    configs: Sequence[str], overrides: list[str] | None, models: Sequence[str]
) -> list[tuple[str, str, Config]]:
    """Every config with every model: a title that names its folder, the config's name, the config.

    Raises:
        ConfigError: a config that is none, or two that would share a folder.
    """
    jobs: list[tuple[str, str, Config]] = []
    for name in configs:
        for model in models or (None,):
            settings = read_config(name, [*(overrides or ()), *([f"model.name={model}"] if model else [])])
            title = Path(name).stem + (f"-{model}" if model else "")
            if any(title == other for other, _, _ in jobs):
                raise ConfigError(f"--also: two configs are called {title}; rename one of the files")
            jobs.append((title, name, settings))
    return jobs


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
