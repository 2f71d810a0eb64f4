"""prepare: a raw log becomes encoded columns."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from autodim import artifact
from autodim.config.schema import DataConfig
from autodim.data.encode import encode
from autodim.data.encoded import EncodedLog
from autodim.data.manifest import config_hash, content_hash, source_hash
from autodim.data.reader import Progress
from autodim.errors import DataError, RunError
from autodim.stages.advice import CONTINUED
from autodim.stages.holdout import held_out
from autodim.stages.run import Run
from autodim.stages.session import Session

PARTS = ("train", "valid", "test")


def prepare(run: Run, session: Session, frame: pd.DataFrame | None = None) -> EncodedLog:
    """Encode the log into RUN/data, once for the same config and source.

    Args:
        frame: rows given as a DataFrame instead of `data.path`.

    Returns:
        The log; with a budget by quality some validation rows are set apart in it (`autodim.stages.holdout`).

    Raises:
        DataError: the log is not as it was described (file, line, column and what to do).
    """
    data = run.config.data
    inputs = known_inputs(run, session, frame)
    if run.up_to_date("prepare", inputs):
        session.progress.line("prepare: up to date")
        log = open_log(run)
        check_parts(log)
        return held_out(log, run.config)
    with run.working("prepare", inputs) as folder, artifact.fresh_directory(folder / "log") as temporary:
        encode_with_progress(data, temporary, session, frame)
    log = open_log(run)
    check_parts(log)
    rows = {part: len(log.part(part)) for part in PARTS}
    accounted = log.manifest.rows
    session.progress.line(
        f"prepare: {accounted.read:,} rows read = {accounted.used:,} used + {accounted.dropped:,} dropped + "
        f"{accounted.rejected:,} rejected; train {rows['train']:,}, valid {rows['valid']:,}, test {rows['test']:,}; "
        f"{len(log.slots)} slots, {sum(t.rows for t in log.tables):,} ids"
    )
    if logs := log.logs("train"):
        names = (Path(one.path).name for one in data.logs)
        counts = ", ".join(f"{name} {one.stop - one.start:,}" for name, one in zip(names, logs, strict=True))
        session.progress.line(f"prepare: training rows by log: {counts}")
    say_collisions(log, session)
    return held_out(log, run.config)


def prepare_inputs(data: DataConfig, frame: pd.DataFrame | None = None) -> str:
    """The hash of what the stage is made from: the config's section and the log."""
    section = data.model_dump(mode="json", exclude={"memory"})  # the result does not depend on it
    return artifact.digest({"data": section, "source": source_hash(data, Path.cwd(), frame)})


def say_collisions(log: EncodedLog, session: Session) -> None:
    """What hashing costs: values that share their row with another one."""
    for table in log.manifest.tables:
        if table.hashed is not None:
            about = "" if table.hashed.exact else "about "
            session.progress.line(
                f"prepare: {table.name}: {about}{table.hashed.distinct:,} distinct values hashed into "
                f"{table.hashed.buckets:,}; {about}{table.collisions:,} share their row with another"
            )


def check_parts(log: EncodedLog) -> None:
    """A search needs all three parts: one trains, one chooses, one judges; and the first two need every label.

    Raises:
        DataError: a part without rows, or one to train or to choose by without a label.
    """
    rows = {part: len(log.part(part)) for part in PARTS}
    for part, count in rows.items():
        if not count:
            shown = ", ".join(f"{name} {number:,}" for name, number in rows.items())
            raise DataError(f"data.split: no row is in the part {part} (rows: {shown}); give every part some")
    for part in ("train", "valid"):
        for label, mean in zip(log.labels, log.manifest.parts[part].positive_rate, strict=True):
            if mean is None:
                raise DataError(
                    f"data.split: no row of the part {part} has the label {label!r} ({rows[part]:,} rows); cut the "
                    "parts where each has some, or leave the label out"
                )


def encode_with_progress(
    data: DataConfig,
    folder: Path,
    session: Session,
    frame: pd.DataFrame | None = None,
) -> None:
    """Encode a log and show how far it is; a signal stops it between two pieces."""
    encode(data, folder, Path.cwd(), progress=_teller(session, frame), source=frame)
    check_written(folder)


def known_inputs(run: Run, session: Session, frame: pd.DataFrame | None = None) -> str:
    """`prepare_inputs`, those of the encoded log where it is of the same values; it is noted that it is, so that they
    are read for that once."""
    inputs, done = prepare_inputs(run.config.data, frame), run.done("prepare")
    if done is None or not same_log(run, inputs, session, frame):
        return inputs
    if (run.folder / CONTINUED).is_file():
        return done.inputs  # those of the continuation, whose ids hold
    session.progress.line("prepare: the log lies elsewhere or was written anew; every byte is the same")
    run.adopt("prepare", inputs)
    return inputs


def same_log(run: Run, inputs: str, session: Session, frame: pd.DataFrame | None = None) -> bool:
    """Whether the encoded log is of other inputs by name, place or time alone, and of the very same values.

    Cost: a reading of the log, where the encoded one is of the same data section.
    """
    done = run.done("prepare")
    if done is None or done.inputs == inputs:
        return False
    try:
        known = open_log(run).manifest
    except RunError:
        return False
    data = run.config.data
    return known.config_hash == config_hash(data) and known.source_hash == content_hash(
        data, Path.cwd(), frame, _teller(session, frame)
    )


def _teller(session: Session, frame: pd.DataFrame | None) -> Progress:
    begun = ""

    def tell(what: str, done: int, total: int) -> None:
        nonlocal begun
        session.stop.check()
        if what != begun:
            read = "B" if frame is None else "rows"
            unit = {"reading": read, "comparing": "B", "ordering": "tables"}.get(what, "pieces")
            session.progress.start(f"prepare: {what}", total, unit, done=done)
            begun = what
        session.progress.update(done)

    return tell


def check_written(folder: Path) -> None:
    """Compare the sizes of all files with what they must be: numpy does not notice that a full disk took less.

    Raises:
        RunError: a file is shorter than what was written to it.
    """
    log = EncodedLog.open(folder)
    try:
        for part in PARTS:
            log.part(part)
        for table in log.tables:
            log.counts(table.name)
    except RunError as error:
        text = str(error).removesuffix("; run prepare again")
        raise RunError(
            f"{text}: the log could not be written whole; free some space and run the same command again "
            f"({sum(f.stat().st_size for f in folder.rglob('*') if f.is_file()):,} bytes were)"
        ) from error


def open_log(run: Run) -> EncodedLog:
    """The run's encoded log. Rows are checked where a stage is found up to date, and not again here: that reads the
    whole log.

    Raises:
        RunError: missing, or its manifest or a vocabulary is damaged.
    """
    folder = run.need("prepare") / "log"
    artifact.verify(folder, only=lambda name: "/" not in name)
    return EncodedLog.open(folder)
