"""A config as YAML that a person can read and diff, and as hashes that tell what a stage depends on."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import yaml

from autodim.config.schema import Config, LabelConfig, Section, SlotConfig
from autodim.config.yaml_text import IMPLICIT


class _Line(dict[str, Any]):
    """A mapping that is written on one line: slots and labels read as a table."""


class _Dumper(yaml.SafeDumper):
    """Quotes what our reader *or* a YAML 1.1 reader would not take for text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _tag, _pattern, _first in reversed(IMPLICIT):
    _Dumper.add_implicit_resolver(_tag, _pattern, _first)
_Dumper.add_representer(_Line, lambda d, v: d.represent_mapping("tag:yaml.org,2002:map", v.items(), flow_style=True))
_Dumper.add_representer(list, lambda d, v: d.represent_sequence("tag:yaml.org,2002:seq", v, flow_style=_flat(v)))
_Dumper.add_representer(str, lambda d, v: d.represent_scalar("tag:yaml.org,2002:str", v, style=_style(v)))


def to_yaml(config: Config) -> str:
    """The whole config, defaults included, in the schema's order; the same config gives the same text.

    `load_config(to_yaml(c)).config == c`. Settings of slots and labels that are not set are left out.
    """
    text = yaml.dump(
        _values(config), Dumper=_Dumper, sort_keys=False, default_flow_style=False, allow_unicode=True, width=1_000_000
    )
    return str(text)


def section_hash(config: Config, *names: str) -> str:
    """sha256 (hex) of chosen sections, for telling whether a stage's inputs are those of last time.

    Args:
        names: keys such as `data`, `seed`, `prune.budget`; their order does not matter.

    Raises:
        KeyError: a name that is no key of the schema (a programming error).
    """
    dump = config.model_dump(mode="json")
    chosen: dict[str, Any] = {}
    for name in names:
        value: Any = dump
        for part in name.split("."):
            value = value[part]
        chosen[name] = value
    text = json.dumps(chosen, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _values(value: Any) -> Any:
    if isinstance(value, (SlotConfig, LabelConfig)):
        return _Line({k: v for k, v in value.model_dump(mode="json").items() if v is not None})
    if isinstance(value, Section):
        return {name: _values(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, dict):
        return {name: _values(below) for name, below in value.items()}
    if isinstance(value, tuple):
        return [_values(below) for below in value]
    return value


def _flat(values: list[Any]) -> bool:
    return not any(isinstance(v, (dict, list)) for v in values)


def _style(text: str) -> str | None:
    """Double quotes for what PyYAML would fold or lose in any other style: control characters, NEL, U+2028."""
    return None if text.isprintable() else '"'
