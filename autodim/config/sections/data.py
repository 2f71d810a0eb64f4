"""Section `data`: the log and how it is read."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from autodim.config.sections.base import Fraction, NonNegative, Positive, Section


class _Column(Section):
    """What is read from a column of the log: a bare string is short for its name, and its name for the column's."""

    name: str
    column: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def source(self) -> str:
        return self.column or self.name


class SlotConfig(_Column):
    """One input field. In YAML a bare string `user` is short for `{name: user}`."""

    name: str = Field(description="name of the slot in every artefact")
    column: str | None = Field(None, description="column of the log; default: the slot's name")
    kind: Literal["categorical", "multi", "buckets", "value", "scaled"] = Field(
        "categorical",
        description="categorical: text, one id; multi: several ids; buckets: a number cut into ids; value: a number "
        "that goes to the dense part of the model; scaled: a number, standardised, times one learnt vector",
    )
    separator: str = Field("|", description="multi: what separates the ids in a text column (list columns need none)")
    pooling: Literal["sum", "mean"] = Field("mean", description="multi: how the ids' vectors become one")
    weights: str | None = Field(
        None, description="multi: column of as many numbers as there are ids, a list or text cut at the separator"
    )
    weight_separator: str | None = Field(
        None, description='multi: what separates an id from its weight, ":" for `a:0.5|b:2`; a bare id weighs 1'
    )
    buckets: Literal["log_square", "quantile"] = Field(
        "log_square", description="buckets: floor(log(x)^2) as in the Criteo challenge, or quantiles"
    )
    bins: Annotated[int, Field(ge=2, le=10_000)] = Field(50, description="buckets: number of quantiles")
    prefix: Positive | None = Field(None, description="categorical: keep only the first characters of the text")
    min_count: Positive | None = Field(None, description="overrides data.min_count")
    hash: Positive | None = Field(
        None, description="categorical, multi: ids are hashed into this many; collisions are counted"
    )
    table: str | None = Field(None, description="name of a table shared with other slots; default: the slot's own")


class LabelConfig(_Column):
    """One task's label. In YAML a bare string is a column that holds 0 and 1."""

    name: str = Field(description="name of the task")
    column: str | None = Field(None, description="column of the log; default: the label's name")
    above: float | None = Field(None, description="1 where the column is greater than this")
    equals: str | float | None = Field(None, description="1 where the column has this value")
    kind: Literal["binary", "regression"] = Field(
        "binary", description="binary: 0 or 1, cross-entropy; regression: the number itself, squared error"
    )
    role: Literal["main", "auxiliary"] = Field(
        "main", description="auxiliary: helps the main tasks to learn; not scored, not predicted"
    )
    where: str | None = Field(None, description="sample space: only rows where this other label is 1")
    outside: Literal["leave_out", "zero"] = Field(
        "leave_out", description="where: other rows have no such label, or (zero) it is 0 there: the entire space"
    )


class LogConfig(Section):
    """One of several logs: files with labels of their own."""

    path: str = Field(description="CSV, TSV or Parquet file(s), as data.path; every log has the columns of all slots")
    labels: tuple[str, ...] = Field(
        description="names of the data.labels that this log has; a label that is not named is missing in all its rows"
    )


class SplitConfig(Section):
    """Which rows train, choose (valid) and judge (test)."""

    by: Literal["random", "time", "column", "file", "group"] = "random"
    valid: Fraction = Field(0.1, description="random, time: share of the rows; group: of the groups")
    test: Fraction = Field(0.1, description="random, time: share of the rows; group: of the groups")
    column: str | None = Field(
        None,
        description="time: a sortable column; column: the one that names the part; group: rows of one value "
        "stay together, a user's for instance",
    )
    train_values: tuple[str, ...] = Field(
        ("train",), description="column: values that mean train; file: names or patterns (day_0*)"
    )
    valid_values: tuple[str, ...] = Field(
        ("valid", "validation", "val"), description="column, file: values or names for valid"
    )
    test_values: tuple[str, ...] = Field(("test",), description="column, file: values or names that mean test")
    valid_from: Literal["train", "test"] | None = Field(
        None, description="column, file: no value means valid; take the share `valid` of this part at random"
    )
    seed: int = 0


class DataConfig(Section):
    """The log and how it is read."""

    path: str | None = Field(None, description="CSV, TSV or Parquet file(s); ${AUTODIM_DATA} is expanded")
    logs: tuple[LogConfig, ...] = Field(
        (), description="in the place of `path`: several logs with labels of their own and one set of ids"
    )
    log: Literal["flights", "planted", "mmoe", "criteo", "avazu"] | None = Field(
        None, description="a log that autodim knows how to build or read; criteo and avazu also need `path`"
    )
    options: dict[str, int | float | str | bool] = Field(
        default_factory=dict,
        description="planted: rows, slots, width, seed; mmoe: rows, dimension, correlation, scale, waves, noise, seed",
    )
    delimiter: str | None = Field(None, description="CSV: default by the file's name (.tsv: tab, else comma)")
    header: bool = Field(True, description="CSV: the first line names the columns")
    names: tuple[str, ...] = Field((), description="CSV without a header: the columns' names")
    labels: tuple[LabelConfig, ...] = Field((), description="the tasks; the first is the main one")
    slots: tuple[SlotConfig, ...] = Field((), description="the input fields, in the model's order")
    drop: dict[str, str | int | float] = Field(
        default_factory=dict, description="rows whose column has this value are left out, and counted"
    )
    missing: tuple[str, ...] = Field(("",), description="texts that mean missing; they get an id of their own")
    min_count: Positive = Field(1, description="rarer values share the out-of-vocabulary id")
    max_bad_rows: NonNegative = Field(0, description="rows that cannot be read before prepare stops")
    memory: Annotated[int, Field(ge=128)] | None = Field(
        None, description="MB that prepare may take beside what Python holds; default: half of the machine's"
    )
    split: SplitConfig = SplitConfig()
