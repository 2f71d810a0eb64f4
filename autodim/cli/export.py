"""`autodim export`: widths and weights in other systems' words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from autodim.cli.common import RunArgument


def export(
    run: RunArgument,
    kind: Annotated[str, typer.Option("--format", help="widths, json, csv, torchrec or safetensors")] = "widths",
    precision: Annotated[
        str | None, typer.Option("--precision", help="safetensors: all tables in fp32, fp16 or int8; default: as found")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="file; default: stdout (safetensors needs one)")] = None,
) -> None:
    """Export a run's widths, or the small model's weights."""
    from autodim import artifact
    from autodim.embedding.precision import PRECISIONS
    from autodim.errors import ConfigError
    from autodim.stages import no_cut
    from autodim.stages.export import text, write_weights
    from autodim.stages.predict import open_run

    chosen = next((p for p in PRECISIONS if p == precision), None)
    if precision is not None and (chosen is None or kind != "safetensors"):
        raise ConfigError(
            f"--precision: found {precision!r} with --format {kind}; expected one of {', '.join(PRECISIONS)} with "
            "--format safetensors"
        )
    if served := no_cut.words(open_run(run)):
        typer.echo(served, err=True)
    if kind == "safetensors":
        if out is None:
            raise ConfigError("--format safetensors: binary, so it needs a file; add --out weights.safetensors")
        typer.echo(f"{out}: {write_weights(run, out, chosen)} tensors", err=True)
        return
    found = text(run, kind)
    for problem in json.loads(found)["problems"] if kind == "torchrec" else ():
        typer.echo(f"torchrec: {problem}", err=True)
    if out is None:
        typer.echo(found, nl=not found.endswith("\n"))
    else:
        artifact.write_text(out, found)
        typer.echo(str(out), err=True)
