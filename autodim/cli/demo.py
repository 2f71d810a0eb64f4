"""`autodim demo`: the whole road on real flights, or on a planted log, in a few minutes on two cores."""

from __future__ import annotations

from typing import Annotated

import typer

from autodim.cli.common import Json, Overrides, Quiet


def demo(
    overrides: Overrides = None,
    planted: Annotated[bool, typer.Option("--planted", help="a generated log whose true widths are known")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the widths for a log of 327,346 real flights (was it late?), from the log to the report."""
    from autodim.cli.search import search

    if not quiet and not as_json:
        what = "a planted log with known widths" if planted else "the flights that left New York in 2013"
        typer.echo(
            f"autodim demo: {what}; the config is `autodim show {'planted' if planted else 'flights'}`", err=True
        )
    search("planted" if planted else "flights", overrides, as_json=as_json, quiet=quiet)
