"""oracle: what the one-shot scores are worth, judged by brute force on a pretrained model.

RUN/oracle/oracle.json   rank correlations with `mask_exact`, and predicted against measured changes of the loss
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autodim import artifact
from autodim.config.schema import Config
from autodim.dimension.budget import resolve
from autodim.dimension.moments import Moments
from autodim.dimension.problem import Problem
from autodim.dimension.scores import Floats, spearman
from autodim.dimension.statistics import Statistics
from autodim.embedding.layout import uniform_layout
from autodim.stages.cutter import Cutter
from autodim.stages.evidence.mask_exact import mask_exact
from autodim.stages.evidence.question import Question
from autodim.stages.model_folder import load_network
from autodim.stages.pretrain import pretrain, run_result
from autodim.stages.prune import problem_of
from autodim.stages.run import Run
from autodim.stages.scores import cached_score
from autodim.stages.search import prepared
from autodim.stages.session import Session
from autodim.stages.sweep import Measure
from autodim.training.device import set_up
from autodim.training.interrupt import StopFlag
from autodim.training.progress import Progress


def oracle(
    config: Config, strategies: Sequence[str], shares: Sequence[float], progress: Progress, part: str = "test"
) -> dict[str, Any]:
    """Judge the scores of one pass; of tables that are cut into blocks of rows, those of each block.

    Args:
        config: the resolved config; stages that are not finished are run (prepare, pretrain, the scoring pass).
        strategies: whose cuts are predicted and measured.
        shares: their budgets, of what the uniform model spends.
        part: rows on which cuts are measured.

    Returns:
        `scores`: per score its Spearman correlation with the rise of the loss that each masked dimension causes, and
        with the size of that change (None where undefined). `masks`: predicted against measured change over all single
        masked dimensions, on the scored rows. `cuts`: the same over whole cuts, on `part`, with the points.

    Raises:
        Interrupted: a signal came; what was measured is kept where it is dear (`mask_exact`).

    Cost: tables x D + 1 evaluations on the scored rows (`prune.rows` bounds them), and one for each cut.
    """
    device = set_up(config.device, config.threads)
    run = Run(Path(config.run), config, say=progress.line)
    with artifact.Lock(run.folder), StopFlag() as stop:
        session = Session(device, progress, stop)
        log = prepared(run, session)
        pretrain(run, log, session)
        network, _ = load_network(run.stage("pretrain") / "model", device)
        statistics, means = cached_score(run, network, log, session)
        problem = problem_of(config, log, run_result(run, "pretrain"))
        budget = resolve(config.prune.budget, problem.cost, uniform_layout(log.slots, log.tables, config.model.width))
        rises = mask_exact(Question(run, network, log, session, problem, budget, statistics, means))
        measure = Measure(Cutter(run, log, session), log.part(part))
        points = []
        for name in strategies:
            for share in shares:
                row = measure.cut(name, share)
                if row.predicted is not None and row.measured is not None:
                    about = {"strategy": name, "share": share}
                    points.append({**about, "predicted": row.predicted, "measured": row.measured})
                stop.check()
    found = {
        "scored": {"part": config.prune.on, "rows": statistics.rows, "dimensions": sum(map(len, rises.values()))},
        "scores": correlations(problem, statistics, rises),
        "masks": agreement(
            np.concatenate([marginal(problem, statistics.extra["spectral"], t) for t in rises]),
            np.concatenate(list(rises.values())),
        ),
        "cuts": {
            "part": part,
            **agreement(np.array([p["predicted"] for p in points]), np.array([p["measured"] for p in points])),
            "points": points,
        },
    }
    (run.folder / "oracle").mkdir(parents=True, exist_ok=True)
    artifact.write_json(run.folder / "oracle" / "oracle.json", found)
    return found


def correlations(problem: Problem, statistics: Statistics, rises: Mapping[str, Floats]) -> list[dict[str, Any]]:
    """Spearman of each one-shot score with the brute-force one, over all dimensions of all tables."""
    exact = np.concatenate(list(rises.values()))
    scores = {
        "sseds": np.concatenate([np.abs(statistics.scores[t]) for t in rises]),
        "sseds, signed": np.concatenate([-statistics.scores[t] for t in rises]),  # a gain from masking is not a loss
        "spectral, diagonal": np.concatenate([marginal(problem, statistics.extra["spectral"], t) for t in rises]),
        "magnitude": np.concatenate([statistics.magnitude[t] for t in rises]),
    }
    return [
        {"score": name, "spearman": spearman(values, exact), "spearman_of_size": spearman(values, np.abs(exact))}
        for name, values in scores.items()
    ]


def marginal(problem: Problem, moments: Mapping[str, Moments], table: str) -> Floats:
    """D predicted changes of the mean loss, in nats: of masking each axis of a table, first order and curvature."""
    common = problem.common
    found = np.zeros(common)
    for j in range(common):
        matrix = np.eye(common)
        matrix[j, j] = 0.0
        found[j] = sum(moments[s].change(matrix, np.zeros(common)) for s in problem.limits[table].slots)
    return found


def agreement(predicted: Floats, measured: Floats) -> dict[str, float | int | None]:
    """How measured values follow predicted ones: least-squares slope, Pearson correlation, number of points."""
    count = len(predicted)
    if count < 2 or predicted.std() == 0 or measured.std() == 0:
        return {"slope": None, "correlation": None, "count": count}
    covariance = float(((predicted - predicted.mean()) * (measured - measured.mean())).mean())
    return {
        "slope": covariance / float(predicted.var()),
        "correlation": covariance / float(predicted.std() * measured.std()),
        "count": count,
    }
