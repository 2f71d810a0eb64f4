"""The command line: one command, one file. Results go to stdout, everything for people to stderr.

torch and the data engine are imported inside commands, so that help, listings and config errors are instant.
Exit codes: 0 done; 1-7 the user's to solve (`autodim.errors`); 130 and 143 stopped by a signal, everything saved.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from autodim.cli.bench import bench
from autodim.cli.compare import compare
from autodim.cli.cp import cp
from autodim.cli.demo import demo
from autodim.cli.export import export
from autodim.cli.hessian import hessian
from autodim.cli.init import init
from autodim.cli.ls import ls
from autodim.cli.online import online
from autodim.cli.oracle import oracle
from autodim.cli.outcomes import outcomes
from autodim.cli.predict import predict
from autodim.cli.recipes import recipes
from autodim.cli.refresh import refresh
from autodim.cli.relate import relate
from autodim.cli.report import report
from autodim.cli.search import evaluate, prepare, pretrain, prune, retrain, search
from autodim.cli.show import show
from autodim.cli.stress import stress
from autodim.cli.sweep import sweep
from autodim.cli.verify import verify
from autodim.cli.widen import widen
from autodim.errors import AutodimError

app = typer.Typer(
    name="autodim",
    help="Finds how wide each embedding table of a recommender model should be, within a budget.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from autodim import __version__

        typer.echo(f"autodim {__version__}")
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Finds how wide each embedding table of a recommender model should be, within a budget."""


START, ROAD, AFTER = "Start here", "The road, stage by stage", "Afterwards"
app.command(rich_help_panel=START)(demo)
app.command(rich_help_panel=START)(search)
app.command(rich_help_panel=START)(ls)
app.command(rich_help_panel=START)(init)
app.command(rich_help_panel=START)(cp)
app.command(rich_help_panel=START)(show)
app.command(rich_help_panel=ROAD)(prepare)
app.command(rich_help_panel=ROAD)(pretrain)
app.command(rich_help_panel=ROAD)(prune)
app.command(rich_help_panel=ROAD)(retrain)
app.command(rich_help_panel=ROAD)(evaluate)
app.command(rich_help_panel=AFTER)(compare)
app.command(rich_help_panel=AFTER)(sweep)
app.command(rich_help_panel=AFTER)(oracle)
app.command(rich_help_panel=AFTER)(recipes)
app.command(rich_help_panel=AFTER)(stress)
app.command(rich_help_panel=AFTER)(hessian)
app.command(rich_help_panel=AFTER)(widen)
app.command(rich_help_panel=AFTER)(refresh)
app.command(rich_help_panel=AFTER)(relate)
app.command(rich_help_panel=AFTER)(outcomes)
app.command(rich_help_panel=AFTER)(report)
app.command(rich_help_panel=AFTER)(export)
app.command(rich_help_panel=AFTER)(predict)
app.command("continue", rich_help_panel=AFTER)(online)
app.command(rich_help_panel=AFTER)(verify)
app.command(rich_help_panel=AFTER)(bench)


def main() -> None:
    """Entry point: user errors without a traceback, bugs with one."""
    try:
        app()
    except AutodimError as error:
        typer.secho("error: ", fg=typer.colors.RED, nl=False, err=True)
        typer.echo(str(error), err=True)
        sys.exit(error.exit_code)
    except Exception as error:
        # torch, and with it `Interrupted`, is loaded only if a command loaded it
        code = getattr(error, "exit_code", None)
        if type(error).__name__ != "Interrupted" or code is None:
            raise
        typer.echo(f"{error}; everything is saved. Continue with:\n  {command_line()}", err=True)
        sys.exit(code)


def command_line() -> str:
    """The command as the user typed it."""
    import shlex

    return shlex.join(["autodim", *sys.argv[1:]])
