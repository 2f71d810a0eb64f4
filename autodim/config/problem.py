"""One thing in a config that the schema cannot see, and what makes a setting count as given."""

from __future__ import annotations

from dataclasses import dataclass

from autodim.config.schema import Section
from autodim.config.walk import dotted
from autodim.config.yaml_text import KeyPath


@dataclass(frozen=True)
class Problem:
    """One thing that cannot be meant.

    Attributes:
        path: the key to point at.
        text: what was found, what was expected, what to do.
        because: the key that makes the setting idle; where an override set that one, the file is not to blame.
    """

    path: KeyPath
    text: str
    because: KeyPath | None = None


def given(section: Section, name: str) -> bool:
    """Set by the user to something else than the default."""
    field = type(section).model_fields[name]
    default = field.get_default(call_default_factory=True)
    return name in section.model_fields_set and getattr(section, name) != default


def idle(path: KeyPath, because: str, key: KeyPath) -> Problem:
    return Problem(path, f"{dotted(path)}: has no effect with {because}; take it out", key)
