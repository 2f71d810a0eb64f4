"""Columns as they come (text, integers, floats, dictionaries, lists) into texts with codes, numbers and times.

A category is always a *text*: `007` stays `007`, `NA` stays `NA`, 9007199254740993 is never rounded. Integers become
their decimal digits; whole floats too (7.0 is `7`, as pandas turns integer columns with gaps into floats), other
floats their shortest form; booleans `true` and `false`; times ISO 8601. Work is per distinct value, not per row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from autodim.errors import DataError

TEXT = pa.large_string()  # 64-bit offsets: a vocabulary may exceed 2 GB


@dataclass(frozen=True)
class Coded:
    """A column of texts.

    Attributes:
        codes: N int32, positions in `values`; -1 is missing.
        values: distinct texts, none of them null (some may be unused).
    """

    codes: np.ndarray
    values: pa.Array

    def __len__(self) -> int:
        return len(self.codes)

    def to_arrow(self) -> pa.DictionaryArray:
        gone = self.codes < 0
        return pa.DictionaryArray.from_arrays(pa.array(self.codes, mask=gone if gone.any() else None), self.values)

    @staticmethod
    def from_arrow(array: pa.DictionaryArray) -> Coded:
        return Coded(_codes(array.indices), array.dictionary)


def is_text(kind: pa.DataType) -> bool:
    """Whether a column type is text (dictionaries of text too)."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view()


