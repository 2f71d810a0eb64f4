"""`autodim init`: a config guessed from a log."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from autodim.errors import ConfigError

WHY = 76  # characters of a reason in the table


def init(
    path: Annotated[
        str, typer.Argument(metavar="LOG", help="CSV, TSV, .gz or Parquet: a file, a folder or a pattern in quotes")
    ],
    label: Annotated[
        list[str] | None,
        typer.Option("--label", help="the column to predict; or 'rating>3', 'action=buy'; again for a second task"),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="the config to write")] = Path("my.yaml"),
    force: Annotated[bool, typer.Option("--force", help="overwrite an existing file")] = False,
    rows: Annotated[int, typer.Option("--rows", min=100, help="rows to look at")] = 200_000,
) -> None:
    """Look at a log and write a config for it that runs as it is, with a reason beside each guess."""
    _check_target(out, force)
    from autodim.data.infer import infer
    from autodim.data.infer.words import scalar

    found = infer(path, label, str(out), rows)
    write(out, found.text, force)
    width = min(32, max(len(scalar(name)) for name, _, _ in found.rows))
    for name, becomes, why in found.rows:
        safe = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in why)
        shown = safe if len(safe) <= WHY else safe[: WHY - 3] + "..."
        typer.echo(f"{scalar(name)[:width]:<{width}}  {becomes:<18}  {shown}", err=True)
    for note in found.notes:
        typer.echo(f"note: {''.join(c if c.isprintable() else ascii(c)[1:-1] for c in note)}", err=True)
    typer.echo(f"{out}")
    command = f"autodim search {shlex.quote(str(out))}"
    typer.echo(f"next:\n  {command} --dry-run\n  {command}", err=True)


def _check_target(out: Path, force: bool) -> None:
    """Before the log is read: the work should not be for nothing."""
    if out.is_symlink() or (out.exists() and not out.is_file()):
        raise ConfigError(f"{out}: not a regular file; choose another name with --out")
    if out.exists() and not force:
        raise ConfigError(f"{out}: exists already; choose another name with --out, or overwrite it with --force")
    if not out.parent.is_dir():
        raise ConfigError(f"{out}: the folder {out.parent} does not exist; make it first")


def write(out: Path, text: str, force: bool) -> None:
    """The whole file or none; without `force` never over another one.

    Raises:
        ConfigError: the file exists, or cannot be written.
    """
    temporary = out.with_name(f".tmp-{os.getpid()}-{out.name}")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if force:
            os.replace(temporary, out)
        else:
            os.link(temporary, out)  # unlike a rename it fails where a file is, also one of this moment
    except FileExistsError:
        raise ConfigError(f"{out}: exists already; choose another name, or overwrite it with --force") from None
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)
