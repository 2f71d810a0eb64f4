"""Columns into labels (0 and 1, or numbers; or missing), sample spaces, and the rows that are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from autodim.config.schema import LabelConfig
from autodim.data.text import Coded, coded, numbers
from autodim.errors import DataError


@dataclass(frozen=True)
class Found:
    """A label's column, read.

    Attributes:
        values: N float32: 0, 1 (a regression: numbers), or NaN where the column is missing or odd.
        odd: N bool, rows that hold what is no such label.
        holds: the first few odd values, for people.
        expected: what was expected instead, and what to do.
    """

    values: np.ndarray
    odd: np.ndarray
    holds: str = ""
    expected: str = ""


def read_labels(array: pa.Array | pa.ChunkedArray, label: LabelConfig, missing: Sequence[str]) -> Found:
    """Labels of a column, and the rows that hold none.

    Odd are values other than 0 and 1 without `above` or `equals`, and texts where numbers are compared or learnt.

    Raises:
        DataError: a type of column that holds no labels at all.
    """
    column = coded(array, missing)
    values, bad = numbers(column.values)
    expected = ""
    if label.kind == "regression":
        of_value, odd = values, bad
        expected = (
            "but a regression learns finite numbers; add what means missing to data.missing, or leave rows out with "
            "data.drop"
        )
    elif isinstance(label.equals, str):
        same = pc.equal(column.values, pa.scalar(label.equals, column.values.type))
        of_value, odd = same.to_numpy(zero_copy_only=False), np.zeros(len(values), bool)
    elif label.equals is not None:
        of_value, odd = values == label.equals, np.zeros(len(values), bool)
    elif label.above is not None:
        of_value, odd = np.where(np.isnan(values), np.nan, values > label.above), bad
        expected = f"which is not above or below {label.above:g}; add it to data.missing, or use `equals`"
    else:
        of_value, bad = _truths(column.values, values, bad)
        odd = bad | ~((of_value == 0) | (of_value == 1) | np.isnan(of_value))
        expected = (
            "but a label is 0 or 1; say which values are 1 with `above` or `equals`, or leave rows out with data.drop"
        )
    rows = np.append(odd, False)[column.codes]
    found = np.append(of_value.astype(np.float32), np.float32(np.nan))[column.codes]
    if not rows.any():
        return Found(found, rows)
    found[rows] = np.nan
    odd &= np.bincount(column.codes[column.codes >= 0], minlength=len(odd)) > 0
    return Found(found, rows, _some(column, odd), expected)


def label_values(array: pa.Array | pa.ChunkedArray, label: LabelConfig, missing: Sequence[str]) -> np.ndarray:
    """Labels of a column of which no row may be odd: N float32 (see `read_labels`).

    Raises:
        DataError: some are.
    """
    found = read_labels(array, label, missing)
    if found.odd.any():
        raise DataError(f"label {label.name!r}: column {label.source!r} holds {found.holds}, {found.expected}")
    return found.values


def _truths(texts: pa.Array, values: np.ndarray, bad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`true` and `false`, as Boolean columns read as text, are 1 and 0."""
    lowered = pc.utf8_lower(texts.cast(pa.string()))
    true, false = (
        pc.equal(lowered, word).fill_null(False).to_numpy(zero_copy_only=False) for word in ("true", "false")
    )
    return np.where(true, 1.0, np.where(false, 0.0, values)), bad & ~(true | false)


def matches(array: pa.Array | pa.ChunkedArray, value: str | int | float, missing: Sequence[str]) -> np.ndarray:
    """Rows whose column has a value: equal as text, or as number where `value` is one.

    A `value` that means missing (`""`, as `missing` says) matches missing values.

    Returns:
        N bool.
    """
    column = coded(array, missing)
    if isinstance(value, str):
        same = pc.equal(column.values, pa.scalar(value, column.values.type)).to_numpy(zero_copy_only=False)
        gone = value == "" or value in missing
    else:
        parsed, _ = numbers(column.values)
        same, gone = parsed == value, False
    return np.append(same, gone)[column.codes]


def in_sample_space(values: np.ndarray, labels: Sequence[LabelConfig]) -> np.ndarray:
    """Labels within the rows that they are defined on (`where`).

    Args:
        values: N x T as the columns say. labels: T.

    Returns:
        N x T: where another label is named and is not 1, NaN, or 0 with `outside: zero`; NaN where it is missing.
    """
    if all(label.where is None for label in labels):
        return values
    place = {label.name: t for t, label in enumerate(labels)}
    found: dict[int, np.ndarray] = {}

    def of(t: int) -> np.ndarray:
        if t not in found:
            label = labels[t]
            found[t] = values[:, t]
            if label.where is not None:
                gate = of(place[label.where])
                outside = np.float32(0 if label.outside == "zero" else np.nan)
                found[t] = np.where(gate == 1, values[:, t], np.where(np.isnan(gate), np.float32(np.nan), outside))
        return found[t]

    return np.stack([of(t) for t in range(len(labels))], axis=1)


def check_spread(name: str, std: float | None, labelled: int, rows: int) -> None:
    """Raises DataError where the training rows of a regression hold one number only."""
    if not labelled or not std:
        found = "none has a value" if not labelled else f"all {labelled} with a value are equal"
        raise DataError(f"label {name!r}: of {rows} training rows {found}, but a regression needs numbers that differ")


def check_classes(name: str, positives: float, labelled: int, rows: int) -> None:
    """Raises DataError where the training rows of a label hold one class only."""
    if labelled and 0 < positives < labelled:
        return
    found = "none has a value" if not labelled else f"all {labelled} with a value are {1 if positives else 0}"
    raise DataError(
        f"label {name!r}: of {rows} training rows {found}, but a model needs both classes; correct the label's "
        "`above` or `equals`, data.drop or data.split"
    )


def _some(column: Coded, which: np.ndarray) -> str:
    shown = [repr(v.as_py()) for v in column.values.filter(pa.array(which))[:8]]
    return ", ".join(shown) + (", ..." if which.sum() > len(shown) else "")
