"""`autodim cp`: a shipped config as a file of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autodim.config import catalogue
from autodim.config.text_file import read_text
from autodim.errors import ConfigError


def cp(
    name: Annotated[str, typer.Argument(metavar="CONFIG", help="a shipped config; `autodim ls configs` lists them")],
    dest: Annotated[
        Path | None, typer.Argument(metavar="TARGET", help="file or folder; default: CONFIG.yaml here")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="overwrite an existing file")] = False,
) -> None:
    """Copy a shipped config, comments and all."""
    source = catalogue.find_config(name)
    target = dest if dest is not None else Path(source.name)
    try:
        if target.is_dir():
            target = target / source.name
        if target.is_symlink() or (target.exists() and not target.is_file()):
            raise ConfigError(f"{target}: not a regular file; choose another name")
        if target.exists() and target.samefile(source):
            raise ConfigError(f"{target}: is the config itself; choose another name")
        text = read_text(source)
        # "x" and not a look before: of two commands at once, one must lose.
        with target.open("w" if force else "x", encoding="utf-8", newline="") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{target}: exists already; choose another name, or overwrite it with --force") from None
    except FileNotFoundError:
        raise ConfigError(f"{target}: the folder {target.parent} does not exist; make it first") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{target}: cannot be written: {error}") from None
    typer.echo(f"{target}")
    typer.echo(f"next: autodim search {target} --dry-run", err=True)
