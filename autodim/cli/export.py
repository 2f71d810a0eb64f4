"""`autodim export`: widths and weights in other systems' words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autodim.cli.common import RunArgument


def export(
    run: RunArgument,
    kind: Annotated[str, typer.Option("--format", help="widths, json, csv, torchrec or safetensors")] = "widths",
    out: Annotated[Path | None, typer.Option("--out", help="file; default: stdout (safetensors needs one)")] = None,
) -> None:
    """Export a run's widths, or the small model's weights."""
    from autodim import artifact
    from autodim.errors import ConfigError
    from autodim.stages.export import text, write_weights

    if kind == "safetensors":
        if out is None:
            raise ConfigError("--format safetensors: binary, so it needs a file; add --out weights.safetensors")
        typer.echo(f"{out}: {write_weights(run, out)} tensors", err=True)
        return
    found = text(run, kind)
    if out is None:
        typer.echo(found, nl=not found.endswith("\n"))
    else:
        artifact.write_text(out, found)
        typer.echo(str(out), err=True)
