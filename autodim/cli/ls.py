"""`autodim ls`: shipped configs and components, one line each."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from autodim.config import catalogue, walk
from autodim.config.spelling import closest, quoted
from autodim.errors import ConfigError


def ls(
    family: Annotated[
        str | None,
        typer.Argument(metavar="FAMILY", help="configs, models, optimizers, clippers, strategies, logs, ..."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable")] = False,
) -> None:
    """List shipped configs and components with one line about each."""
    chosen = _choose(family)
    if as_json:
        listed = {
            title: [
                {"name": e.name, "description": e.description} | ({"path": str(e.path)} if e.path else {})
                for e in entries
            ]
            for title, entries in chosen.items()
        }
        typer.echo(json.dumps(listed, indent=2))
        return
    width = max(len(entry.name) for entries in chosen.values() for entry in entries)
    blocks = []
    for title, entries in chosen.items():
        key = catalogue.CHOSEN_BY.get(title)
        how = f"{walk.dotted(key)}: ..." if key else "autodim search NAME, autodim cp NAME"
        blocks.append("\n".join([f"{title} ({how})", *(f"  {e.name:<{width}}  {e.description}" for e in entries)]))
    typer.echo("\n\n".join(blocks))


def _choose(family: str | None) -> dict[str, list[catalogue.Entry]]:
    """All families, or those whose name holds the word (`optimizers` means two)."""
    families = {"configs": catalogue.configs(), **catalogue.components()}
    if family is None:
        return families
    chosen = {title: entries for title, entries in families.items() if family == title or family in title.split("_")}
    if not chosen:
        guess = closest(family, [*families, "optimizers"])
        hint = f'; did you mean "{guess}"?' if guess else f"; known: {', '.join(families)}"
        raise ConfigError(f"{quoted(family)}: no such family of components{hint}")
    return chosen
