"""search: the whole road, skipping what is already done for the same inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from autodim import artifact
from autodim.config.schema import Config
from autodim.config.writer import to_yaml
from autodim.data.encoded import EncodedLog
from autodim.stages.environment import environment
from autodim.stages.evaluate import evaluate
from autodim.stages.memory import check_memory
from autodim.stages.preconditions import check_log, check_model, check_served
from autodim.stages.prepare import prepare
from autodim.stages.pretrain import pretrain
from autodim.stages.prune import check_feasible, prune
from autodim.stages.report import write_report
from autodim.stages.retrain import retrain
from autodim.stages.run import STAGES, Run
from autodim.stages.session import Session
from autodim.training.device import set_up
from autodim.training.interrupt import StopFlag
from autodim.training.progress import Progress

SETTINGS = ("config.yaml", "environment.json")


def search(
    config: Config,
    progress: Progress,
    stages: Sequence[str] = STAGES,
    frame: pd.DataFrame | None = None,
    widths: Path | None = None,
    report: bool = True,
) -> Run:
    """Walk the road in a run's folder, or some of its stages.

    Args:
        config: the resolved config; `config.run` names the folder.
        stages: which stages to walk, in order; earlier ones must be finished.
        frame: rows given as a DataFrame.
        widths: a widths file for `retrain`.

    Returns:
        The run.

    Raises:
        Interrupted: SIGINT or SIGTERM; the same command continues.
        AutodimError: see the stages.
    """
    folder = Path(config.run)
    device = set_up(config.device, config.threads)
    run = Run(folder, config, say=progress.line)
    with artifact.disk_errors(folder), artifact.Lock(folder), StopFlag() as stop:
        session = Session(device, progress, stop)
        run.tidy()
        fresh = not (folder / "config.yaml").exists()
        if fresh:
            write_config(run)
        check_log(run, stages, session, frame)
        log = prepare(run, session, frame)
        check_model(run, stages, log, widths)
        if "prune" in stages:
            check_feasible(config, log)
        warning = check_memory(config, log, device) if "pretrain" in stages and not run.done("pretrain") else None
        run.unseal()  # only now: a command that is refused leaves a run as it was
        if not fresh:
            write_config(run)
        if warning:
            progress.line(warning)
        if "pretrain" in stages:
            pretrain(run, log, session)
            stop.check()
        if "prune" in stages:
            prune(run, log, session)
            stop.check()
        if "retrain" in stages:
            retrain(run, log, session, widths)
            stop.check()
        if "evaluate" in stages:
            evaluate(run, log, session)
        if report and "evaluate" in stages:
            write_report(run)
        run.write_views()
        run.seal()
    return run


def prepared(run: Run, session: Session) -> EncodedLog:
    """The log of a folder that a command beside the road works in. Its config becomes the folder's: of a fresh folder
    at once, of one that is there when its log was read without complaint."""
    fresh = not (run.folder / "config.yaml").exists()
    if fresh:
        write_config(run)
    check_served(run, session)
    log = prepare(run, session)
    if not fresh:
        run.unseal(*SETTINGS)
        write_config(run)
        run.reseal(*SETTINGS)
    return log


def write_config(run: Run) -> None:
    """Keep the resolved config, and the environment, in the folder."""
    artifact.write_text(run.folder / "config.yaml", to_yaml(run.config))
    artifact.write_json(run.folder / "environment.json", environment())
