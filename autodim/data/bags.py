"""Columns of several ids a row: lists, or texts cut at a separator; with a weight per id or without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from autodim.data.text import TEXT, Coded, coded, flat, is_list, numbers

OUT_OF_STEP = "holds another number of weights than there are ids"
NO_WEIGHT = "holds a weight that is missing or no finite number"
NEGATIVE = "holds a negative weight, which only `pooling: sum` can take"


@dataclass(frozen=True)
class Bags:
    """A column of lists of texts: row i holds `items.codes[offsets[i]:offsets[i + 1]]` (never -1); offsets N + 1;
    `weights`: K float32, one per item, or None."""

    items: Coded
    offsets: np.ndarray
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, rows: np.ndarray) -> Bags:
        """Some rows, in the order given."""
        lengths = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        at = gather_positions(self.offsets[:-1][rows], offsets)
        weights = None if self.weights is None else self.weights[at]
        return Bags(Coded(self.items.codes[at], self.items.values), offsets, weights)

    def to_arrow(self) -> pa.ListArray:
        """The items alone; the weights go apart."""
        return pa.LargeListArray.from_arrays(pa.array(self.offsets, pa.int64()), self.items.to_arrow())

    @staticmethod
    def from_arrow(array: pa.LargeListArray) -> Bags:
        return Bags(Coded.from_arrow(array.values), array.offsets.to_numpy())


def bags(array: pa.Array | pa.ChunkedArray, separator: str, missing: Sequence[str] = ()) -> Bags:
    """Lists of texts: a list column, or a text column cut at `separator`.

    A missing text, an empty text and a null list are empty bags; missing items within a bag are left out;
    repeated items stay.
    """
    items, offsets = _items(array, separator, missing)
    return _where(items, offsets, items.codes >= 0)


def weighted_bags(
    array: pa.Array | pa.ChunkedArray,
    weights: pa.Array | pa.ChunkedArray | None,
    *,
    separator: str,
    weight_separator: str | None,
    missing: Sequence[str],
    negative: bool,
) -> tuple[Bags, dict[str, np.ndarray]]:
    """Lists of texts, each with a weight.

    Args:
        array: N lists or texts, as for `bags`.
        weights: N lists or texts of as many numbers; or None where the items are `id:weight` (a bare `id` weighs 1).
        separator: of the ids, and of the weights.
        weight_separator: between an id and its weight, the last one in an item.
        missing: texts that mean missing; a missing id is left out with its weight.
        negative: whether weights below 0 are allowed.

    Returns:
        (the bags, and by reason the rows that cannot be used: N bool, no row in two of them).
    """
    items, offsets = _items(array, separator, missing)
    rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    step = np.zeros(len(offsets) - 1, bool)
    if weights is None:
        cut = pc.split_pattern(items.values, weight_separator, max_splits=1, reverse=True)
        ids = coded(pc.list_element(cut, 0), (*missing, ""))
        several = pc.greater(pc.list_value_length(cut), 1).to_numpy(zero_copy_only=False)
        values, bad = np.ones(len(several)), np.zeros(len(several), bool)
        if several.any():
            texts = pc.list_element(cut.filter(pa.array(several)), 1)
            values[several], bad[several] = numbers(texts)
        found = np.append(np.where(bad, np.nan, values), 1.0)[items.codes]
        items = Coded(np.append(ids.codes, np.int32(-1))[items.codes], ids.values)
    else:
        found, ends = _numbers(weights, separator, missing)
        step = np.diff(ends) != np.diff(offsets)
        if step.any():
            found = _aligned(found, ends, offsets, step)
    there = items.codes >= 0
    wrong = ~np.isfinite(found) & there & ~step[rows]
    below = (found < 0) & there & ~step[rows] if not negative else np.zeros(len(found), bool)
    reasons = {OUT_OF_STEP: step, NO_WEIGHT: _any(rows, wrong, len(step)), NEGATIVE: _any(rows, below, len(step))}
    reasons[NEGATIVE] &= ~reasons[NO_WEIGHT]
    return _where(items, offsets, there, np.nan_to_num(found).astype(np.float32)), reasons


def gather_positions(starts: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Positions of ragged rows: row i takes `starts[i], starts[i] + 1, ...`, offsets[i + 1] - offsets[i] of them."""
    return np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], np.diff(offsets))


def _items(array: pa.Array | pa.ChunkedArray, separator: str, missing: Sequence[str]) -> tuple[Coded, np.ndarray]:
    """All items with the missing ones (-1), and the rows' offsets."""
    array = flat(array)
    if is_list(array.type):
        wide = array.cast(pa.large_list(array.type.value_type))
        return coded(wide.flatten(), (*missing, "")), _offsets(wide)
    rows = coded(array, (*missing, ""))
    lists = pc.split_pattern(rows.values, separator).cast(pa.large_list(TEXT))
    inner = coded(lists.flatten(), (*missing, ""))
    starts = np.append(lists.offsets.to_numpy(), 0)  # code -1: a start for the empty bag
    lengths = np.append(pc.list_value_length(lists).to_numpy(), 0)[rows.codes]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    positions = gather_positions(starts[rows.codes], offsets)
    return Coded(inner.codes[positions], inner.values), offsets


def _numbers(
    array: pa.Array | pa.ChunkedArray, separator: str, missing: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of a list column (NaN for what is none), and the rows' offsets."""
    array = flat(array)
    if is_list(array.type):
        wide = array.cast(pa.large_list(array.type.value_type))
        values, bad = numbers(wide.flatten(), missing)
        return np.where(bad, np.nan, values), _offsets(wide)
    items, offsets = _items(array, separator, missing)
    values, bad = numbers(items.values)
    return np.append(np.where(bad, np.nan, values), np.nan)[items.codes], offsets


def _offsets(array: pa.LargeListArray) -> np.ndarray:
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy()
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _aligned(values: np.ndarray, ends: np.ndarray, offsets: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Values laid out by `offsets`, 0 in the rows that are out of step."""
    result: np.ndarray = np.zeros(int(offsets[-1]))
    inside = np.repeat(~step, np.diff(offsets))
    result[inside] = values[np.repeat(~step, np.diff(ends))]
    return result


def _any(rows: np.ndarray, flags: np.ndarray, count: int) -> np.ndarray:
    return np.bincount(rows[flags], minlength=count) > 0


def _where(items: Coded, offsets: np.ndarray, there: np.ndarray, weights: np.ndarray | None = None) -> Bags:
    if there.all():
        return Bags(items, offsets, weights)
    ends = np.concatenate([[0], np.cumsum(there)])[offsets]
    return Bags(Coded(items.codes[there], items.values), ends, None if weights is None else weights[there])
