"""`autodim show`: a run in a screen; a config with every value, where each comes from; or one component."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from autodim import artifact
from autodim.config import catalogue, load_config, to_yaml, walk
from autodim.config.reader import Loaded
from autodim.config.spelling import quoted

MOST = 8  # slots by task in a summary


def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="a run's folder, a config file, a shipped config, or a component such as deepfm"
        ),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="settings on top of the config")
    ] = None,
    origins: Annotated[
        bool, typer.Option("--origins", help="one line a value: where it comes from, what it is")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="of a run folder: its whole config, and all slots by task")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable")] = False,
) -> None:
    """Sum a run up in a screen; check a config and print it with all its values; or say what a component is.

    Of a run that was pruned for several tasks also which slots serve which task, as comments (or in the JSON).
    """
    shipped = [entry.name for entry in catalogue.configs()]
    found = _components(name)
    if found and name not in shipped and not catalogue.is_there(Path(name)):
        typer.echo(json.dumps(found, indent=2) if as_json else "\n".join(_sentence(one) for one in found))
        return
    folder = Path(name)
    is_run = not found and catalogue.is_folder(folder) and (folder / "config.yaml").is_file()
    loaded = load_config(folder / "config.yaml" if is_run else catalogue.find_config(name), overrides or ())
    scores = folder / "prune" / "scores.json"
    tasks: dict[str, Any] = artifact.read_json(scores) if is_run and scores.is_file() else {}
    if is_run and not (full or origins or overrides or as_json):
        from autodim.stages.summary import summary, summary_lines

        lines = summary_lines(summary(folder, loaded.config))
        if tasks:
            lines += ["", *_shares(tasks, MOST)]
        command = f"autodim show {shlex.quote(name)}"
        typer.echo("\n".join([*lines, "", f"every setting: {command} --full; and where it comes from: --origins"]))
        return
    if as_json:
        values: dict[str, Any] = {"config": loaded.config.model_dump(mode="json")} | ({"tasks": tasks} if tasks else {})
        if is_run:
            from autodim.stages.summary import summary

            values["summary"] = summary(folder, loaded.config)
        typer.echo(json.dumps(values | ({"origins": loaded.origins} if origins else {}), indent=2))
    elif origins:
        typer.echo("\n".join(_lines(loaded)))
    else:
        typer.echo(to_yaml(loaded.config), nl=False)
    if tasks and not as_json:
        typer.echo("\n".join(_shares(tasks)))


def _shares(tasks: dict[str, Any], most: int | None = None) -> list[str]:
    """Slots x tasks, the most wanted slots (at most so many) first, as comments of the YAML above."""
    rows = sorted(tasks["slots"].items(), key=lambda row: (-max(row[1]), row[0]))
    shown = [(_value(slot), [f"{share:.1%}" for share in shares]) for slot, shares in rows[:most]]
    if most is not None and len(rows) > most:
        shown.append((f"and {len(rows) - most} more slots", []))
    if tasks["lost"] is not None:
        shown.append(("the cut is predicted to lose", [f"{lost:.1%}" for lost in tasks["lost"]]))
    names = [_value(name) for name in tasks["tasks"]]
    first = max(len(name) for name, _ in shown)
    widths = [max(len(name), 6) for name in names]
    lines = [("", names), *shown]
    head = f"# which slots serve which task: shares of each task's whole score ({tasks['measure']})"
    return [
        head,
        *(
            (f"#   {name:<{first}}" + "".join(f"  {c:>{w}}" for c, w in zip(cells, widths, strict=False))).rstrip()
            for name, cells in lines
        ),
    ]


def _components(name: str) -> list[dict[str, str]]:
    return [
        {"family": family, "name": entry.name, "description": entry.description, "key": walk.dotted(key)}
        for family, key in catalogue.CHOSEN_BY.items()
        for entry in catalogue.components()[family]
        if entry.name == name
    ]


def _sentence(one: dict[str, str]) -> str:
    section, is_list, key = one["key"].partition("[0].")
    how = f"{section}='[{{{key}: {one['name']}}}]'" if is_list else f"{one['key']}={one['name']}"
    return f"{one['name']} ({one['family']}): {one['description']}\n  choose it with {how}"


def _lines(loaded: Loaded) -> list[str]:
    """One line a value; what slots and labels leave at its default is left out, as it would be ten lines a slot."""
    rows = []
    for path, value in walk.leaves(loaded.config):
        key = walk.dotted(path)
        origin = loaded.origins[key]
        if origin != "default" or not any(isinstance(part, int) for part in path):
            rows.append((f"{key}: {_value(value)}", origin, walk.describe(path)))
    first = min(60, max(len(row[0]) for row in rows))
    second = max(len(row[1]) for row in rows)
    return [f"{setting:<{first}}  # {origin:<{second}}  {about}".rstrip() for setting, origin, about in rows]


def _value(value: Any) -> str:
    """A value as it could stand in a file, without control characters."""
    if isinstance(value, str):
        return quoted(value, longest=10_000)
    return "[" + ", ".join(map(_value, value)) + "]" if isinstance(value, tuple) else json.dumps(value)
