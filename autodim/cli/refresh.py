"""`autodim refresh`: a live run meets a new log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autodim.cli.common import Json, Quiet, RunArgument, print_json, progress


def refresh(
    run: RunArgument,
    data: Annotated[Path, typer.Option("--data", help="the new log, as data.path of the run's config reads it")],
    out: Annotated[Path, typer.Option("--out", help="folder of the new run; the old one is kept")],
    min_gain: Annotated[
        float, typer.Option("--min-gain", help="a slot grows only for this predicted saving of log loss (nats)")
    ] = 1e-4,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Propose widths for a new log, change those that pay, and carry the live model over."""
    from autodim.errors import ConfigError
    from autodim.stages.predict import open_run
    from autodim.stages.refresh import refresh as work
    from autodim.stages.session import Session
    from autodim.training.device import set_up
    from autodim.training.interrupt import StopFlag

    if min_gain < 0:
        raise ConfigError(f"--min-gain: found {min_gain:g}, expected 0 or more")
    old = open_run(run)
    with StopFlag() as stop:
        device = set_up(old.config.device, old.config.threads)
        found = work(old, out, data, Session(device, progress(as_json, quiet), stop), min_gain)
    if as_json:
        print_json(found.to_json())
        return
    typer.echo(
        f"{'slots':<24} {'before':>6} {'proposed':>8} {'after':>6} {'gain (nats)':>12} {'ids known':>10}  decision"
    )
    for c in found.changes:
        name = ", ".join(c.slots)
        known = f"{found.matched[c.table]:.0%}"
        typer.echo(f"{name:<24} {c.before:>6} {c.proposed:>8} {c.after:>6} {c.gain:>+12.2e} {known:>10}  {c.decision}")
    for table, (ids, share) in found.lost.items():
        typer.echo(
            f"note: {table}: {ids:,} ids ({share:.1%} of the old occurrences) are not in the new log and read as "
            "unknown from now on; a log that covers both periods, or `autodim continue`, keeps them",
            err=True,
        )
    allocation = found.allocation
    typer.echo(
        f"{allocation.spent:,} of {allocation.asked:,} {allocation.unit}; the live model is in {out}/prune/model"
    )
    typer.echo(f"go on with: autodim retrain {out}    score with: autodim predict {out} ROWS --model cut", err=True)
