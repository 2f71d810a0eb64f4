"""From a YAML file and overrides to a checked `Config`, or to one error that lists everything wrong.

text -> plain values with lines -> overrides -> preset -> schema -> checks across sections.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autodim.config import walk
from autodim.config.check import check
from autodim.config.overrides import OVERRIDE, apply_overrides, drop
from autodim.config.presets import apply_preset
from autodim.config.problem import Problem
from autodim.config.schema import Config
from autodim.config.spelling import shown
from autodim.config.text_file import read_text
from autodim.config.translate import Marks, lookup, place, translate
from autodim.config.yaml_text import MAX_DEPTH, KeyPath, Parsed, is_clean, parse
from autodim.errors import ConfigError


@dataclass(frozen=True)
class Loaded:
    """A config and where it came from.

    Attributes:
        config: typed, frozen, complete.
        origins: for each key of the config (`prune.budget.share`, `data.slots[0].name`) `file:line`,
            `override`, `preset paper` or `default`.
    """

    config: Config
    origins: dict[str, str]


def load_config(
    path_or_text: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), source: str | None = None
) -> Loaded:
    """Reads, overrides and checks a config. Reads no data.

    Args:
        path_or_text: a file; or YAML itself (a str with a line break); or values as YAML would give them.
        overrides: `key=value` arguments, applied in order.
        source: what messages call the config; default: the file's path.

    Raises:
        ConfigError: one line a problem, all at once: `my.yaml:12: prune.budgett: unknown key; did you mean "budget"?`
    """
    parsed, source = _values(path_or_text, source)
    if parsed.value is None:
        raise ConfigError(f"{source}: empty; `autodim cp template my.yaml` gives one to start from")
    if not isinstance(parsed.value, dict):
        raise ConfigError(f"{source}: found {shown(parsed.value)}, expected sections such as `data:` and `model:`")
    raw = _plain(parsed.value, source)  # a copy: anchors share one object, and overrides must change one place only
    marks: Marks = {path: f"{source}:{line}" for path, line in parsed.lines.items()}
    problems = [*parsed.problems, *apply_overrides(raw, marks, overrides, source)]
    _drop_empty_sections(raw)
    problems += apply_preset(raw, marks, source)
    config, found = _validate(raw, marks, source)
    if config is not None and (idle := [p.path for p in check(config) if _excused(p, marks)]):
        for path in idle:
            drop(raw, marks, path)
        config, found = _validate(raw, marks, source)
    problems += found
    if config is not None:
        problems += [f"{place(p.path, marks, source)}: {p.text}" for p in check(config)]
    if problems or config is None:
        raise ConfigError("\n".join(_in_order(problems, source)))
    return Loaded(config, {walk.dotted(path): _origin(path, raw, marks) for path, _ in walk.leaves(config)})


def _in_order(problems: list[str], source: str) -> list[str]:
    """Each problem once: overrides first, then by line of the file."""

    def line(problem: str) -> int:
        number = problem.removeprefix(f"{source}:").partition(":")[0]
        return int(number) if number.isascii() and number.isdigit() else 0

    return sorted(dict.fromkeys(problems), key=line)


def _validate(raw: dict[str, Any], marks: Marks, source: str) -> tuple[Config | None, list[str]]:
    try:
        # As JSON, where lists are tuples and whole numbers are floats but `no` is no bool and "16" no number.
        return Config.model_validate_json(json.dumps(raw), strict=True), []
    except ValidationError as error:
        return None, translate(error, raw, marks, source)


def _values(given: str | Path | Mapping[str, Any], source: str | None) -> tuple[Parsed, str]:
    if isinstance(given, Mapping):
        return Parsed(dict(given)), source or "config"
    if isinstance(given, str) and "\n" in given:
        return parse(given, source or "config"), source or "config"
    source = source or str(given)
    return parse(read_text(Path(given)), source), source


def _plain(value: Any, source: str, depth: int = 0) -> Any:
    """Python values as YAML would have given them: text keys, lists for tuples, nothing but plain values."""
    if depth > MAX_DEPTH:
        raise ConfigError(f"{source}: nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        return {str(key): _plain(below, source, depth + 1) for key, below in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(below, source, depth + 1) for below in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{source}: found the number {value}, expected finite numbers")
    if isinstance(value, str) and not is_clean(value):
        raise ConfigError(f"{source}: found NUL or half a surrogate pair in {shown(value)}, expected characters")
    if value is None or type(value) in (str, bool, int, float):
        return value
    if isinstance(value, Path):
        return str(value)
    raise ConfigError(f"{source}: found a {type(value).__name__}, expected text, numbers, true or false, lists, dicts")


def _drop_empty_sections(raw: dict[str, Any], path: KeyPath = ()) -> None:
    """`model:` with every line below commented out means the defaults, not null."""
    for key in list(raw):
        here = (*path, key)
        if raw[key] is None and walk.takes_keys(here) and not walk.takes_null(here):
            del raw[key]
        elif isinstance(raw[key], dict):
            _drop_empty_sections(raw[key], here)


def _excused(problem: Problem, marks: Marks) -> bool:
    """A file may give its deepfm `hidden`, and an override choose fm: no mistake of either, so `hidden` is dropped."""
    return (
        problem.because is not None
        and place(problem.because, marks, "") == OVERRIDE
        and place(problem.path, marks, "") != OVERRIDE
    )


def _origin(path: KeyPath, raw: Any, marks: Marks) -> str:
    # A bare `- user` in the file is the slot's name.
    bare = path[-1:] == ("name",) and isinstance(lookup(raw, path[:-1])[1], str)
    return place(path, marks, "given") if lookup(raw, path)[0] or bare else "default"
