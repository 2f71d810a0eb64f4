"""`autodim verify`: is everything in a run's folder what was written?"""

from __future__ import annotations

import typer

from autodim.cli.common import RunArgument
from autodim.errors import RunError


def verify(run: RunArgument) -> None:
    """Check all that a run's stages wrote against its sha256 sums; exit 5 and name what is damaged."""
    from autodim.config.catalogue import config_file, is_folder, is_there
    from autodim.stages import no_cut
    from autodim.stages.predict import open_run
    from autodim.stages.verify import damages

    checked, bad = damages(run) if is_folder(run) else (0, [])
    if not checked and not bad:
        config_file(run)  # nothing that could be checked: is it a run at all?
    if bad:
        raise RunError("\n".join(bad))
    typer.echo(f"{run}: {checked} sealed folders, all as written")
    if is_there(run / "config.yaml") and (served := no_cut.words(open_run(run))):
        typer.echo(served, err=True)
