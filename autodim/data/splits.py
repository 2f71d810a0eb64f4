"""Which rows train, choose (valid) and judge (test).

A row's part depends on the seed and on the row's number in the log (rejected rows are not numbered, dropped ones
are), or on the value that the split names; never on how the log is cut into pieces. For `random` and `group` it
depends on no other row.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np

from autodim.config.schema import SplitConfig
from autodim.errors import ConfigError, DataError

if TYPE_CHECKING:
    from autodim.data.text import Coded

PARTS = ("train", "valid", "test")
TRAIN, VALID, TEST, FROM, NONE = 0, 1, 2, 3, -1  # FROM: of the part that valid is taken from
SPLIT_SALT, SAMPLE_SALT, GROUP_SALT = 1, 2, 3
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def uniform(rows: np.ndarray, seed: int, salt: int = SPLIT_SALT) -> np.ndarray:
    """A number in [0, 1) for each row number: a counter-based hash (SplitMix64's finaliser, Steele et al. 2014).

    Args:
        rows: N non-negative integers.
        seed: any integer.
        salt: makes uses of one seed independent.

    Returns:
        N float64, multiples of 2^-53.
    """
    key = mix(np.uint64(seed & 0xFFFFFFFFFFFFFFFF) + _times(np.uint64(salt)))
    return (mix(_times(rows.astype(np.uint64)) ^ key) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def random_parts(rows: np.ndarray, split: SplitConfig) -> np.ndarray:
    """Part of each row: N int8, by the shares `valid` and `test`."""
    cuts = [1.0 - split.valid - split.test, 1.0 - split.test]
    return np.searchsorted(cuts, uniform(rows, split.seed), side="right").astype(np.int8)


def group_parts(hashes: np.ndarray, split: SplitConfig) -> np.ndarray:
    """Part of each group: N int8, by the shares `valid` and `test` of the groups; `hashes`: N uint64 of their texts."""
    cuts = [1.0 - split.valid - split.test, 1.0 - split.test]
    return np.searchsorted(cuts, uniform(hashes, split.seed, GROUP_SALT), side="right").astype(np.int8)


def time_thresholds(keys: np.ndarray, split: SplitConfig) -> tuple[float, float]:
    """First time of valid and of test, such that the parts have about their shares; equal times stay together.

    Args:
        keys: the sort key of every row (or of a sample), NaN-free.
    """
    ordered = np.sort(keys)

    def at(share: float) -> float:
        place = round(len(ordered) * share)
        return float(ordered[place]) if place < len(ordered) else np.inf

    return at(1.0 - split.valid - split.test), at(1.0 - split.test)


def time_parts(keys: np.ndarray, thresholds: tuple[float, float]) -> np.ndarray:
    """Part of each row: before the first threshold train, before the second valid, from there on test."""
    return np.searchsorted(np.array(thresholds), keys, side="right").astype(np.int8)


def column_parts(column: Coded, split: SplitConfig) -> np.ndarray:
    """Part that the split column names for each row: N int8; FROM where `valid_from` decides later.

    Raises:
        DataError: a value that means no part.
    """
    meaning = {value: VALID for value in split.valid_values}
    meaning |= dict.fromkeys(split.train_values, FROM if split.valid_from == "train" else TRAIN)
    meaning |= dict.fromkeys(split.test_values, FROM if split.valid_from == "test" else TEST)
    of_value = np.array([meaning.get(value, NONE) for value in column.values.to_pylist()] + [NONE], np.int8)
    parts = of_value[column.codes]
    if (parts == NONE).any():
        codes = np.unique(column.codes[parts == NONE])[:8]
        found = [repr(column.values[int(c)].as_py()) if c >= 0 else "a missing value" for c in codes]
        raise DataError(
            f"split column {split.column!r} holds {', '.join(found)}, which means no part (known: "
            f"{', '.join(repr(v) for v in meaning)}); list it in train_values, valid_values or test_values of "
            "data.split, or leave such rows out with data.drop"
        )
    return parts


def file_part(name: str, split: SplitConfig) -> int:
    """Part of a file: the one whose values have its name, with or without its endings, or a pattern (`day_2?`) of it.

    Raises:
        DataError: no part, or several.
    """
    names = (name, name.split(".", maxsplit=1)[0])
    found = [
        part
        for part, values in (
            (FROM if split.valid_from == "train" else TRAIN, split.train_values),
            (VALID, split.valid_values),
            (FROM if split.valid_from == "test" else TEST, split.test_values),
        )
        if any(fnmatchcase(text, value) for text in names for value in values)
    ]
    if len(found) != 1:
        what = "means no part" if not found else "means several parts"
        raise DataError(
            f"data.split: the file {name!r} {what}; name it (or a pattern of it) in one of train_values, valid_values "
            f"and test_values (now {', '.join(split.train_values)}; {', '.join(split.valid_values)}; "
            f"{', '.join(split.test_values)})"
        )
    return found[0]


def resolve_from(parts: np.ndarray, rows: np.ndarray, split: SplitConfig) -> np.ndarray:
    """Replaces FROM: the share `valid` of those rows becomes valid, the rest stays what the column said."""
    if split.valid_from is None:
        return parts
    rest = TRAIN if split.valid_from == "train" else TEST
    return np.where(parts == FROM, np.where(uniform(rows, split.seed) < split.valid, VALID, rest), parts).astype(
        np.int8
    )


def check_split(split: SplitConfig) -> None:
    """Raises ConfigError for a split that cannot be meant."""
    if split.by not in ("random", "file") and split.column is None:
        raise ConfigError(f"data.split.by is {split.by!r}, so data.split.column must name a column")
    if split.by in ("random", "time", "group") and split.valid + split.test >= 1:
        raise ConfigError(
            f"data.split: valid {split.valid:g} and test {split.test:g} leave nothing for train; their sum must be "
            "below 1"
        )
    if split.by in ("column", "file") and split.valid_from is not None and not split.valid:
        raise ConfigError("data.split.valid_from needs a share above 0 in data.split.valid")


def check_parts(rows: list[int], split: SplitConfig) -> None:
    """Raises DataError where a part that was asked for has no rows."""
    if split.by in ("column", "file"):
        asked = [True, bool(split.valid_values or split.valid_from), bool(split.test_values)]
        hint = "correct its values in data.split, or set valid_from to take valid rows from another part"
    else:
        asked = [True, split.valid > 0, split.test > 0]
        hint = "the log is too small for these shares, or too few distinct times or groups separate the parts"
    for name, count, wish in zip(PARTS, rows, asked, strict=True):
        if wish and not count:
            shown = ", ".join(f"{part} {n}" for part, n in zip(PARTS, rows, strict=True))
            raise DataError(f"no row is in the part {name} (rows: {shown}); {hint}")


def _times(values: np.ndarray | np.uint64) -> np.ndarray:
    with np.errstate(over="ignore"):
        return (np.atleast_1d(values) + np.uint64(1)) * _GOLDEN


def mix(values: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser of uint64 values."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))
