"""`autodim verify`: is everything in a run's folder what was written?"""

from __future__ import annotations

import typer

from autodim.cli.common import RunArgument
from autodim.errors import RunError


def verify(run: RunArgument) -> None:
    """Check every sealed folder of a run against its sha256 sums; exit 5 and name what is damaged."""
    from autodim import artifact

    if not run.is_dir():
        raise RunError(f"{run}: not found; expected a run folder")
    bad = []
    folders = {m.parent for m in run.rglob(artifact.MANIFEST)}
    for record in run.rglob("done.json"):
        # a sealed folder that is gone altogether has no manifest that could tell
        folders |= {record.parent / sealed for sealed in artifact.read_json(record).get("sealed", ())}
    for folder in sorted(folders):
        try:
            artifact.verify(folder)
        except RunError as error:
            bad.append(str(error))
    if bad:
        raise RunError("\n".join(bad))
    typer.echo(f"{run}: {len(folders)} sealed folders, all as written")
