"""Text of a widths file: strict reading, stable writing. Knows YAML, not allocations. Torch-free.

    # The width of each slot, found by autodim. ...
    version: 1
    strategy: sseds
    ...
    widths:
      user: 8
      item: 4
    blocks:
    - {table: user, slots: [user], rows: 6041, start: 0, stop: 6041, projected: true, cost: 48456, kept: [0, 2, ...]}

Widths stand in one place only, one line a slot, so that a person can edit them and a diff shows what changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from autodim.embedding.precision import PRECISIONS
from autodim.errors import ConfigError, did_you_mean

OPTIONAL = ("rule", "task_weights")
KEYS = (
    "version",
    "strategy",
    "budget",
    "unit",
    "asked",
    "spent",
    "uniform",
    "common",
    "source",
    "notes",
    "widths",
    "blocks",
)
BLOCK_KEYS = (
    "table",
    "slots",
    "rows",
    "start",
    "stop",
    "projected",
    "bias",
    "cost",
    "score",
    "kept",
    "scores",
    "precision",
)
_HEAD = (
    "# The width of each slot, found by autodim. Edit `widths` by hand if you like: when the file is read again,\n"
    "# costs are recomputed (and `kept` dimensions, if any, forgotten where their number no longer fits the width).\n"
)
_LARGEST = 64 * 2**20  # characters; ten thousand slots of 128 scores are about 16 million


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses what YAML silently allows: duplicate keys and aliases."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not allowed", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read(text: str, where: str) -> dict[str, Any]:
    """A widths file as plain values, with its keys and the shape of `widths` and `blocks` checked.

    Args:
        text: the file's text.
        where: its name, for messages.

    Raises:
        ConfigError: not YAML, not a widths file, an unknown or doubled key, a tag, an alias, or nested too deeply.
    """
    if len(text) > _LARGEST:
        raise ConfigError(f"{where}: {len(text):,} characters are too many for a widths file (at most {_LARGEST:,})")
    try:
        # A subclass of SafeLoader: plain values only, no objects.
        data = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise ConfigError(f"{where}: cannot be read as a widths file: {reason}") from None
    if not isinstance(data, dict) or not isinstance(data.get("widths"), dict):
        raise ConfigError(f"{where}: expected a section `widths:` with a line for each slot, such as `  user: 8`")
    for key in data:
        if key not in (*KEYS, *OPTIONAL):
            raise ConfigError(f"{where}: unknown key {key!r}{did_you_mean(str(key), list(KEYS))}")
    if data.get("version", 1) != 1:
        raise ConfigError(f"{where}: version {data['version']!r} is unknown; this autodim reads version 1")
    for slot, width in data["widths"].items():
        if not isinstance(slot, str):
            raise ConfigError(f"{where}: widths: YAML reads the slot name {slot!r} as no text; put it in quotes")
        parts = width if isinstance(width, list) else [width]
        if not parts or not all(_is_whole(w) for w in parts):
            raise ConfigError(f"{where}: widths: {slot}: {width!r} is no width; expected a whole number from 0")
    if not isinstance(data.get("notes", []), list):
        raise ConfigError(f"{where}: `notes` must be a list of texts")
    blocks = data.get("blocks", [])
    if not isinstance(blocks, list) or not all(isinstance(b, dict) for b in blocks):
        raise ConfigError(f"{where}: `blocks` must be a list of mappings; leave it out to have it recomputed")
    for block in blocks:
        _check_block(block, where)
    return data


def number(data: Mapping[str, Any], key: str, where: str) -> int:
    """The whole number (0 or more) at `key`."""
    value = data.get(key)
    if not _is_whole(value):
        raise ConfigError(f"{where}: {key}: expected a whole number from 0, found {value!r}")
    return int(value)  # type: ignore[arg-type]


def task_weights(data: Mapping[str, Any], where: str) -> tuple[tuple[str, float], ...]:
    """The pairs of a task and its factor, 0 or more, at `task_weights`; empty where there are none."""
    pairs = data.get("task_weights") or []
    for pair in pairs if isinstance(pairs, list) else [pairs]:
        if not (
            isinstance(pair, list)
            and len(pair) == 2
            and isinstance(pair[0], str)
            and isinstance(pair[1], int | float)
            and not isinstance(pair[1], bool)
            and 0 <= pair[1] < float("inf")
        ):
            raise ConfigError(f"{where}: task_weights: expected pairs [task, factor], found {pair!r}")
    return tuple((str(name), float(factor)) for name, factor in pairs)


def write(top: Mapping[str, Any], widths: Mapping[str, int | list[int]], blocks: Sequence[Mapping[str, Any]]) -> str:
    """The text of a widths file; equal values give equal text."""
    lines = [_HEAD]
    lines += [f"{key}: {_value(value)}\n" for key, value in top.items()]
    lines += ["widths:\n" if widths else "widths: {}\n"]
    lines += [f"  {_key(slot)}: {_value(width)}\n" for slot, width in widths.items()]
    lines += ["blocks:\n" if blocks else "blocks: []\n"]
    lines += ["- {" + ", ".join(f"{key}: {_value(value)}" for key, value in b.items()) + "}\n" for b in blocks]
    return "".join(lines)


def _value(value: object) -> str:
    """A value on one line: PyYAML's own writer folds odd names over lines that it cannot read back."""
    if isinstance(value, list):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        text = repr(value)
        return text if "e" not in text or "." in text else text.replace("e", ".0e")  # 1e-05 would be a text
    return _text(value) if isinstance(value, str) else str(value)


def _text(text: str) -> str:
    """Plain where YAML reads it back as this very text, else in double quotes."""
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_./%-]*( [A-Za-z0-9_./%-]+)*", text) and yaml.safe_load(text) == text:
        return text
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=10**9).rstrip("\n")


def _key(slot: str) -> str:
    text = _text(slot)
    return text if len(text) < 1000 else f"? {text}\n  "  # YAML wants a mark before long keys


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _check_block(block: dict[str, Any], where: str) -> None:
    for key in block:
        if key not in BLOCK_KEYS:
            raise ConfigError(f"{where}: blocks: unknown key {key!r}{did_you_mean(str(key), list(BLOCK_KEYS))}")
    if not isinstance(block.get("table"), str):
        raise ConfigError(f"{where}: blocks: `table` must be a name, found {block.get('table')!r}")
    slots = block.get("slots")
    if not isinstance(slots, list) or not slots or not all(isinstance(s, str) for s in slots):
        raise ConfigError(f"{where}: blocks: {block['table']}: `slots` must be a list of names, found {slots!r}")
    if block.get("precision", "fp32") not in PRECISIONS:
        raise ConfigError(
            f"{where}: blocks: {block['table']}: `precision`: found {block['precision']!r}, expected one of "
            f"{', '.join(PRECISIONS)}"
        )
    kinds: dict[str, tuple[type, ...]] = {"kept": (int,), "scores": (int, float)}
    for key, kind in kinds.items():
        values = block.get(key)
        if values is not None and not (
            isinstance(values, list) and all(isinstance(v, kind) and not isinstance(v, bool) for v in values)
        ):
            raise ConfigError(f"{where}: blocks: {block['table']}: `{key}` must be a list of numbers")
    kinds = {"score": (int, float), "bias": (bool,), "projected": (bool,)}
    for key, kind in kinds.items():
        if block.get(key) is not None and not isinstance(block[key], kind):
            raise ConfigError(f"{where}: blocks: {block['table']}: `{key}`: unexpected {block[key]!r}")
