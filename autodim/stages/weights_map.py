"""The map of an existing checkpoint: which of its tensors is which table, and whose row numbers it has. Torch-free.

    tables:                       # every table of the log
      user: user_embedding.weight                     # n x D
      item: {tensor: all.weight, rows: [6041, 9748]}  # rows of one large tensor: from, up to (not included)
    linear:                       # first-order weights of fm, deepfm and widedeep, n or n x 1; absent: zero
      user: user_first_order.weight
    dense: "dnn."                 # the model's other parameters: a prefix before our names, or
    dense: {out.weight: head.weight}                  # our name: the checkpoint's
    ids: encoded                  # row k is autodim's id k (0: out of vocabulary), as `prepare` numbers them; or
    ids: integers                 # the log's values are whole numbers, and value v is row v

Without a map, names as `autodim export --format safetensors` writes them are understood: tables/TABLE, linear/TABLE,
dense/PARAMETER.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from autodim.config.text_file import read_text
from autodim.config.yaml_text import parse
from autodim.errors import ConfigError, did_you_mean

KEYS = ("tables", "linear", "dense", "ids")


@dataclass(frozen=True)
class Place:
    """Where a table lies: a tensor, or some of its rows, `start` up to `stop` (None: to its end)."""

    tensor: str
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True)
class WeightsMap:
    """A map as it was read; `dense` is None where the file says nothing about it."""

    tables: Mapping[str, Place]
    linear: Mapping[str, Place] = field(default_factory=dict)
    dense: str | Mapping[str, str] | None = None
    ids: Literal["encoded", "integers"] = "encoded"


def read_map(path: Path, tables: Sequence[str]) -> WeightsMap:
    """Read a map for the tables of a log.

    Raises:
        ConfigError: not such a file; all that is wrong with it at once.
    """
    parsed = parse(read_text(path), str(path))
    value, problems = parsed.value, list(parsed.problems)
    if not problems and not isinstance(value, dict):
        problems.append(f"{path}: found {type(value).__name__}, expected the keys {', '.join(KEYS)}")
    if problems:
        raise ConfigError("\n".join(problems))
    problems += [f"{path}: unknown key {key!r}{did_you_mean(str(key), list(KEYS))}" for key in value if key not in KEYS]
    found: dict[str, dict[str, Place]] = {"tables": {}, "linear": {}}
    for kind, places in found.items():
        given = value.get(kind) or {}
        if not isinstance(given, dict):
            problems.append(f"{path}: {kind}: found {given!r}, expected `table: tensor`")
            continue
        for name, place in given.items():
            if name not in tables:
                problems.append(f"{path}: {kind}: the log has no table {name!r}{did_you_mean(str(name), list(tables))}")
                continue
            made = _place(place)
            if isinstance(made, str):
                problems.append(f"{path}: {kind}.{name}: {made}")
            else:
                places[name] = made
    if missing := [name for name in tables if name not in (value.get("tables") or {})]:
        problems.append(f"{path}: tables: no tensor for {', '.join(missing)}; expected one for every table of the log")
    dense = value.get("dense")
    if (
        dense is not None
        and not isinstance(dense, str)
        and not (isinstance(dense, dict) and all(isinstance(v, str) for v in dense.values()))
    ):
        problems.append(f"{path}: dense: found {dense!r}, expected a prefix, or `our name: the checkpoint's`")
    ids = value.get("ids", "encoded")
    if ids not in ("encoded", "integers"):
        problems.append(f"{path}: ids: found {ids!r}, expected encoded (autodim's numbers) or integers (the log's own)")
    if problems:
        raise ConfigError("\n".join(problems))
    return WeightsMap(found["tables"], found["linear"], dense, ids)


def own_map(names: Sequence[str], tables: Sequence[str]) -> WeightsMap | None:
    """The map of a file that autodim exported (`tables/NAME`, `linear/NAME`, `dense/PARAMETER`); None for another."""
    if any(f"tables/{table}" not in names for table in tables):
        return None
    linear = {t: Place(f"linear/{t}") for t in tables if f"linear/{t}" in names}
    return WeightsMap({t: Place(f"tables/{t}") for t in tables}, linear, "dense/")


def _place(value: Any) -> Place | str:
    """A place, or what is wrong with it."""
    if isinstance(value, str):
        return Place(value)
    wanted = "expected a tensor's name, or {tensor: NAME, rows: [FROM, UP_TO]}"
    if not isinstance(value, dict) or not isinstance(value.get("tensor"), str) or set(value) - {"tensor", "rows"}:
        return f"found {value!r}, {wanted}"
    rows = value.get("rows", [0, None])
    whole = isinstance(rows, list) and len(rows) == 2 and isinstance(rows[0], int) and isinstance(rows[1], int | None)
    if not whole or rows[0] < 0 or (rows[1] is not None and rows[1] <= rows[0]):
        return f"rows: found {rows!r}, expected [FROM, UP_TO] with 0 <= FROM < UP_TO"
    return Place(value["tensor"], rows[0], rows[1])
