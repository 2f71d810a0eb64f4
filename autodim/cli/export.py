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
    from autodim.errors import ConfigError, did_you_mean
    from autodim.export import FORMATS
    from autodim.stages import export as stage

    if kind == "safetensors":
        if out is None:
            raise ConfigError("--format safetensors: binary, so it needs a file; add --out weights.safetensors")
        from autodim.export.weights import save_weights

        tensors, about = stage.weights(run)
        save_weights(out, tensors, stage.read_allocation(run), about)
        typer.echo(f"{out}: {len(tensors)} tensors", err=True)
        return
    if kind not in FORMATS:
        raise ConfigError(f"--format: found {kind!r}{did_you_mean(kind, [*FORMATS, 'safetensors'])}")
    text = FORMATS[kind](stage.read_allocation(run))
    if out is None:
        typer.echo(text, nl=not text.endswith("\n"))
    else:
        stage.write_output(out, text)
        typer.echo(str(out), err=True)
