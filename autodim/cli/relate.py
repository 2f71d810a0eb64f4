"""`autodim relate`: are the tasks related?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from autodim.cli.common import ConfigArgument, Json, Overrides, Quiet, print_json, progress, read_config
from autodim.cli.compare import read_seeds


def relate(
    config: ConfigArgument,
    overrides: Overrides = None,
    seeds: Annotated[str, typer.Option("--seeds", help="comma-separated; the 95 % intervals are over them")] = "0,1,2",
    every: Annotated[
        int, typer.Option("--every", help="compare gradients in one of so many batches; 0: about 100 a training", min=0)
    ] = 0,
    lookahead: Annotated[
        float, typer.Option("--lookahead", help="length of the look-ahead step, times the gradient", min=1e-9)
    ] = 0.1,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure how far each task helps each other: transfer, affinity, gradient cosine; run it again to continue."""
    settings, numbers = read_config(config, overrides), read_seeds(seeds)

    from autodim.report.related import HEADS, intervals, pair_cells
    from autodim.stages.relate import relate as run
    from autodim.stages.relate_parts import Question

    result, found = run(settings, Question(tuple(numbers), every, lookahead), progress(as_json, quiet))
    if as_json:
        print_json(result)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, title=intervals(len(numbers), "+-"), title_justify="left")
    for k, head in enumerate(HEADS):
        table.add_column(head, justify="left" if k < 2 else "right")
    for pair in found:
        table.add_row(*(Text(cell) for cell in pair_cells(pair)))
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    for pair in found:
        typer.echo(pair.words)
    typer.echo(f"saved: {Path(settings.run) / 'relate'}/relate.{{html,json}}", err=True)
