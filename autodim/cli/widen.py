"""`autodim widen`: more dimensions for slots that had too few to begin with."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from autodim.cli.common import Json, Quiet, RunArgument, print_json, progress


def widen(
    run: RunArgument,
    width: Annotated[
        int | None, typer.Option("--width", help="of these slots; default: twice the uniform width")
    ] = None,
    slots: Annotated[str, typer.Option("--slots", help="which, comma-separated; default: the saturated ones")] = "",
    fill: Annotated[
        Literal["zero", "linear"],
        typer.Option("--fill", help="what new columns begin as: zero, or a normalised linear map of the old ones"),
    ] = "zero",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Retrain slots that kept every dimension (the saturated ones) at a larger width, within the run's budget."""
    from autodim import artifact
    from autodim.stages.holdout import held_out
    from autodim.stages.predict import open_run
    from autodim.stages.prepare import open_log
    from autodim.stages.session import Session
    from autodim.stages.widen import Wish
    from autodim.stages.widen import widen as work
    from autodim.training.device import set_up
    from autodim.training.interrupt import StopFlag

    found = open_run(run)
    wish = Wish(width or 2 * found.config.model.width, tuple(s.strip() for s in slots.split(",") if s.strip()), fill)
    with artifact.Lock(run), StopFlag() as stop:
        device = set_up(found.config.device, found.config.threads)
        log = held_out(open_log(found), found.config)
        results = work(found, log, Session(device, progress(as_json, quiet), stop), wish)
    if as_json:
        print_json(results)
        return
    for name, value in results["widths"].items():
        typer.echo(f"{name:<24} {value}")
    typer.echo(f"{results['spent']:,} of {results['asked']:,} {results['unit']}")
    for name in ("start", "model"):
        test = results[name][0]
        typer.echo(f"{name:<6} test AUC {test['auc'] or float('nan'):.4f}  logloss {test['logloss']:.4f}")
