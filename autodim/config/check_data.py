"""Checks of the `data` section: the log, names and leaks, what a slot's kind allows, the split."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

from autodim.config.problem import Problem, given, idle
from autodim.config.schema import Config, LabelConfig, SlotConfig
from autodim.config.spelling import quoted
from autodim.config.yaml_text import KeyPath

LONGEST_NAME = 200


def _log(config: Config) -> Iterator[Problem]:
    data = config.data
    if data.path is None and data.log is None and not data.logs:
        yield Problem(("data",), "data: found neither `path` nor `log`, expected `path: clicks.csv` or a known `log`")
    if data.log is None:
        for name in ("labels", "slots"):
            if not getattr(data, name):
                yield Problem(("data",), f"data.{name}: none given, expected a list of columns of the log")
    if data.log in ("criteo", "avazu") and data.path is None:
        yield Problem(("data", "log"), f"data.path: missing, expected the {data.log} file that data.log is to read")
    if data.log in ("flights", "planted", "mmoe") and data.path is not None:
        yield idle(("data", "path"), f"data.log: {data.log}, which brings its own rows", ("data", "log"))
    if data.log not in ("planted", "mmoe") and data.options:
        yield idle(
            ("data", "options"), f"data.log: {data.log or 'none'}; only planted and mmoe have options", ("data", "log")
        )
    # Known logs fix their own format, and Parquet has no text format.
    paths = [one.path for one in data.logs] or [data.path or ""]
    parquet = all(PurePosixPath(path).suffix in (".parquet", ".pq") for path in paths)
    if data.log is not None or parquet:
        why = f"data.log: {data.log}" if data.log else "a Parquet file"
        for name in ("delimiter", "header", "names"):
            if given(data, name):
                yield idle(("data", name), why, ("data", "log") if data.log else ("data", "path"))
    elif not data.header and not data.names:
        yield Problem(("data", "header"), "data.header: false, but data.names does not name the columns; list them")
    elif data.header and data.names:
        yield Problem(("data", "names"), "data.names: the file has a header that names the columns; set header: false")
    if data.delimiter is not None and len(data.delimiter) != 1:
        yield Problem(
            ("data", "delimiter"),
            f'data.delimiter: found {quoted(data.delimiter)}, expected one character ("\\t" in double quotes is a tab)',
        )


def _names(config: Config) -> Iterator[Problem]:
    data = config.data
    families: dict[str, tuple[SlotConfig | LabelConfig, ...]] = {"slots": data.slots, "labels": data.labels}
    for family, entries in families.items():
        first: dict[str, int] = {}
        for i, entry in enumerate(entries):
            here: KeyPath = ("data", family, i)
            if entry.name in first:
                other = f"data.{family}[{first[entry.name]}]"
                yield Problem(here, f"data.{family}[{i}]: the name {quoted(entry.name)} is already {other}'s")
            first.setdefault(entry.name, i)
            for key in ("name", "column", "table"):
                text = getattr(entry, key, None)
                if text is not None and not (0 < len(text) <= LONGEST_NAME and text.isprintable()):
                    wanted = f"1 to {LONGEST_NAME} printable characters"
                    yield Problem((*here, key), f"data.{family}[{i}].{key}: found {quoted(text)}, expected {wanted}")
    columns = {label.source: label.name for label in data.labels}
    for i, slot in enumerate(data.slots):
        if slot.source in columns:
            yield Problem(
                ("data", "slots", i),
                f"data.slots[{i}]: the column {quoted(slot.source)} is also label {quoted(columns[slot.source])}; "
                "a model that reads its label predicts nothing: take the slot out",
            )
        if data.split.by == "column" and slot.source == data.split.column:
            yield Problem(
                ("data", "slots", i),
                f"data.slots[{i}]: the column {quoted(slot.source)} is data.split.column, the same for all training "
                "rows: take the slot out",
            )
    for i, label in enumerate(data.labels):
        if label.above is not None and label.equals is not None:
            yield Problem(("data", "labels", i), f"data.labels[{i}]: found both `above` and `equals`, expected one")


def _slot_kinds(config: Config) -> Iterator[Problem]:
    needs: tuple[tuple[str, Callable[[SlotConfig], bool], str], ...] = (
        ("separator", lambda s: s.kind == "multi", "kind: multi"),
        ("pooling", lambda s: s.kind == "multi", "kind: multi"),
        ("weights", lambda s: s.kind == "multi", "kind: multi"),
        ("weight_separator", lambda s: s.kind == "multi", "kind: multi"),
        ("hash", lambda s: s.kind in ("categorical", "multi"), "kind: categorical or multi"),
        ("buckets", lambda s: s.kind == "buckets", "kind: buckets"),
        ("bins", lambda s: s.kind == "buckets" and s.buckets == "quantile", "kind: buckets and buckets: quantile"),
        ("prefix", lambda s: s.kind == "categorical", "kind: categorical"),
        ("min_count", lambda s: s.kind in ("categorical", "multi"), "kind: categorical or multi"),
        ("table", lambda s: s.kind not in ("value", "scaled"), "a kind with ids (categorical, multi, buckets)"),
    )
    for i, slot in enumerate(config.data.slots):
        for name, holds, wanted in needs:
            if given(slot, name) and not holds(slot):
                yield Problem(
                    ("data", "slots", i, name),
                    f"data.slots[{i}].{name}: has no effect on slot {quoted(slot.name)} of kind {slot.kind}; "
                    f"it needs {wanted}",
                )


def _weights(config: Config) -> Iterator[Problem]:
    labels = {label.source: label.name for label in config.data.labels}
    hashes: dict[str, tuple[int, int | None]] = {}
    for i, slot in enumerate(config.data.slots):
        here: KeyPath = ("data", "slots", i)
        if slot.weights is not None and slot.weight_separator is not None:
            yield Problem(here, f"data.slots[{i}]: found both `weights` and `weight_separator`, expected one")
        cut = slot.weight_separator
        if cut is not None and (not cut or cut in slot.separator or slot.separator in cut):
            yield Problem(
                (*here, "weight_separator"),
                f"data.slots[{i}].weight_separator: found {quoted(cut)}, expected text that is not in the separator "
                f"{quoted(slot.separator)}, nor that in it",
            )
        if slot.kind == "multi" and not slot.separator:
            yield Problem((*here, "separator"), f'data.slots[{i}].separator: found "", expected what separates the ids')
        if slot.weights in labels:
            yield Problem(
                (*here, "weights"),
                f"data.slots[{i}].weights: the column {quoted(str(slot.weights))} is label "
                f"{quoted(labels[str(slot.weights)])}; a model that reads its label predicts nothing: take it out",
            )
        first, buckets = hashes.setdefault(slot.table or slot.name, (i, slot.hash))
        if buckets != slot.hash and slot.kind != "value":
            found = f"{slot.hash or 'none'}, but data.slots[{first}] of the same table has {buckets or 'none'}"
            yield Problem((*here, "hash"), f"data.slots[{i}].hash: found {found}; expected one for the whole table")


def _split(config: Config) -> Iterator[Problem]:
    split = config.data.split
    base: KeyPath = ("data", "split")
    if split.by not in ("random", "file") and split.column is None:
        yield Problem((*base, "by"), f"data.split.column: missing, expected the column for `by: {split.by}`")
    if split.by in ("random", "file") and split.column is not None:
        yield idle((*base, "column"), f"data.split.by: {split.by}", (*base, "by"))
    if split.by in ("column", "file"):
        parts = {"train": split.train_values, "valid": split.valid_values, "test": split.test_values}
        for one, other in (("train", "valid"), ("train", "test"), ("valid", "test")):
            if both := set(parts[one]) & set(parts[other]):
                yield Problem(
                    (*base, f"{other}_values"),
                    f"data.split: {quoted(min(both))} means both {one} and {other}; expected each value in one part",
                )
        for name in ("valid", "test"):
            if given(split, name) and not (name == "valid" and split.valid_from):
                hint = "; with valid_from it is the share to take" if name == "valid" else ""
                yield idle((*base, name), f"data.split.by: {split.by}{hint}", (*base, "by"))
    else:
        if split.valid + split.test >= 1:
            found = f"valid {split.valid:g} + test {split.test:g}"
            yield Problem((*base, "valid"), f"data.split: found {found}, expected less than 1 so that rows train")
        for name in ("train_values", "valid_values", "test_values", "valid_from"):
            if given(split, name):
                yield idle((*base, name), f"data.split.by: {split.by}", (*base, "by"))
    if split.valid == 0 and (split.by not in ("column", "file") or split.valid_from):
        yield Problem((*base, "valid"), "data.split.valid: found 0, expected rows to stop the training and score on")


CHECKS: tuple[Callable[[Config], Iterator[Problem]], ...] = (_log, _names, _slot_kinds, _weights, _split)
