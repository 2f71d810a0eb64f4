"""pydantic's errors in a user's words: file and line, key, what was found, what was expected, what to do."""

from __future__ import annotations

import math
import re
from typing import Any

from pydantic import ValidationError

from autodim.config import walk
from autodim.config.spelling import closest, plain_key, shown
from autodim.config.yaml_text import KeyPath

Marks = dict[KeyPath, str]  # path -> where it was set: "my.yaml:12", "override", "preset paper"
THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?")
_TRUE, _FALSE = ("yes", "on", "y", "true"), ("no", "off", "n", "false")


def place(path: KeyPath, marks: Marks, source: str) -> str:
    """Where a path, or the nearest section around it, was set."""
    for end in range(len(path), 0, -1):
        if path[:end] in marks:
            return marks[path[:end]]
    return source


def lookup(raw: Any, path: KeyPath) -> tuple[bool, Any]:
    """Whether a path exists in the raw values, and its value."""
    for part in path:
        in_dict = isinstance(raw, dict) and part in raw
        in_list = isinstance(raw, list) and isinstance(part, int) and part < len(raw)
        if not (in_dict or in_list):
            return False, None
        raw = raw[part]
    return True, raw


def translate(error: ValidationError, raw: Any, marks: Marks, source: str) -> list[str]:
    """One line a problem, in the schema's order; the branches of a union count once."""
    lines: dict[tuple[KeyPath, bool], str] = {}
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        path = _real_path(item["loc"], raw, item["type"] == "missing")
        text = _line(item["type"], item["msg"], path, raw)
        lines.setdefault((path, item["type"] == "value_error"), f"{place(path, marks, source)}: {text}")
    return list(lines.values())


def _real_path(loc: tuple[int | str, ...], raw: Any, missing: bool) -> KeyPath:
    """pydantic's location without the names of union branches, which are no keys."""
    path: KeyPath = ()
    for part in loc:
        if not lookup(raw, (*path, part))[0]:
            return (*path, part) if missing and isinstance(lookup(raw, path)[1], dict) else path
        path = (*path, part)
    return path


def _line(kind: str, message: str, path: KeyPath, raw: Any) -> str:
    if kind == "extra_forbidden":
        return f"{walk.dotted(path)}: unknown key{suggestion(path)}"
    if kind == "missing":
        return f"{walk.dotted(path)}: missing, expected {walk.expected(path)}"
    key = f"{walk.dotted(path)}: " if path else ""
    if kind == "value_error":
        return key + message.removeprefix("Value error, ")
    value = lookup(raw, path)[1]
    return f"{key}found {shown(value)}, expected {walk.expected(path)}{_hint(path, value)}"


def suggestion(path: KeyPath) -> str:
    """What an unknown last key of a path may have meant: a near key here, the same key elsewhere, or all keys."""
    word = str(path[-1])
    section = walk.section_at(path[:-1])
    known = list(section.model_fields) if section else []
    if guess := closest(word, known):
        return f'; did you mean "{guess}"?'
    elsewhere = [key for key, _ in walk.fields() if key.rsplit(".", 1)[-1] == word]
    if elsewhere:
        # sections' own keys before those of parts of sections
        least = min(key.count(".") for key in elsewhere)
        elsewhere = [key for key in elsewhere if key.count(".") == least]
        return "; it belongs elsewhere: " + ", ".join(f'"{key}"' for key in elsewhere[:4])
    return f"; known here: {', '.join(known)}" if known else ""


def _hint(path: KeyPath, value: Any) -> str:
    kinds = [kind for kind, _ in walk.at(path)]
    if isinstance(value, str):
        word = value.lower()
        if bool in kinds and word in _TRUE + _FALSE:
            return f"; write {'true' if word in _TRUE else 'false'}, without quotes"
        if words := walk.choices(path):
            guess = closest(value, words)
            return f'; did you mean "{guess}"?' if guess else ""
        if {int, float} & set(kinds):
            return _number_hint(value)
    if isinstance(value, (int, float)) and walk.takes_text(path):
        return f'; put it in quotes: "{shown(value)}"'
    if isinstance(value, float) and int in kinds and value.is_integer():
        return f"; write {int(value)}"
    if not isinstance(value, (dict, list)) and value is not None and walk.expected(path).startswith("a list"):
        return f"; write [{plain_key(str(value))}]"
    return ""


def _number_hint(text: str) -> str:
    """`1_000`, `1,000`, `25%` and quoted numbers, written as the reader wants them."""
    share = text.endswith("%")
    try:
        bare = text.rstrip("%").replace("_", "")
        # `1,000` is a thousand, `0,25` a decimal comma
        bare = bare.replace(",", "") if THOUSANDS.fullmatch(bare) else bare.replace(",", ".")
        number = float(bare) / (100 if share else 1)
    except ValueError:
        return ""
    if not math.isfinite(number):
        return "; write a finite number"
    return f"; write {int(number) if number.is_integer() else number}, without quotes"
