"""relate: how the tasks of a log are related, measured by short trainings (`autodim.multitask.relatedness`).

RUN/relate/relate.json    every pair: transfer, affinity, cosines, each with its 95 % interval; the losses behind them
RUN/relate/relate.html    heat maps, the course over the training, a sentence a pair
RUN/relate/parts/         one training each; run again, it is not trained again
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autodim import artifact
from autodim.config.schema import Config
from autodim.errors import ConfigError
from autodim.multitask.relatedness import GROUPS
from autodim.report.related import Pair, pairs
from autodim.report.related_page import related_page
from autodim.stages.relate_parts import Parts, Question
from autodim.stages.run import Run
from autodim.stages.search import prepared
from autodim.stages.session import Session
from autodim.training.device import set_up
from autodim.training.interrupt import StopFlag
from autodim.training.progress import Progress


def relate(config: Config, question: Question, progress: Progress) -> tuple[dict[str, Any], list[Pair]]:
    """Measure every ordered pair of tasks; also in RUN/relate.

    The shared part is that of the config's model where all that is a task's own reads shared features
    (`shared_bottom`, `omoe`, `mmoe`), otherwise of a shared bottom on the same input. Losses are the best of a
    training on the validation rows; the test rows are not read. Settings of training are `pretrain`'s, with the plain
    sum for the joint training, over shuffled epochs, without a plateau.

    Returns:
        What relate.json holds, and its pairs.

    Raises:
        ConfigError: fewer than two labels.

    Cost: 2 T + 2 trainings a seed, T + 1 of them of heads only; it is said before they start.
    """
    if len(config.data.labels) == 1:
        raise ConfigError("data.labels: found 1, expected two or more: relatedness is of pairs of tasks")
    run = Run(Path(config.run), config, say=progress.line)
    with artifact.Lock(run.folder), StopFlag() as stop:
        session = Session(set_up(config.device, config.threads), progress, stop)
        log = prepared(run, session)
        if len(log.labels) < 2:
            raise ConfigError(
                f"data.labels: found {len(log.labels)}, expected two or more: relatedness is of pairs of tasks"
            )
        parts = Parts(run, log, session, question)
        progress.line(parts.cost())
        records = [parts.record(seed) for seed in question.seeds]
    found = pairs(log.labels, records, GROUPS)
    notes = parts.notes()
    result = {
        "tasks": list(log.labels),
        "model": parts.model.model_dump(mode="json"),
        "seeds": list(question.seeds),
        "lookahead": question.lr,
        "notes": notes,
        "pairs": [p.to_json() for p in found],
        "losses": [{"seed": r.seed, "control": r.control, "trained": r.trained} for r in records],
    }
    folder = run.folder / "relate"
    artifact.write_json(folder / "relate.json", result)
    artifact.write_text(folder / "relate.html", related_page(run.folder.name, log.labels, found, notes))
    return result, found
