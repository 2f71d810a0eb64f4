"""The scoring pass, kept beside the model that was scored, and the statistics that strategies read of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from autodim import artifact
from autodim.config.schema import Config
from autodim.data.encoded import EncodedLog
from autodim.dimension.block_moments import block_moments
from autodim.dimension.blocks import Spans, cut_rows, part, spans_key
from autodim.dimension.spectral_tensors import from_tensors
from autodim.dimension.statistics import Statistics
from autodim.dimension.tasks import weighed
from autodim.stages.holdout import inputs_of
from autodim.stages.importance import importance
from autodim.stages.pretrain import run_result
from autodim.stages.run import Run
from autodim.stages.score import score
from autodim.stages.session import Session
from autodim.stages.task_scores import split_tasks
from autodim.training.checkpoints import load_tensors, save_tensors
from autodim.training.finite import check_tensors, check_weights
from autodim.training.network import Network


def row_counts(log: EncodedLog) -> dict[str, np.ndarray]:
    """Training count of each row of each table."""
    return {t.name: log.counts(t.name).numpy() for t in log.tables}


def cached_score(
    run: Run, network: Network, log: EncodedLog, session: Session, spans: Spans | None = None
) -> tuple[Statistics, dict[str, Tensor]]:
    """The scoring pass, once per trained model and choice of rows: budgets and strategies share it.

    Args:
        spans: the blocks of cut tables; default: as the config says.

    Returns:
        The statistics, and the mean vector of each slot (and of each slot at each block).
    """
    settings = run.config.prune
    if spans is None:
        spans = cut_rows(log.slots, log.tables, settings.blocks, row_counts(log)) if settings.blocks.slots else {}
    key = artifact.digest(
        {
            **spans_key(spans),
            "format": 5,
            "model": run_result(run, "pretrain"),
            "on": settings.on,
            "rows": settings.rows,
            "curvature": settings.curvature,
            **inputs_of(log),
        }
    )[:16]
    folder = run.stage("pretrain") / f"scores-{key}"
    if not artifact.is_valid(folder):
        check_weights(network, str(run.stage("pretrain") / "model"))
        held, several = log.part(settings.on), bool(log.logs("train"))
        found = score(network, held, session, settings.rows, settings.curvature, spans, log.tasks, several)
        check_tensors(found, "prune: scoring")
        with artifact.fresh_directory(folder) as temporary:
            save_tensors(temporary / "scores.safetensors", found)
            artifact.write_json(
                temporary / "about.json", {"rows": min(settings.rows or 2**62, len(log.part(settings.on)))}
            )
    tensors, rows = load_tensors(folder / "scores.safetensors"), artifact.read_json(folder / "about.json")["rows"]
    statistics, means = weighed_statistics(tensors, rows, log, run.config)
    if settings.precision == "auto":
        statistics = replace(statistics, extra={**statistics.extra, "rows": sampled_rows(network, log, spans)})
    return statistics, means


def weighed_statistics(
    tensors: dict[str, Tensor], rows: int, log: EncodedLog, config: Config
) -> tuple[Statistics, dict[str, Tensor]]:
    """What `score` found on a log, its main tasks weighed by their `importance`; and the mean vector of each slot."""
    factors = importance(config, log)
    statistics, means = statistics_of(tensors, rows, list(factors))
    if any(factors[name] != 1 for name in statistics.tasks):
        statistics = weighed(statistics, factors, signed=True)
    return statistics, means


def sampled_rows(
    network: Network, log: EncodedLog, spans: Spans | None = None, most: int = 4096
) -> dict[str, np.ndarray]:
    """Rows of each table of a uniform network, m x D float64, drawn evenly by how often training reads them: what
    rounding to fewer bits is judged by. Of cut tables also those of each block, under its name."""
    found = {}
    for table in log.tables:
        weight = network.tables.read(table.name)["weight"]
        counts = np.maximum(log.counts(table.name).numpy(), 0).astype(np.float64)
        parts = {part(table.name, a, b): (a, b) for a, b in (spans or {}).get(table.name, ())}
        for name, (start, stop) in {table.name: (0, table.rows), **parts}.items():
            reads = np.cumsum(counts[start:stop])
            count = min(most, max(stop - start, 256))
            if reads[-1] <= 0:
                reads = np.arange(1.0, stop - start + 1)
            index = start + np.searchsorted(reads, (np.arange(count) + 0.5) / count * reads[-1])
            found[name] = weight[torch.from_numpy(index).to(weight.device)].double().cpu().numpy()
    return found


def statistics_of(
    tensors: dict[str, Tensor], rows: int, tasks: Sequence[str] = ()
) -> tuple[Statistics, dict[str, Tensor]]:
    """Statistics from the tensors that `score` returns: `g/`, `half0/`, `half1/`, `magnitude/` TABLE, `mean/` SLOT, and
    those of `dimension.spectral_tensors`.

    Args:
        tasks: names of the main tasks.
    """
    tensors, parts = split_tasks(tensors)
    own = {name: statistics_of(part, rows)[0] for name, part in zip(tasks, parts, strict=True)} if parts else {}

    def named(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    def arrays(prefix: str) -> dict[str, np.ndarray]:
        return {k: v.numpy() for k, v in named(prefix).items()}

    halves = (arrays("half0/"), arrays("half1/"))
    if not tensors:
        return Statistics(rows=rows), {}  # a log without slots
    everything, first, second = (
        whole | parts for whole, parts in zip(from_tensors(tensors), block_moments(tensors), strict=True)
    )
    extra: dict[str, object] = {"spectral": everything}
    if first:
        extra["spectral_halves"] = (first, second)
    return Statistics(arrays("g/"), arrays("magnitude/"), halves, rows, extra, own), named("mean/")
