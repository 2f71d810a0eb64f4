"""Avazu click-through rate (Kaggle 2014), the raw CSV with header.

`id` is unique per row and no slot; `hour` (YYMMDDHH) becomes the slots `hour_of_day` (00-23) and `weekday` (1 Monday
- 7 Sunday), derived while reading, so that new raw rows can be scored as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from autodim.config.schema import DataConfig, LabelConfig, SlotConfig
from autodim.data.text import coded
from autodim.errors import ConfigError, DataError

CATEGORIES = (
    *("C1", "banner_pos", "site_id", "site_domain", "site_category", "app_id", "app_domain", "app_category"),
    *("device_id", "device_ip", "device_model", "device_type", "device_conn_type"),
    *("C14", "C15", "C16", "C17", "C18", "C19", "C20", "C21"),
)


def hour_of_day(hours: Any) -> pa.Array:
    """YYMMDDHH -> HH, as text."""
    column = coded(hours, ("",))
    _check(column.values)
    return _spread(column.codes, pc.utf8_slice_codeunits(column.values, 6, 8))


def weekday(hours: Any) -> pa.Array:
    """YYMMDDHH -> 1 (Monday) .. 7 (Sunday), as text."""
    column = coded(hours, ("",))
    _check(column.values)
    dates = pc.strptime(pc.utf8_slice_codeunits(column.values, 0, 6), "%y%m%d", "s", error_is_null=True)
    if dates.null_count:
        bad = column.values.filter(pc.is_null(dates))[0].as_py()
        raise DataError(f"found {bad!r} where YYMMDDHH was expected")
    return _spread(column.codes, pc.day_of_week(dates, count_from_zero=False).cast(pa.large_string()))


DERIVED: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "hour_of_day": ("hour", hour_of_day),
    "weekday": ("hour", weekday),
}


def prepare_log(data: DataConfig, folder: Path) -> DataConfig:
    """Slots and label of the raw file(s) at `data.path`; nothing is built.

    Raises:
        ConfigError: no path.
    """
    if data.path is None:
        raise ConfigError("data.log avazu needs data.path: the raw train.csv of the Avazu log")
    slots = tuple(SlotConfig(name=name) for name in ("hour_of_day", "weekday", *CATEGORIES))
    return data.model_copy(update={"labels": data.labels or (LabelConfig(name="click"),), "slots": data.slots or slots})


def _check(values: pa.Array) -> None:
    good = pc.match_substring_regex(values, r"^[0-9]{8}$")
    if not pc.all(good, min_count=0).as_py():
        raise DataError(f"found {values.filter(pc.invert(good))[0].as_py()!r} where YYMMDDHH was expected")


def _spread(codes: Any, values: pa.Array) -> pa.Array:
    """Texts per row from texts per distinct value."""
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), values)
