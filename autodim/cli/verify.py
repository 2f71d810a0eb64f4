"""`autodim verify`: is everything in a run's folder what was written?"""

from __future__ import annotations

import typer

from autodim.cli.common import RunArgument
from autodim.errors import RunError


def verify(run: RunArgument) -> None:
    """Check all that a run's stages wrote against its sha256 sums; exit 5 and name what is damaged."""
    from autodim.stages.verify import damages

    if not run.is_dir():
        raise RunError(f"{run}: not found; expected a run folder")
    checked, bad = damages(run)
    if bad:
        raise RunError("\n".join(bad))
    typer.echo(f"{run}: {checked} sealed folders, all as written")
