"""A training with learned soft thresholds (PEP), and what it leaves of each table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from autodim.dimension.scores import Floats
from autodim.embedding.layout import uniform_layout
from autodim.embedding.tables import Tables
from autodim.models import build_model, model_class
from autodim.stages.evidence.question import Question, kept
from autodim.stages.pretrain import train_network
from autodim.training.history import best_words
from autodim.training.seeds import derive, generator
from autodim.training.soft_threshold import ThresholdNetwork, extra_columns


def pep(question: Question) -> dict[str, Floats]:
    """Per table 2 D numbers: the margin `|V| - g(s)` that is reached by n/2, n, 3n/2 .. D n of its entries.

    The training is that of `pretrain` (optimizers, batches, early stopping) from fresh weights, `prune.pep.epochs` at
    most, on the training rows; it resumes after an interruption.

    Cost: one training; with thresholds of ids and dimensions the tables are twice as wide.
    """
    config = question.run.config
    settings = config.prune.pep
    seed = derive(question.problem.seed, "pep")

    def work(desk: Path) -> dict[str, list[float]]:
        network = threshold_network(question, seed)
        train = config.pretrain.model_copy(update={"epochs": settings.epochs})
        question.session.progress.line("pep: one training with learned thresholds")
        trained = train_network(network, question.log, train, seed, _folder(desk), question.session)
        spans = {t: question.problem.span(t) for t in question.problem.limits}
        margins = {t: network.margins(table)[start:stop] for t, (table, start, stop) in spans.items()}
        shares = {t: float((m > 0).double().mean()) for t, m in margins.items()}
        told = ", ".join(f"{t} {share:.0%}" for t, share in shares.items())
        question.session.progress.line(f"pep: valid {best_words(trained.best)}; entries kept: {told}")
        return {t: quantiles(m.cpu().numpy()).tolist() for t, m in margins.items()}

    key = {
        "model": question.problem.source,
        "train": config.pretrain.model_dump(mode="json"),
        "pep": settings.model_dump(mode="json"),
        "seed": seed,
        **question.spans_key(),
    }
    return {t: np.array(v) for t, v in kept(question, "pep", key, work).items()}


def _folder(desk: Path) -> Path:
    folder = desk / "pep"  # the training's title is its folder's name
    folder.mkdir(exist_ok=True)
    return folder


def threshold_network(question: Question, seed: int) -> ThresholdNetwork:
    """A fresh network with thresholds, for the log."""
    config, log = question.run.config, question.log
    settings, common = config.prune.pep, config.model.width
    layout = uniform_layout(log.slots, log.tables, common + extra_columns(settings.granularity, common))
    tables = Tables(layout, linear=model_class(config.model.name).uses_linear)
    tables.initialise(config.model.init_std, generator(seed, "tables"))
    with torch.no_grad():
        for group in tables.groups:
            if isinstance(group.weight, torch.Tensor):
                group.weight[:, common:] = 0
    numeric = log.part("train").numeric.shape[1]
    model = build_model(config.model, len(log.slots), numeric, len(log.labels), derive(seed, "model"))
    return ThresholdNetwork(tables, model, common, settings.granularity, settings.start)


def quantiles(margins: Floats) -> Floats:
    """The margins at ranks n/2, n, 3n/2 .. D n (rounded up) of n x D margins, falling: 2 D numbers."""
    rows, common = margins.shape
    ordered = np.sort(margins.astype(np.float64), axis=None)[::-1]
    ranks = np.ceil(np.arange(1, 2 * common + 1) * rows / 2).astype(np.int64)
    return ordered[ranks - 1]
