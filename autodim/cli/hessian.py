"""`autodim hessian`: curvature of the loss by each id's vector, for one run or two side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from autodim.cli.common import Json, Quiet, RunArgument, print_json, print_table, progress


def hessian(
    run: RunArgument,
    other: Annotated[
        Path | None, typer.Argument(metavar="RUN2", help="a second run on the same log, to put beside it")
    ] = None,
    model: Annotated[Literal["uniform", "cut", "small"], typer.Option("--model", help="which model")] = "uniform",
    part: Annotated[Literal["train", "valid", "test"], typer.Option("--on", help="rows that are read")] = "train",
    rows: Annotated[int, typer.Option("--rows", min=1, help="read at most this many")] = 50_000,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option("--device", help="where it is computed")] = "auto",
    threads: Annotated[int | None, typer.Option("--threads", help="of the CPU; default: all cores")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="folder; default: RUN/hessian")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure how sharply the loss bends by each id's vector (top eigenvalue of its Hessian) against its frequency."""
    from autodim import artifact
    from autodim.report.curvature import page
    from autodim.stages.hessian import hessian as compute
    from autodim.stages.hessian import open_trained, plan, same_log, short_names, table
    from autodim.stages.session import Session
    from autodim.training.device import set_up
    from autodim.training.interrupt import StopFlag

    where = set_up(device, threads)
    tell = progress(as_json, quiet)
    folders = [folder for folder in (run, other) if folder is not None]
    names = short_names(folders)
    models = [open_trained(folder, model, where, name) for folder, name in zip(folders, names, strict=True)]
    if other is not None:
        same_log(*models)
    found = plan(models, part, rows)
    notes = [f"Left out: {slot} ({reason})." for slot, reason in found.left_out.items()]
    notes.append(f"{found.rows:,} rows of {part}; model {model}, in evaluation mode.")
    tell.line(
        f"hessian: {len(found.slots)} slots x {len(models)} models on {found.rows:,} rows of {part}: about "
        f"{found.passes:,} backward passes of 2,048 rows"
    )
    for note in notes[:-1]:
        tell.line(f"hessian: {note}")
    with StopFlag() as stop:
        entries = compute(models, found, part, Session(where, tell, stop))
    folder = out or run / "hessian"
    head, body = table(entries)
    artifact.write_json(folder / "hessian.json", {"slots": entries, "left_out": found.left_out, "rows": found.rows})
    artifact.write_text(folder / "hessian.html", page(entries, head, body, notes))
    if as_json:
        keep = [k for k in entries[0] if k not in ("id", "counts", "top", "gradient_norm")] if entries else []
        print_json({"slots": [{k: e[k] for k in keep} for e in entries], "left_out": found.left_out})
        return
    print_table(head, body, 2)
    typer.echo(f"saved: {folder / 'hessian.html'}, {folder / 'hessian.json'}", err=True)
