"""What several commands share: their arguments, and how they print."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autodim.config import catalogue, load_config
from autodim.config.schema import Config
from autodim.files import finite

if TYPE_CHECKING:
    from autodim.training.progress import Progress

ConfigArgument = Annotated[
    str, typer.Argument(metavar="CONFIG", help="a YAML file, a shipped config's name, or a run folder")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="settings on top of the config, such as prune.budget.share=0.125"),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="a run's folder, as `autodim search` makes it")]
Json = Annotated[bool, typer.Option("--json", help="machine-readable result, no progress")]
Quiet = Annotated[bool, typer.Option("--quiet", help="no progress lines")]


def read_config(name: str, overrides: Sequence[str] | None) -> Config:
    """The config that an argument means: a file, a shipped one, or a run folder's own."""
    path = Path(name)
    if catalogue.is_folder(path) and (path / "config.yaml").is_file():
        return load_config(path / "config.yaml", [f"run={json.dumps(str(path))}", *(overrides or ())]).config
    return load_config(catalogue.find_config(name), overrides or ()).config


def progress(as_json: bool, quiet: bool) -> Progress:
    """The progress that the flags ask for."""
    from autodim.training.progress import Progress

    return Progress("quiet" if as_json or quiet else "auto")


def print_json(value: Any) -> None:
    """A machine-readable result; numbers that are not finite become null."""
    typer.echo(json.dumps(finite(value), indent=1, allow_nan=False))


def finished_data(name: str) -> Path | None:
    """The encoded log of a finished run, where an argument names one: it is used in place."""
    data = Path(name) / "data"
    return data if (data / "done.json").is_file() else None


def print_table(head: list[str], body: list[list[str]], names: int) -> None:
    """A table on stdout; the columns after the first `names` are figures."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, name in enumerate(head):
        table.add_column(name, justify="left" if i < names else "right", no_wrap=True)
    for row in body:
        table.add_row(*(Text(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else 140).print(table)
