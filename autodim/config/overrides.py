"""`key=value` arguments on top of a file: `prune.budget.share=0.125`, `model.hidden=[64,32]`.

Values follow the file's rules; where only text may stand, it is taken as typed (`data.delimiter=;`) unless it is
in quotes. `key=null` takes a setting of the file back to its default. Of settings that exclude each other
(`prune.budget.share` and `.amount`) the overridden one displaces the file's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autodim.config import walk
from autodim.config.spelling import quoted, shown
from autodim.config.translate import Marks, place, suggestion
from autodim.config.yaml_text import KeyPath, is_clean, parse
from autodim.errors import ConfigError

OVERRIDE = "override"
_BUDGET = tuple(("prune", "budget", kind) for kind in ("share", "amount", "max_loss_increase", "max_auc_drop"))
EXCLUSIVE: tuple[tuple[KeyPath, KeyPath], ...] = tuple(
    (one, other)
    for i, one in enumerate(_BUDGET)
    for other in _BUDGET[i + 1 :]
    if (one, other) != _BUDGET[2:]  # both may be asked for
)


def split(text: str) -> tuple[KeyPath, Any]:
    """One argument as (path, value).

    Raises:
        ConfigError: no `=`, an empty part of the key, or a value that is no YAML.
    """
    key, sign, value = text.partition("=")
    path: KeyPath = tuple(key.strip().split("."))
    if not sign or not all(path):
        raise ConfigError(f"override {quoted(text)}: expected key=value, such as prune.budget.share=0.125")
    if walk.takes_text(path) and value != "null" and value[:1] not in ("'", '"'):
        if not is_clean(value):
            raise ConfigError(f"override {quoted(text)}: found NUL or half a surrogate pair, expected characters")
        return path, value
    parsed = parse(value, f"override {walk.dotted(path)}")
    if parsed.problems:
        raise ConfigError("\n".join(parsed.problems))
    return path, parsed.value


def apply_overrides(raw: dict[str, Any], marks: Marks, overrides: Sequence[str], source: str) -> list[str]:
    """Puts overrides into `raw` and `marks`, in place, later ones last.

    Returns:
        One line for each override that cannot be applied.
    """
    problems: list[str] = []
    given: set[KeyPath] = set()
    for text in overrides:
        try:
            path, value = split(text)
        except ConfigError as error:
            problems.append(str(error))
            continue
        if problem := _set(raw, marks, path, value, source):
            problems.append(f"{OVERRIDE}: {problem}")
        given.add(path)
    for pair in EXCLUSIVE:
        set_here = [path for path in pair if path in given and _get(raw, path) is not None]
        if len(set_here) == 1:
            other = pair[1 - pair.index(set_here[0])]
            if other not in given:
                drop(raw, marks, other)
    return problems


def _set(raw: dict[str, Any], marks: Marks, path: KeyPath, value: Any, source: str) -> str | None:
    for end in range(1, len(path) + 1):
        if walk.section_at(path[: end - 1]) is not None and not walk.at(path[:end]):
            return f"{walk.dotted(path[:end])}: unknown key{suggestion(path[:end])}"
    section: Any = raw
    for end, part in enumerate(path[:-1], start=1):
        below = section.get(part)
        if below is None:
            below = section[part] = {}
            marks[path[:end]] = OVERRIDE
        if not isinstance(below, dict):
            here, where = walk.dotted(path[:end]), place(path[:end], marks, source)
            return f"{walk.dotted(path)}: {here} is {shown(below)} ({where}), not a section; set {here} as a whole"
        section = below
    drop(raw, marks, path)
    if value is not None or walk.takes_null(path):
        section[path[-1]] = value
        marks[path] = OVERRIDE
    return None


def _get(raw: Any, path: KeyPath) -> Any:
    for part in path:
        raw = raw.get(part) if isinstance(raw, dict) else None
    return raw


def drop(raw: Any, marks: Marks, path: KeyPath) -> None:
    for mark in [m for m in marks if m[: len(path)] == path]:
        del marks[mark]
    section = _get(raw, path[:-1])
    if isinstance(section, dict):
        section.pop(path[-1], None)
