"""`autodim continue`: train a run's model on with new rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from autodim.cli.common import Json, Overrides, Quiet, RunArgument, print_json, print_table, progress, read_config
from autodim.config.catalogue import config_file
from autodim.errors import DataError


def online(
    run: RunArgument,
    data: Annotated[Path, typer.Option("--data", help="the new rows: same columns, labels included")],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("--out", help="folder of the new run; default: RUN + -next")] = None,
    model: Annotated[Literal["small", "uniform"], typer.Option("--model", help="which model goes on")] = "small",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Go on training with new rows: new ids get rows of their own, optimizer state is kept; a new run is written."""
    config_file(run)
    if not data.is_file():
        raise DataError(f"--data: found {data}, expected a file with the new rows")
    target = out or run.with_name(run.name + "-next")
    settings = read_config(str(run), [*(overrides or ()), f"run={json.dumps(str(target))}"])

    from autodim.stages.online import continue_run

    result = continue_run(run, settings, data, model, progress(as_json, quiet))
    if as_json:
        print_json(result)
        return
    body = []
    for label, before, after in zip(result["labels"], result["before"], result["after"], strict=True):
        for name in ("auc", "logloss", "calibration"):
            cells = ["–" if m[name] is None else f"{m[name]:.4f}" for m in (before, after)]
            body.append([label, name, *cells])
    print_table(["label", "new test rows", "before", "after"], body, 2)
    added = ", ".join(f"{name} {count:,}" for name, count in result["new_ids"].items() if count) or "none"
    typer.echo(f"new ids: {added}\nsaved: {target}", err=True)
