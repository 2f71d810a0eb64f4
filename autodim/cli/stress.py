"""`autodim stress`: how often trainings diverge as learning rates grow, with and without stabilisers."""

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
from autodim.errors import ConfigError, did_you_mean

RECIPES = ("adagrad", "norm", "agc", "clippy")


def stress(
    config: ConfigArgument,
    overrides: Overrides = None,
    recipes: Annotated[
        str, typer.Option("--recipes", help="which stabilisers: of adagrad (none), norm, agc, clippy")
    ] = ",".join(RECIPES),
    factors: Annotated[str, typer.Option("--factors", help="times the learning rate")] = "1,2,4,8",
    sizes: Annotated[str, typer.Option("--sizes", help="factors on the widths of the dense layers")] = "1",
    seeds: Annotated[str, typer.Option("--seeds", help="one training for each; comma-separated")] = "0,1,2",
    lr: Annotated[float, typer.Option("--lr", help="learning rate of factor 1, tables and dense alike")] = 0.02,
    max_norm: Annotated[float, typer.Option("--max-norm", help="of the recipe norm")] = 1.0,
    agc: Annotated[float, typer.Option("--agc", help="share of the weights, of the recipe agc")] = 0.01,
    out: Annotated[Path | None, typer.Option("--out", help="folder; default: the run's name + -stress")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Count diverged trainings over learning rates, seeds and stabilisers; run it again to continue."""
    settings = read_config(config, overrides)
    names = list(dict.fromkeys(n.strip() for n in recipes.split(",") if n.strip()))
    for name in names:
        if name not in RECIPES:
            raise ConfigError(f"--recipes: found {name!r}{did_you_mean(name, list(RECIPES))}")
    if not names:
        raise ConfigError(f"--recipes: found nothing, expected some of {', '.join(RECIPES)}")
    rates, scales, numbers = _positive("--factors", factors), _positive("--sizes", sizes), read_seeds(seeds)
    for flag, value in (("--lr", lr), ("--max-norm", max_norm), ("--agc", agc)):
        if not value > 0:
            raise ConfigError(f"{flag}: found {value:g}, expected a number above 0")
    if scales != [1.0] and settings.model.name == "fm":
        raise ConfigError("--sizes: has no effect with model.name: fm, which has no dense layers; take it out")

    from autodim.stages.grid import run_grid
    from autodim.stages.stress import stress_cells, stress_table, write_stress

    cells = stress_cells(settings, names, rates, scales, lr, max_norm, agc)
    folder = out or Path(settings.run + "-stress")
    about = {"model": settings.model.name, "learning rate of x 1": lr, "max_norm": max_norm, "agc": agc}
    rows = run_grid(
        settings,
        cells,
        numbers,
        folder,
        progress(as_json, quiet),
        finished_data(config),
        lambda rows: write_stress(folder, rows, about),
    )
    if as_json:
        print_json({"settings": about, "rows": rows})
        return
    print_table(*stress_table(rows), 2)
    typer.echo(f"saved: {folder / 'stress.md'}, {folder / 'stress.json'}", err=True)


def _positive(flag: str, text: str) -> list[float]:
    try:
        found = [float(v) for v in text.split(",") if v.strip()]
    except ValueError:
        found = []
    if not found or any(not v > 0 for v in found):
        raise ConfigError(f"{flag}: found {text!r}, expected numbers above 0 separated by commas")
    return list(dict.fromkeys(found))
