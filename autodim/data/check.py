"""A data section that can be meant, and the tables that its slots read."""

from __future__ import annotations

from pathlib import Path

from autodim.config.schema import DataConfig
from autodim.data import splits
from autodim.data.files import log_files
from autodim.data.several import named, sources
from autodim.errors import ConfigError, DataError


def check_config(data: DataConfig) -> None:
    """Raises ConfigError for a data section that cannot be encoded."""
    if not data.slots:
        raise ConfigError("data.slots is empty: name the input fields of the log")
    if not data.labels:
        raise ConfigError("data.labels is empty: name at least one label")
    if data.logs and (data.path is not None or data.log is not None):
        raise ConfigError("data.logs names the logs; take data.path and data.log out")
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
        if label.where is not None and label.where not in {other.name for other in data.labels}:
            raise ConfigError(f"label {label.name!r}: where names {label.where!r}, which is no label")
    for table, slots in tables_of(data).items():
        if len({data.slots[i].hash for i in slots}) > 1:
            raise ConfigError(f"the slots of table {table!r} have different hash; give one for all of them")
        limits = {data.slots[i].min_count or data.min_count for i in slots}
        if len(limits) > 1:
            raise ConfigError(f"the slots of table {table!r} have different min_count ({sorted(limits)}); give one")
    for slot in data.slots:
        if slot.weights is not None and slot.weight_separator is not None:
            raise ConfigError(f"slot {slot.name!r} has both weights and weight_separator; give one")
        if slot.weights in {label.source for label in data.labels}:
            raise ConfigError(f"slot {slot.name!r} is weighted by a label: the model would be told the answer")
        cut = slot.weight_separator
        if cut is not None and (not cut or cut in slot.separator or slot.separator in cut):
            raise ConfigError(f"slot {slot.name!r}: weight_separator {cut!r} must differ from {slot.separator!r}")
    splits.check_split(data.split)


def check_files(data: DataConfig, base: Path, frame: bool) -> None:
    """Every file means a part, and every part that was asked for has a file; before any of them is read.

    Raises:
        ConfigError: rows that lie in no file. DataError: a file that means no part, a part without files.
    """
    if frame or (data.path is None and not data.logs):
        raise ConfigError("data.split.by is 'file', but these rows do not come from files; split by something else")
    found = [splits.file_part(path.name, data.split) for one in sources(data) for path in log_files(one, base)]
    asked = {splits.TRAIN if data.split.valid_from != "train" else splits.FROM: "train"}
    asked |= {splits.TEST if data.split.valid_from != "test" else splits.FROM: "test"} if data.split.test_values else {}
    asked |= {splits.VALID: "valid"} if data.split.valid_values and data.split.valid_from is None else {}
    for part, name in asked.items():
        if part not in found:
            raise DataError(
                f"data.split: no file of {named(data)} means {name}; list one (or a pattern) in {name}_values"
                + (", or set valid_from to take valid rows from another part" if name == "valid" else "")
            )


def tables_of(data: DataConfig) -> dict[str, list[int]]:
    """Positions in `data.slots` of the slots of each table, tables in order of appearance."""
    found: dict[str, list[int]] = {}
    for i, slot in enumerate(data.slots):
        if slot.kind != "value":
            found.setdefault(slot.table or slot.name, []).append(i)
    return found
