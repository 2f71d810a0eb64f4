"""Guesses into YAML that runs as it is and says why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autodim.config import load_config
from autodim.data.infer.guess import Guess, guess_all, part_values
from autodim.data.infer.known import MOVIELENS, known_log
from autodim.data.infer.nested import nested_lines, nested_notes
from autodim.data.infer.profile import Profile, missing_texts, profile
from autodim.data.infer.sample import ROWS, Sample, read_sample
from autodim.data.infer.sections import reason, top, training
from autodim.data.infer.sniff import Format, sniff
from autodim.data.infer.target import distinct, find_target, label_line
from autodim.data.infer.words import flow, scalar
from autodim.errors import ConfigError


@dataclass(frozen=True)
class Inferred:
    """A config and how it came about.

    Attributes:
        text: the YAML, checked.
        rows: (column, what it becomes, why) for a table.
        notes: what a person should know first.
    """

    text: str
    rows: list[tuple[str, str, str]]
    notes: list[str]


def infer(path: str, label: str | Sequence[str] | None = None, target: str = "my.yaml", rows: int = ROWS) -> Inferred:
    """A config for a log.

    Args:
        path: CSV, TSV or Parquet; a file, a folder or a pattern, as the config will say it.
        label: a column, `rating>3` or `action=buy`; several as a list, the first the main one; logs known by name have
            theirs.
        target: what the config will be called, for the commands in it.
        rows: to look at.

    Raises:
        ConfigError: a label that is not there, or whose meaning must be said; lists candidates.
        DataError: a log that cannot be read; says how it could.

    Cost: memory for the sample (64 MB of text at most) a few times over; about 4 s for 200,000 rows x 40 columns.
    """
    labels = [label] if isinstance(label, str) else list(label or ())
    first = labels[0] if labels else None
    form = sniff(path, first)
    sample = read_sample(form, rows)
    known = known_log(form, sample.table)
    if known == "movielens":
        form, sample = _named(form, sample)
    if known in ("criteo", "avazu"):
        lines, rows_told = (
            _known(known, form, sample, labels),
            [("(all)", f"data.log: {known}", "the published format")],
        )
        notes = [f"recognised: the raw {known} log, whose label and slots autodim knows"]
    else:
        asked: list[str | None] = [*labels] or ["rating" if known else None]
        lines, rows_told, notes = _guessed(form, sample, first, asked)
    if not form.parquet:
        notes.insert(0, form.why)
    lines = [*lines[:1], *_bad_rows(sample, notes), *lines[1:]]
    text = "\n".join([*top(path, target, sample), *_data(path, lines), *training(sample, max(len(labels), 1))]) + "\n"
    load_config(text, source=target)
    return Inferred(text, rows_told, notes)


def _named(form: Format, sample: Sample) -> tuple[Format, Sample]:
    why = f"{form.why}; four columns as in MovieLens' ratings"
    table = sample.table.rename_columns(list(MOVIELENS))
    return (
        Format(form.files, form.parquet, form.delimiter, form.header, MOVIELENS, why),
        Sample(table, sample.rows, sample.whole, sample.rejected, sample.example),
    )


def _data(path: str, lines: list[str]) -> list[str]:
    return ["data:", f"  path: {scalar(path)}", *(f"  {line}" if line else "" for line in lines), ""]


def _bad_rows(sample: Sample, notes: list[str]) -> list[str]:
    if not sample.rejected:
        return []
    share = sample.rejected / (sample.rejected + sample.table.num_rows)
    limit = sample.rejected if sample.whole else max(10, round(3 * share * sample.rows))
    notes.append(
        f"{sample.rejected:,} of the sampled rows cannot be read ({sample.example}); data.max_bad_rows: {limit} leaves "
        "such rows out and counts them. Better: correct the file"
    )
    return [reason(f"max_bad_rows: {limit}", f"{sample.rejected:,} bad rows in the sample: {sample.example}")]


def _known(known: str, form: Format, sample: Sample, labels: Sequence[str]) -> list[str]:
    name, also = ("label", "c1") if known == "criteo" else ("click", "click")
    if odd := [label for label in labels if label not in (name, also)]:
        raise ConfigError(
            f"--label {odd[0]!r}: this is the raw {known} log, whose label is {name!r}; leave --label out"
        )
    lines = [
        reason(f"log: {known}", "its columns and values are those of the published log; brings label and slots"),
        _min_count(sample),
        "split: {by: random, valid: 0.1, test: 0.1, seed: 0}",
    ]
    if known == "avazu":
        lines.append(
            "# split: {by: time, column: hour, valid: 0.1, test: 0.1}   # better, where the log has several days"
        )
    return lines


def _guessed(
    form: Format, sample: Sample, asked: str | None, labels: Sequence[str | None]
) -> tuple[list[str], list[tuple[str, str, str]], list[str]]:
    table = sample.table
    missing = ("", *missing_texts(table))
    profiles = [profile(name, table[name], missing) for name in form.names]
    try:
        targets = distinct([find_target(profiles, table, label, missing) for label in labels])
    except ConfigError as error:
        if form.header:
            raise
        count = len(form.names)
        raise ConfigError(f"{error}\n({form.why}; so its {count} columns are called c1 .. c{count})") from None
    guesses = guess_all(profiles, targets)
    if not any(g.role == "slot" for g in guesses):
        raise ConfigError(
            "no column is left that a model could learn from: "
            + "; ".join(f"{scalar(g.column)}: {g.why}" for g in guesses[:8])
        )
    if len(targets) == 1:
        lines = [*_format(form), reason("labels:", targets[0].why), f"  {label_line(targets[0])}"]
    else:
        lines = [*_format(form), reason("labels:", "the first is the main one: it stops the training")]
        lines += [reason(f"  {label_line(target)}", target.why) for target in targets]
        lines += nested_lines(targets)
    lines += ["slots:"]
    lines += [_slot_line(g) for g in guesses if g.role == "slot"]
    others = [g for g in guesses if g.role in ("out", "time")]
    if others:
        lines += ["  # left out:", *(_slot_line(g) for g in others)]
    # a row without one label of several still teaches the others
    drop = {k: v for t in targets for k, v in t.drop.items() if v != "" or len(targets) == 1}
    if drop:
        gone = "unknown label" if "" not in drop.values() else "missing label"
        lines.append(reason(f"drop: {flow(_keyed(drop))}", f"rows with {gone}"))
    texts = ", ".join(f'"{t}"' if t != "\\N" else "'\\N'" for t in missing)
    if len(missing) > 1:
        lines.append(reason(f"missing: [{texts}]", "these texts stand among numbers"))
    lines += [_min_count(sample), *_split(guesses, profiles, sample)]
    told = [(target.column, "label", target.why) for target in targets] + [
        (g.column, _becomes(g), g.why) for g in guesses
    ]
    notes = [f"look at {scalar(g.column)}: {g.why}" for g in guesses if g.warn] + nested_notes(targets)
    if asked is None:
        notes.insert(
            0, "recognised: MovieLens ratings; the label is a rating above the cut (another: --label 'rating>4')"
        )
    return lines, told, notes


def _keyed(drop: dict[str, str | int | float]) -> dict[str, str | int | float]:
    return {scalar(key): value for key, value in drop.items()}


def _format(form: Format) -> list[str]:
    if form.parquet:
        return []
    lines = [reason(f"delimiter: {scalar(form.delimiter)}", form.why)]
    if not form.header:
        lines += ["header: false", f"names: [{', '.join(map(scalar, form.names))}]"]
    return lines


def _slot_line(g: Guess) -> str:
    mark = "  - " if g.role == "slot" else "  # - "
    return reason(mark + flow(g.entry), g.why)


def _becomes(g: Guess) -> str:
    if g.role != "slot":
        return {"out": "left out", "time": "time", "split": "split"}[g.role]
    return " ".join(str(g.entry[k]) for k in ("kind", "buckets") if k in g.entry) or "categorical"


def _min_count(sample: Sample) -> str:
    least = 2 if sample.rows < 200_000 else 5 if sample.rows < 5_000_000 else 10
    return reason(f"min_count: {least}", f"rarer values share one row; for about {sample.rows:,} rows")


def _split(guesses: list[Guess], profiles: list[Profile], sample: Sample) -> list[str]:
    share = 0.1 if sample.rows >= 2000 else 0.2
    random = f"split: {{by: random, valid: {share}, test: {share}, seed: 0}}"
    for g in guesses:
        if g.role == "split":
            values = part_values(next(p for p in profiles if p.name == g.column))
            keys = [f"by: column, column: {scalar(g.column)}"]
            keys += [f"{part}_values: [{', '.join(map(scalar, v))}]" for part, v in values.items() if v]
            if not values["valid"]:
                keys.append("valid_values: [], valid_from: train, valid: 0.1")
            if not values["test"]:
                keys.append("test_values: []")
            return [reason(f"split: {{{', '.join(keys)}}}", g.why), f"# {random}"]
    lines = [random]
    ordered = sorted((g for g in guesses if g.role == "time"), key=lambda g: ", in the log's order" not in g.why)
    for g in ordered[:1]:
        entry = f"# split: {{by: time, column: {scalar(g.column)}, valid: 0.1, test: 0.1}}"
        lines.append(reason(entry, "train on the past, judge on the future: nearer to the truth of a live system"))
    return lines
