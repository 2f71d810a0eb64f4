"""Columns into labels (0, 1 or missing), and the rows that are left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from autodim.config.schema import LabelConfig
from autodim.data.text import Coded, coded, numbers
from autodim.errors import DataError


def label_values(array: pa.Array | pa.ChunkedArray, label: LabelConfig, missing: Sequence[str]) -> np.ndarray:
    """Labels of a column.

    Returns:
        N float32: 0, 1, or NaN where the column is missing.

    Raises:
        DataError: values other than 0 and 1 without `above` or `equals`, or values that cannot be compared.
    """
    column = coded(array, missing)
    values, bad = numbers(column.values)
    if label.equals is None and label.above is None:
        values, bad = _truths(column.values, values, bad)
    if label.equals is not None:
        if isinstance(label.equals, str):
            ones = pc.equal(column.values, pa.scalar(label.equals, column.values.type)).to_numpy(zero_copy_only=False)
        else:
            ones = values == label.equals
        of_value = ones.astype(np.float32)
    elif label.above is not None:
        if bad.any():
            raise DataError(
                f"label {label.name!r}: column {label.source!r} holds {_some(column, bad)}, which is not above or "
                f"below {label.above:g}; add it to data.missing, or use `equals`"
            )
        of_value = np.where(np.isnan(values), np.nan, values > label.above).astype(np.float32)
    else:
        odd = bad | ~((values == 0) | (values == 1) | np.isnan(values))
        odd &= np.bincount(column.codes[column.codes >= 0], minlength=len(odd)) > 0
        if odd.any():
            raise DataError(
                f"label {label.name!r}: column {label.source!r} holds {_some(column, odd)}, but a label is 0 or 1; "
                "say which values are 1 with `above` or `equals`, or leave rows out with data.drop"
            )
        of_value = values.astype(np.float32)
    return np.append(of_value, np.float32(np.nan))[column.codes]


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
