"""A column into facts, from a sample."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from autodim.data.infer.clock import time_of_numbers
from autodim.data.text import Coded, coded, flat, is_list, is_text, numbers, times
from autodim.errors import DataError

MISSING = ("NA", "N/A", "n/a", "#N/A", "NaN", "nan", "null", "NULL", "None", "\\N", "?", "-")
SEPARATORS = ("|", ";", ",", "^", "~", " ")
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")


@dataclass(frozen=True)
class Profile:
    """Facts about one column of N sampled rows.

    Attributes:
        name: of the column.
        kind: text, integer (whole floats too), float, bool, time, list, or other (what autodim cannot read).
        stored: the stored type, `text` for CSV.
        rows: N.
        missing: how many of them.
        column: texts with codes; None for lists and others.
        counts: rows of each value of `column`, those that occur.
        numbers: N float64, NaN for missing; None unless integer or float.
        rising: the sample never falls in this column (numbers and times).
        time: why it is a time, else "".
        separator: of several ids in one text, else "".
        items: distinct ids of a list or of cut texts; else empty.
        doubt: something odd to tell.
    """

    name: str
    kind: str
    stored: str
    rows: int
    missing: int
    column: Coded | None = None
    counts: np.ndarray | None = None
    numbers: np.ndarray | None = None
    rising: bool = False
    time: str = ""
    separator: str = ""
    items: frozenset[str] = frozenset()
    doubt: str = ""

    @property
    def distinct(self) -> int:
        return len(self.counts) if self.counts is not None else 0

    @property
    def present(self) -> int:
        return self.rows - self.missing

    def texts(self) -> list[str]:
        """Distinct values that occur."""
        assert self.column is not None
        used = np.bincount(self.column.codes[self.column.codes >= 0], minlength=len(self.column.values)) > 0
        return self.column.values.filter(pa.array(used)).to_pylist()


def missing_texts(table: pa.Table) -> tuple[str, ...]:
    """Texts that mean missing, because they stand in columns that otherwise hold numbers only."""
    found = set()
    for name in table.column_names:
        if not is_text(table[name].type):
            continue
        column = coded(table[name], ("",))
        tokens = set(column.values.to_pylist()) & set(MISSING)
        if tokens and len(tokens) < len(column.values):
            _, bad = numbers(column.values.filter(pc.invert(pc.is_in(column.values, pa.array(tokens, pa.string())))))
            if not bad.any():
                found |= tokens
    return tuple(sorted(found))


def profile(name: str, array: pa.ChunkedArray, missing: Sequence[str]) -> Profile:
    """Facts about one column.

    Args:
        name: of the column.
        array: N sampled values.
        missing: texts that mean missing.

    Cost: one pass over the rows; the rest per distinct value.
    """
    stored = "text" if is_text(array.type) else str(array.type)
    if is_list(array.type):
        return _lists(name, array, missing, stored)
    try:
        column = coded(array, missing)
    except (DataError, pa.ArrowException):
        return Profile(name, "other", stored, len(array), array.null_count)
    counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.values))
    counts = counts[counts > 0]
    gone = int((column.codes < 0).sum())
    fact: dict[str, Any] = {"stored": stored, "rows": len(array), "missing": gone, "column": column, "counts": counts}
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    if pa.types.is_boolean(kind):
        return Profile(name, "bool", **fact)
    if pa.types.is_temporal(kind):
        if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
            return Profile(name, "time", **fact, time=f"stored as {kind}", rising=_rising(times(array)[0]))
        return Profile(name, "text", **fact)
    if not len(counts):
        return Profile(name, "text", **fact)
    parsed, bad = numbers(column.values)
    if not bad.any() and not _leading_zeros(column):
        values = np.append(parsed, np.nan)[column.codes]
        whole = bool(np.all(np.mod(parsed[~np.isnan(parsed)], 1) == 0))
        rising = _rising(values)
        why = time_of_numbers(name, parsed[~np.isnan(parsed)], rising) if whole else ""
        number = "integer" if whole else "float"
        return Profile(name, number, **fact, numbers=values, rising=rising, time=why)
    return _text(name, column, fact)


def _text(name: str, column: Coded, fact: dict[str, Any]) -> Profile:
    texts = column.values.to_pylist()
    if all(_DECIMAL_COMMA.fullmatch(text.strip()) for text in texts):
        return Profile(name, "text", **fact, doubt="numbers with a decimal comma are read as text; write them with .")
    if all("-" in text for text in texts[:100]):  # or every text would be tried as a time
        try:
            keys, kind = times(column.values)
        except DataError:
            kind = "text"
        if kind == "time":
            rising = _rising(np.append(keys, np.nan)[column.codes])
            return Profile(name, "time", **fact, time="every text is an ISO 8601 time", rising=rising)
    separator, items = _cut(texts)
    doubt = ""
    if sum(text[:1] == "[" and text[-1:] == "]" for text in texts) > 0.9 * len(texts):
        separator, items = "", frozenset()
        doubt = "looks like lists in brackets; written as a|b, or as a list column, it could be kind: multi"
    return Profile(name, "text", **fact, separator=separator, items=items, doubt=doubt)


def _cut(texts: list[str]) -> tuple[str, frozenset[str]]:
    """The separator that turns many texts into few ids that come again and again, in varying number."""
    best: tuple[int, str, frozenset[str]] | None = None
    for separator in SEPARATORS:
        lists = [text.split(separator) for text in texts]
        lengths = {len(items) for items in lists}
        holding = sum(len(items) > 1 for items in lists)
        if len(texts) < 8 or len(lengths) < 2 or holding < 0.2 * len(texts):
            continue
        items = frozenset(item for each in lists for item in each if item)
        few = 0.1 if separator == " " else 0.6  # prose has spaces too
        if (
            len(items) <= few * len(texts)
            and not any(item != item.strip() for item in items)
            and (best is None or len(items) < best[0])
        ):
            best = (len(items), separator, items)
    return (best[1], best[2]) if best else ("", frozenset())


def _lists(name: str, array: pa.ChunkedArray, missing: Sequence[str], stored: str) -> Profile:
    whole = flat(array)
    gone = int((pc.fill_null(pc.list_value_length(whole), 0).to_numpy(zero_copy_only=False) == 0).sum())
    inner = whole.flatten()
    if pa.types.is_floating(inner.type) or pa.types.is_nested(inner.type):
        return Profile(name, "other", stored, len(array), gone, doubt="lists of ids can be read, this cannot")
    try:
        items = coded(inner, (*missing, ""))
    except (DataError, pa.ArrowException):
        return Profile(name, "other", stored, len(array), gone)
    return Profile(name, "list", stored, len(array), gone, items=frozenset(items.values.to_pylist()))


def _leading_zeros(column: Coded) -> bool:
    """`007` is a name, not 7."""
    return bool(pc.any(pc.match_substring_regex(column.values, r"^\s*0[0-9]"), min_count=0).as_py())


def _rising(values: np.ndarray) -> bool:
    values = values[~np.isnan(values)]
    return len(values) > 1 and values[-1] > values[0] and bool(np.all(np.diff(values) >= 0))
