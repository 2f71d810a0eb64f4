"""The pipeline from Python: DataFrames in and out."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from autodim import artifact
from autodim.config.reader import load_config
from autodim.config.schema import Config
from autodim.data.infer import infer
from autodim.dimension.allocation import Allocation
from autodim.dimension.blocks import spans_of
from autodim.dimension.budget import parse_budget
from autodim.stages.export import read_allocation
from autodim.stages.predict import open_run as open_folder
from autodim.stages.predict import predict
from autodim.stages.search import search as walk
from autodim.training.device import set_up
from autodim.training.progress import Progress

SAMPLE = 200_000  # rows of a DataFrame that guesses are made from


class Result:
    """A finished run.

    Attributes:
        folder: where everything is.
        allocation: the widths with their costs and scores.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.allocation: Allocation = read_allocation(folder)

    @property
    def widths(self) -> pd.DataFrame:
        """One row per slot: `slot`, `rows`, `width`, `cost`, `score`; where tables are cut into blocks of rows, one per
        slot and block, with its `start` and `stop`."""
        spans = spans_of(self.allocation.entries)
        columns = ["slot", "rows", "width", "cost", "score", *(("start", "stop") if spans else ())]
        rows = [
            {"slot": slot, **{name: getattr(e, name) for name in columns[1:]}}
            for e in self.allocation.entries
            for slot in e.slots
        ]
        return pd.DataFrame(rows, columns=columns)

    @property
    def metrics(self) -> pd.DataFrame:
        """One row per model (uniform, cut, retrained; served, if tables are rounded), and per label where there are
        several: test AUC, log loss and calibration (RMSE, MAE and R2 of a regression), and sizes."""
        results = artifact.read_json(self.folder / "evaluate" / "results.json")
        labels, rows = results["labels"], []
        kinds = {task["kind"] for task in results.get("tasks", ())}
        figures = ["auc", "logloss", "calibration", *(("rmse", "mae", "r2") if "regression" in kinds else ())]
        for model in results["models"]:
            sizes = {k: model[k] for k in ("params", "train_bytes", "serve_bytes", "dims")}
            for label, test in zip(labels, model["test"] or [{}] * len(labels), strict=True):
                named = {"label": label} if len(labels) > 1 else {}
                rows.append({"model": model["name"], **named, **{k: test.get(k) for k in figures}, **sizes})
        return pd.DataFrame(rows)

    @property
    def report(self) -> Path:
        """The report's file."""
        return self.folder / "report.html"

    def predict(self, rows: pd.DataFrame | Path, device: str = "auto") -> pd.DataFrame:
        """Probabilities of new rows, one column per label; unseen ids read the out-of-vocabulary row."""
        return predict(self.folder, rows, set_up(device, None))

    def __repr__(self) -> str:
        a = self.allocation
        return f"Result({str(self.folder)!r}: {a.strategy}, {a.spent:,} of {a.uniform:,} {a.unit})"


def search(
    log: pd.DataFrame | str | Path | None = None,
    label: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]] | None = None,
    slots: Sequence[str | Mapping[str, Any]] | None = None,
    budget: str | float | Mapping[str, Any] = "25% params",
    run: str | Path = "runs/autodim",
    settings: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> Result:
    """Walk the whole road: from a log to widths, a small model and a report.

    Args:
        log: a DataFrame, the path of a CSV or Parquet file, or None where `settings` name the log (`data.log`).
        label: the column that holds 0 and 1, or a label section (`{"name": "like", "column": "rating", "above": 3}`);
            several as a list, the first the main one.
        slots: columns (or slot sections) to use; default: what `autodim init` guesses from a sample: kinds of columns,
            lists, and which to leave out (row numbers, times, near copies of the label). Sizes are not guessed: width,
            batch, hidden layers and `min_count` are a config's defaults, made for millions of rows; `autodim init`
            writes smaller ones for a small log, and `settings` takes them.
        budget: `25% params`, `1000000 bytes`, `0.25 dims`; a number below 1 is a share of the parameters; or a section
            such as `{"max_auc_drop": 0.0005}`, a budget by quality.
        run: the run's folder; the same call again continues it.
        settings: any part of a config, nested as in YAML; `autodim show template` is the manual.
        quiet: no progress on stderr.

    Raises:
        AutodimError: with what was found, what was expected and what to do.
    """
    values: dict[str, Any] = {k: dict(v) if isinstance(v, Mapping) else v for k, v in (settings or {}).items()}
    data = values.setdefault("data", {})
    frame = log if isinstance(log, pd.DataFrame) else None
    if frame is None and log is not None:
        data["path"] = str(log)
    if label is not None:
        data["labels"] = [one if isinstance(one, str) else dict(one) for one in _each(label)]
    if slots is not None:
        data["slots"] = [s if isinstance(s, str) else dict(s) for s in slots]
    elif "slots" not in data and "log" not in data and log is not None:
        source = frame if frame is not None else Path(log)  # type: ignore[arg-type]
        data.update({k: v for k, v in guessed_data(source, label).items() if k not in data})
    section = dict(budget) if isinstance(budget, Mapping) else parse_budget(str(budget)).model_dump(exclude_none=True)
    values.setdefault("prune", {})["budget"] = section
    values["run"] = str(run)
    config = config_of(values, in_memory=frame is not None)
    return Result(walk(config, Progress("quiet" if quiet else "auto"), frame=frame).folder)


def config_of(values: dict[str, Any], in_memory: bool) -> Config:
    """Check values as a YAML file's would be; a DataFrame needs no `data.path`."""
    if in_memory:
        values["data"].setdefault("path", "(a DataFrame)")
    return load_config(values, source="settings").config


def open_run(folder: str | Path) -> Result:
    """A run that was made before.

    Raises:
        RunError: not a run folder, or no widths in it yet.
    """
    open_folder(Path(folder))
    return Result(Path(folder))


def guessed_data(
    source: pd.DataFrame | Path, label: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]] | None
) -> dict[str, Any]:
    """Slots, labels and missing texts as `autodim init` would guess them, from a sample of the rows.

    Raises:
        DataError, ConfigError: no such label, or nothing that can be a slot.
    """
    wanted = None if label is None else [one if isinstance(one, str) else _label_text(one) for one in _each(label)]
    with tempfile.TemporaryDirectory(prefix="autodim-") as folder:
        path = source
        if isinstance(source, pd.DataFrame):
            path = Path(folder) / "frame.parquet"
            source.iloc[:: max(1, len(source) // SAMPLE)].to_parquet(path, index=False)
        data = yaml.safe_load(infer(str(path), wanted).text)["data"]
    return {key: data[key] for key in ("slots", "labels", "missing", "drop") if key in data}


def _each(label: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]) -> list[str | Mapping[str, Any]]:
    return [label] if isinstance(label, str | Mapping) else list(label)


def _label_text(label: Mapping[str, Any]) -> str:
    column = str(label.get("column", label["name"]))
    if "above" in label:
        return f"{column}>{label['above']}"
    return f"{column}={label['equals']}" if "equals" in label else column
