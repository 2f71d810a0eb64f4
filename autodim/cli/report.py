"""`autodim report`: draw a run's report again."""

from __future__ import annotations

import typer

from autodim.cli.common import RunArgument


def report(run: RunArgument) -> None:
    """Draw RUN/report.html again from what the stages left."""
    from autodim.stages.predict import open_run
    from autodim.stages.report import write_report

    typer.echo(str(write_report(open_run(run))))
