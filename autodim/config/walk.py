"""Walking the schema by key: which section stands at a path, what a value may be, what all keys are."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from autodim.config.schema import Config, Section
from autodim.config.yaml_text import KeyPath

_BOUNDS = (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))


def dotted(path: KeyPath) -> str:
    """("data", "slots", 2, "name") as `data.slots[2].name`."""
    from autodim.config.spelling import plain_key

    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{plain_key(part)}" if text else plain_key(part)
    return text


def variants(annotation: Any) -> list[tuple[Any, list[Any]]]:
    """The alternatives of an annotation and their bounds: `Positive | None` gives (int, [Ge(1)]), (NoneType, [])."""
    if get_origin(annotation) is Annotated:
        inner, *extra = get_args(annotation)
        bounds = [m for e in extra for m in (e.metadata if isinstance(e, FieldInfo) else [e])]
        return [(kind, [*found, *bounds]) for kind, found in variants(inner)]
    if get_origin(annotation) in (Union, types.UnionType):
        return [v for a in get_args(annotation) for v in variants(a)]
    return [(annotation, [])]


def is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def at(path: KeyPath) -> list[tuple[Any, list[Any]]]:
    """What the schema allows at a path: its variants, or [] where there is no such key."""
    allowed: list[tuple[Any, list[Any]]] = [(Config, [])]
    for part in path:
        below: list[tuple[Any, list[Any]]] = []
        for kind, _ in allowed:
            if is_section(kind) and isinstance(part, str) and part in kind.model_fields:
                field: FieldInfo = kind.model_fields[part]
                below += [(k, [*b, *field.metadata]) for k, b in variants(field.annotation)]
            elif get_origin(kind) is dict and isinstance(part, str):
                below += variants(get_args(kind)[1])
            elif get_origin(kind) is tuple and isinstance(part, int):
                below += variants(get_args(kind)[0])
        allowed = below
    return allowed


def section_at(path: KeyPath) -> type[Section] | None:
    """The section class at a path, if one stands there."""
    return next((kind for kind, _ in at(path) if is_section(kind)), None)


def takes_keys(path: KeyPath) -> bool:
    """Whether keys stand below a path: a section, or a map such as `prune.slots`."""
    return any(is_section(kind) or get_origin(kind) is dict for kind, _ in at(path))


def choices(path: KeyPath) -> tuple[str, ...]:
    """The words that a key may hold, () where it is not a choice."""
    return next((get_args(kind) for kind, _ in at(path) if get_origin(kind) is Literal), ())


def takes_text(path: KeyPath) -> bool:
    """Whether only text (or nothing) may stand at a path."""
    kinds = [kind for kind, _ in at(path) if kind is not type(None)]
    return bool(kinds) and all(kind is str or get_origin(kind) is Literal for kind in kinds)


def takes_null(path: KeyPath) -> bool:
    return any(kind is type(None) for kind, _ in at(path))


def expected(path: KeyPath) -> str:
    """What may stand at a path, in words: `a whole number >= 1`, `one of warm, cold`."""
    words = [w for kind, bounds in at(path) if (w := _words(kind, bounds))]
    return " or ".join(dict.fromkeys(words)) or "nothing"


def _words(kind: Any, bounds: list[Any]) -> str:
    limits = [
        f"{sign} {getattr(b, name):g}" for name, sign in _BOUNDS for b in bounds if getattr(b, name, None) is not None
    ]
    suffix = " " + " and ".join(limits) if limits else ""
    if kind is type(None):
        return ""
    if is_section(kind):
        return "a section (`key: value` lines)"
    origin = get_origin(kind)
    if origin is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    if origin is tuple:
        inner = " or ".join(dict.fromkeys(w for k, b in variants(get_args(kind)[0]) if (w := _words(k, b))))
        return f"a list, each {inner}"
    if origin is dict:
        return "a section of `name: value` lines"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind] + suffix


def fields(section: type[Section] = Config, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key of the schema in order, `data.slots[].name` for those inside lists, `prune.slots.*.fixed` in maps."""
    for name, field in section.model_fields.items():
        key = prefix + name
        yield key, field
        for kind, _ in variants(field.annotation):
            inner, joint = kind, "."
            if get_origin(kind) is tuple:
                inner, joint = variants(get_args(kind)[0])[0][0], "[]."
            elif get_origin(kind) is dict:
                inner, joint = variants(get_args(kind)[1])[0][0], ".*."
            if is_section(inner):
                yield from fields(inner, key + joint)


def describe(path: KeyPath) -> str:
    """The schema's description of a key, "" where it has none."""
    if not path or not isinstance(path[-1], str):
        return ""
    section = section_at(path[:-1])
    field = section.model_fields.get(path[-1]) if section else None
    return (field.description or "") if field else ""


def leaves(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Every value of a config with its path, in the schema's order; lists of plain values are one value."""
    parts: list[tuple[str | int, Any]]
    if isinstance(value, Section):
        parts = [(name, getattr(value, name)) for name in type(value).model_fields]
    elif isinstance(value, dict) and value:
        parts = list(value.items())
    elif isinstance(value, tuple) and value and isinstance(value[0], Section):
        parts = list(enumerate(value))
    else:
        yield path, value
        return
    for part, below in parts:
        yield from leaves(below, (*path, part))
