"""`autodim predict`: score new rows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from autodim.cli.common import RunArgument

BAD_ROWS = "rows that may be unreadable and left out; above 0 a first column `line` says whose the scores are"
DEVICE = typer.Option("--device", help="auto, cpu or cuda")


def predict(
    run: RunArgument,
    data: Annotated[
        Path, typer.Argument(metavar="ROWS", help="CSV or Parquet with the slots' columns; labels are not needed")
    ],
    out: Annotated[Path | None, typer.Option("--out", help="CSV or Parquet; default: CSV on stdout")] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            help="small, served (small, its tables rounded), cut (before the retrain), uniform (before the cut), or "
            "wide (of `autodim widen`)",
        ),
    ] = "small",
    weights: Annotated[Path | None, typer.Option("--weights", help="an exported safetensors file of this run")] = None,
    device: Annotated[str, DEVICE] = "auto",
    max_bad_rows: Annotated[int, typer.Option("--max-bad-rows", min=0, help=BAD_ROWS)] = 0,
    auxiliary: Annotated[bool, typer.Option("--auxiliary", help="columns of auxiliary tasks too")] = False,
) -> None:
    """Score new rows with a run's small model; ids that training never saw read the out-of-vocabulary row."""
    from autodim.artifact import write_bytes
    from autodim.errors import ConfigError, did_you_mean
    from autodim.stages.predict import MODELS
    from autodim.stages.predict import predict as score
    from autodim.training.device import set_up

    if model not in MODELS:
        raise ConfigError(f"--model: found {model!r}{did_you_mean(model, list(MODELS))}")
    if out is not None and out.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"--out: found {out.name!r}, expected a name that ends in .csv or .parquet")
    on = set_up(device, None)
    frame = score(run, data, on, model, lambda text: typer.echo(text, err=True), weights, max_bad_rows, auxiliary)
    if max_bad_rows:
        frame = frame.reset_index()
    if out is None:
        frame.to_csv(sys.stdout, index=False)
        return
    written = frame.to_csv(index=False).encode() if out.suffix == ".csv" else frame.to_parquet(index=False)
    write_bytes(out, written)
    typer.echo(f"{out}: {len(frame):,} rows", err=True)
