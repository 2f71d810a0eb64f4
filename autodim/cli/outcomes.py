"""`autodim outcomes`: are the tasks better together than alone?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from autodim.cli.common import ConfigArgument, Json, Overrides, Quiet, print_json, progress, read_config
from autodim.cli.compare import read_seeds


def outcomes(
    config: ConfigArgument,
    overrides: Overrides = None,
    seeds: Annotated[str, typer.Option("--seeds", help="one training for each; comma-separated")] = "0,1,2",
    share: Annotated[
        float | None,
        typer.Option("--share", help="cut every model to this share of the uniform embeddings; default: uncut"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="folder; default: RUN/outcomes or the run's name + -outcomes")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train all tasks in one model and each alone, over seeds: all up, mixed, see-saw or negative transfer?"""
    from autodim.errors import ConfigError

    settings, numbers = read_config(config, overrides), read_seeds(seeds)
    if share is not None and not 0 < share <= 1:
        raise ConfigError(f"--share: found {share:g}, expected a share of the uniform model, above 0 and at most 1")

    from autodim.report.outcomes import COLUMNS, outcome_cells
    from autodim.stages.compare import Place
    from autodim.stages.outcomes import outcomes as run

    finished = (Path(config) / "pretrain" / "done.json").is_file()
    folder = out or (Path(config) / "outcomes" if finished else Path(settings.run + "-outcomes"))
    place = Place(folder, Path(config) if finished else None)
    result, rows = run(settings, place, tuple(numbers), share, progress(as_json, quiet))
    if as_json:
        print_json(result)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None)
    for k, head in enumerate(COLUMNS):
        table.add_column(head, justify="right" if 1 < k < len(COLUMNS) - 1 else "left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in outcome_cells(row, ascii=True)))
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    typer.echo(f"outcome: {result['outcome']}")
    typer.echo(f"saved: {folder / 'outcomes.md'}, {folder / 'outcomes.json'}", err=True)
