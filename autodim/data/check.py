"""A data section that can be meant, and the tables that its slots read."""

from __future__ import annotations

from autodim.config.schema import DataConfig
from autodim.data import splits
from autodim.errors import ConfigError


def check_config(data: DataConfig) -> None:
    """Raises ConfigError for a data section that cannot be encoded."""
    if not data.slots:
        raise ConfigError("data.slots is empty: name the input fields of the log")
    if not data.labels:
        raise ConfigError("data.labels is empty: name at least one label")
    for what, names in (("slots", [s.name for s in data.slots]), ("labels", [label.name for label in data.labels])):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"data.{what} names {twice[0]!r} more than once; give each its own name")
    for label in data.labels:
        for slot in data.slots:
            if slot.source == label.source:
                raise ConfigError(
                    f"slot {slot.name!r} reads column {slot.source!r}, which is label {label.name!r}: the model would "
                    "be told the answer; remove the slot"
                )
    for table, slots in tables_of(data).items():
        limits = {data.slots[i].min_count or data.min_count for i in slots}
        if len(limits) > 1:
            raise ConfigError(f"the slots of table {table!r} have different min_count ({sorted(limits)}); give one")
    splits.check_split(data.split)


def tables_of(data: DataConfig) -> dict[str, list[int]]:
    """Positions in `data.slots` of the slots of each table, tables in order of appearance."""
    found: dict[str, list[int]] = {}
    for i, slot in enumerate(data.slots):
        if slot.kind != "value":
            found.setdefault(slot.table or slot.name, []).append(i)
    return found
