"""prepare: a raw log becomes encoded columns."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from autodim import artifact
from autodim.config.schema import DataConfig
from autodim.data.columns import EncodedLog
from autodim.data.encode import encode, source_fingerprint
from autodim.data.logs import resolve_log
from autodim.stages.run import Run
from autodim.training.interrupt import StopFlag
from autodim.training.progress import Progress


def prepare(run: Run, progress: Progress, stop: StopFlag | None = None, frame: pd.DataFrame | None = None) -> EncodedLog:
    """Encode the log into RUN/data, once for the same config and source.

    Args:
        frame: rows given as a DataFrame instead of `data.path`.

    Raises:
        DataError: the log is not as it was described (file, line, column and what to do).
    """
    data = run.config.data
    inputs = artifact.digest(
        {"data": data.model_dump(mode="json"), "source": source_fingerprint(data, Path.cwd(), frame)}
    )
    if run.up_to_date("prepare", inputs):
        progress.line("prepare: up to date")
        return EncodedLog.open(run.stage("prepare") / "log")
    with run.working("prepare", inputs) as folder:
        concrete = concrete_data(run, folder) if frame is None else data
        with artifact.fresh_directory(folder / "log") as temporary:
            encode(concrete, temporary, Path.cwd(), progress=progress, source=frame)
    if stop is not None:
        stop.check()
    log = EncodedLog.open(run.stage("prepare") / "log")
    rows = {part: len(log.part(part)) for part in ("train", "valid", "test")}
    progress.line(
        f"prepare: {sum(rows.values()):,} rows (train {rows['train']:,}, valid {rows['valid']:,}, test {rows['test']:,}), "
        f"{len(log.slots)} slots, {sum(t.rows for t in log.tables):,} ids"
    )
    return log


def concrete_data(run: Run, folder: Path) -> DataConfig:
    """The data section with a known log (flights, planted, criteo, avazu) resolved to a path, slots and labels."""
    return resolve_log(run.config.data, folder / "source")