def is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def flat(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One array of a chunked one."""
    if not isinstance(array, pa.ChunkedArray):
        return array
    if array.num_chunks == 1:
        return array.chunk(0)
    return pa.concat_arrays(array.unify_dictionaries().chunks) if array.num_chunks else pa.array([], array.type)


def coded(array: pa.Array | pa.ChunkedArray, missing: Sequence[str] = (), prefix: int | None = None) -> Coded:
    """Texts of a column; null and every text in `missing` are missing.

    Args:
        array: N values of any flat type.
        missing: texts that mean missing (compared before `prefix` cuts).
        prefix: keep only the first characters.

    Raises:
        DataError: a type that has no text, or bytes that are not UTF-8.
    """
    array = flat(array)  # cheaper than merging a dictionary per chunk
    if pa.types.is_nested(array.type):
        raise DataError(
            f"a column holds lists ({array.type}), but its slot is not declared so; write "
            "`{name: ..., kind: multi}` for that slot"
        )
    if pa.types.is_floating(array.type):
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
    plain = not pa.types.is_dictionary(array.type)
    encoded = array.dictionary_encode() if plain else array
    codes = _codes(encoded.indices.cast(pa.int32()))
    values = _strings(encoded.dictionary)
    gone = pc.or_(pc.is_null(values), pc.is_in(values, value_set=pa.array(missing, TEXT)))
    if plain and is_text(array.type) and prefix is None and not pc.any(gone).as_py():
        return Coded(codes, values)
    if prefix is not None:
        values = pc.utf8_slice_codeunits(values, 0, prefix)
    again = pc.if_else(gone, pa.scalar(None, TEXT), values).dictionary_encode()
    new = again.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    return Coded(np.append(new, np.int32(-1))[codes], again.dictionary)  # code -1 reads the appended -1


def _codes(indices: pa.Array) -> np.ndarray:
    """Indices with -1 for null; without a copy where none is."""
    indices = indices.fill_null(-1) if indices.null_count else indices
    return indices.to_numpy(zero_copy_only=False)


def refuse_rounded(array: pa.Array | pa.ChunkedArray) -> None:
    """Ids that went through floats too short for them have been rounded, and several may have become one.

    Raises:
        DataError: whole numbers from 2^53 (in 32 bits 2^24, in 16 bits 2^11) to 2^64 in a column of floats, as pandas
            makes of integers with a gap.
    """
    dictionary, listed = pa.types.is_dictionary(array.type), is_list(array.type)
    kind = array.type.value_type if listed or dictionary else array.type
    if not pa.types.is_floating(kind):
        return
    values = flat(array)
    values = values.flatten() if listed else values.dictionary if dictionary else values
    found = values.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False)
    bits = {16: 11, 32: 24, 64: 53}[kind.bit_width]
    size = np.abs(found)
    wrong = np.flatnonzero((size >= 2.0**bits) & (size < 2.0**64) & (np.floor(found) == found))
    if len(wrong):
        raise DataError(
            f"found {found[wrong[0]]:.0f} in a column of type {kind}: from 2^{bits} on such ids have been rounded, and "
            "several may have become one; store the column as integers or text (in pandas: dtype Int64 or str, when "
            "reading)"
        )


def numbers(array: pa.Array | pa.ChunkedArray, missing: Sequence[str] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of a column.

    Returns:
        (N float64 with NaN for missing, N bool where the value is neither a finite number nor missing).
        A text `nan` is missing, `inf` is bad; spaces around a number are allowed.

    Raises:
        DataError: a type that holds no numbers (times, lists).
    """
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if is_text(array.type):
        gone = pc.is_in(array, value_set=pa.array(missing, array.type))
        array = pc.if_else(gone, pa.scalar(None, array.type), array)
        try:
            values = array.cast(pa.float64())
        except pa.ArrowInvalid:
            return _slow_numbers(flat(array))
    elif pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_boolean(array.type):
        values = array.cast(pa.float64(), safe=False)
    elif pa.types.is_decimal(array.type) or pa.types.is_null(array.type):
        values = array.cast(pa.float64())
    else:
        raise DataError(f"found values of type {array.type} where numbers were expected")
    result = flat(values).fill_null(np.nan).to_numpy(zero_copy_only=False)
    bad = np.isinf(result)
    return (np.where(bad, np.nan, result) if bad.any() else result), bad


def times(array: pa.Array | pa.ChunkedArray, missing: Sequence[str] = ()) -> tuple[np.ndarray, str]:
    """Sort keys of a column of numbers or times.

    Returns:
        (N float64, NaN for missing; "number", or "time" for microseconds since 1970, taken as UTC without a zone).

    Raises:
        DataError: texts that are neither numbers nor ISO 8601 times.
    """
    array = flat(array)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if is_text(array.type):
        values, bad = numbers(array, missing)
        if not bad.any():
            return values, "number"
        array = pc.if_else(pc.is_in(array, value_set=pa.array(missing, array.type)), pa.scalar(None, array.type), array)
        for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
            try:
                return _microseconds(array.cast(kind)), "time"
            except pa.ArrowInvalid:
                continue
        first = array[int(np.flatnonzero(bad)[0])].as_py()
        raise DataError(f"found {first!r} where numbers or ISO 8601 times (2013-01-31, 2013-01-31T18:00:00) sort rows")
    if pa.types.is_date(array.type) or pa.types.is_timestamp(array.type):
        zone = array.type.tz if pa.types.is_timestamp(array.type) else None
        return _microseconds(array.cast(pa.timestamp("us", zone), safe=False)), "time"
    return numbers(array)[0], "number"


def _microseconds(array: pa.Array) -> np.ndarray:
    return array.cast(pa.int64()).cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False)


def _strings(values: pa.Array) -> pa.Array:
    """Distinct values of any flat type as texts."""
    if pa.types.is_floating(values.type):
        wide = values.cast(pa.float64())
        whole = pc.and_(pc.equal(pc.floor(wide), wide), pc.less(pc.abs(wide), 2.0**63))
        digits = pc.if_else(whole, wide, 0.0).cast(pa.int64()).cast(TEXT)
        narrow = values.cast(pa.float32()) if pa.types.is_float16(values.type) else values
        return pc.if_else(whole, digits, narrow.cast(TEXT))
    try:
        return values.cast(TEXT)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"found values of type {values.type} that have no text: {error}") from None


def _slow_numbers(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Numbers where some text is none: per distinct text, so that the bad ones are known."""
    encoded = array.dictionary_encode()
    parsed = np.array([_number(text) for text in encoded.dictionary.to_pylist()] + [np.nan])
    values = parsed[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]
    bad = np.isinf(values)
    return np.where(bad, np.nan, values), bad


def _number(text: str | None) -> float:
    """The number that a text spells, infinity for none."""
    if text is None:
        return np.nan
    try:
        return np.inf if "_" in text else float(text)
    except ValueError:
        return np.inf
