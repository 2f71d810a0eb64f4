"""pretrain: the uniform model, every slot at one deliberately generous width."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from autodim import artifact
from autodim.config.schema import ModelConfig, TrainConfig
from autodim.data.batches import Order
from autodim.data.encoded import EncodedLog
from autodim.data.tasks import Task
from autodim.embedding.layout import Layout, uniform_layout
from autodim.embedding.tables import Tables
from autodim.errors import DataError
from autodim.multitask.base import Sharing
from autodim.optim.build import Rules, build_rules
from autodim.stages.model_folder import build_network, save_network
from autodim.stages.run import Run
from autodim.stages.session import Session
from autodim.training.alternate import Alternate
from autodim.training.checkpoints import Checkpoints, save_state
from autodim.training.course import Course, Windows, cut_windows, period_length
from autodim.training.device import use_bf16
from autodim.training.distill import distilled
from autodim.training.feed import fits
from autodim.training.history import FitResult, best_words
from autodim.training.loop import Training
from autodim.training.network import Network
from autodim.training.seeds import derive
from autodim.training.step import Step, Weighting
from autodim.weighting.build import base_rate_losses, build_weighting


def pretrain(run: Run, log: EncodedLog, session: Session) -> None:
    """Train the uniform model into RUN/pretrain/model, early-stopped on the first label's validation AUC; or take it
    from a checkpoint.

    Raises:
        TrainingError: the loss is not finite. Interrupted: a signal came; run again to continue.
    """
    from autodim.stages.import_weights import import_network  # which builds networks as this does
    from autodim.stages.pretrain_inputs import other_stop, pretrain_inputs

    config = run.config
    inputs = pretrain_inputs(run, log)
    if why := other_stop(run, log):
        session.progress.line(f"pretrain: {why}")
    if run.up_to_date("pretrain", inputs):
        session.progress.line("pretrain: up to date")
        return
    if config.pretrain.weights is not None:
        with run.working("pretrain", inputs) as folder:
            line = import_network(config, log, folder, session)
        session.progress.line(line)
        return
    with run.working("pretrain", inputs) as folder:
        layout = uniform_layout(log.slots, log.tables, config.model.width)
        network = build_log_network(config.model, layout, log, derive(config.seed, "pretrain"))
        seed = derive(config.seed, "pretrain")
        trained = train_network(network, log, config.pretrain, seed, folder, session)
        finish(folder, network, config.model, log, trained)
    session.progress.line(summary("pretrain", trained))


def build_log_network(model: ModelConfig, layout: Layout, log: EncodedLog, seed: int) -> Network:
    """A fresh network that fits a log's slots, numeric columns and labels; towers begin at the labels' rates."""
    network = build_network(model, layout, log.part("train").numeric.shape[1], len(log.labels), seed)
    if isinstance(network.model, Sharing):
        network.model.start(base_logits(log.tasks))
    return network


def base_logits(tasks: Sequence[Task]) -> torch.Tensor:
    """T logits of the labels' rates; 0 for a regression, whose numbers are standardised, and without any label."""
    rates = torch.tensor([0.5 if task.rate is None else task.rate for task in tasks], dtype=torch.float64)
    return rates.logit(eps=1e-6)


def train_network(
    network: Network,
    log: EncodedLog,
    config: TrainConfig,
    seed: int,
    folder: Path,
    session: Session,
    teacher: tuple[Network, float] | None = None,
    start: Callable[[list[torch.optim.Optimizer]], None] | None = None,
    counts_start: bool = False,
) -> FitResult:
    """Train a network on a log with the optimizers that the config names; checkpoints in the folder, which is
    named after the stage.

    Args:
        teacher: the uncut network and the share of its probabilities in the training labels.
        start: puts the optimizers where an earlier training left them, for an online continuation.
        counts_start: the network is a trained one, and stays as it is where no evaluation is better (see `Training`).
    """
    train, valid = log.part("train"), log.part("valid")
    for name, part in (("train", train), ("valid", valid)):
        if len(part) == 0:
            raise DataError(f"split: the {name} part has no rows; expected some; change data.split")
    device = session.device
    network.to(device)
    rules = log_rules(network, config, log)
    step = Step(
        network,
        rules.optimizers,
        log_weighting(network, config, log),
        perturbation=rules.perturbation,
        clippers=rules.clippers,
        missing=bool(torch.isnan(train.labels).any()),
        bf16=use_bf16(config.bf16, device),
        pieces=config.accumulate,
        tasks=log.tasks,
    )
    if device.type != "cpu":  # a part lies on the device as a whole where it fits; otherwise its batches travel
        train, valid = (part.to(device) if fits(part, device) else part for part in (train, valid))
    if teacher is not None:
        train = distilled(train, teacher[0].to(device), teacher[1], device, log.tasks)
    course = log_course(config, log, seed)
    where = folder / "checkpoints"
    training = Training(network, step, (train, valid), config, seed, where, rules.schedules, course, counts_start)
    if start is not None:
        start(rules.optimizers)
    result = training.run(session.progress, folder.name, session.stop)
    kept = training.best_optimizers()
    if kept is not None:
        save_state(folder / "optimizer", *kept)
    return result


def log_windows(config: TrainConfig, log: EncodedLog, seed: int) -> Windows:
    """The windows of a log's training rows that the config names.

    Raises:
        ConfigError: a period that the time column cannot have, or too few of them. RunError: no times were kept.
    """
    assert config.windows is not None
    times = log.times("train")
    period = period_length(config.windows.period, log.manifest.time or "")
    windows = cut_windows(times, period, config.windows.size, config.windows.stride)
    return Windows(windows, config.batch, config.epochs, derive(seed, "order"))


def log_course(config: TrainConfig, log: EncodedLog, seed: int) -> Course | None:
    """Windows over time, or several logs in turns; None: epochs over all rows.

    Raises:
        ConfigError, RunError: as `log_windows`.
    """
    return log_turns(config, log, seed) if config.windows is None else log_windows(config, log, seed)


def log_turns(config: TrainConfig, log: EncodedLog, seed: int) -> Alternate | None:
    """Several logs in turns; None: there is one, or all rows are mixed."""
    logs = log.logs("train")
    if not logs or config.alternate == "never":
        return None
    order = derive(seed, "order")
    return Alternate(
        logs, len(log.labels), config.batch, config.epochs, config.evals_per_epoch, order, config.alternate
    )


def log_rules(network: Network, config: TrainConfig, log: EncodedLog) -> Rules:
    """Everything that turns gradients into updates, for a network on its device and the training rows of a log."""
    rules = config.optimizer
    steps = Order(len(log.part("train")), config.batch, 0).steps_per_epoch
    epochs = config.epochs
    course = log_course(config, log, 0)
    if course is not None:  # a schedule runs over all windows; the mean window is its epoch
        epochs, steps = course.epochs, max(1, course.total // course.epochs)
    l2 = rules.tables.l2 or any(one.l2 for one in rules.clip)
    return build_rules(
        rules,
        network,
        epochs=epochs,
        steps_per_epoch=steps,
        counts={table.name: log.counts(table.name) for table in log.tables},
        l2_scales=l2_scales(network.tables, log, config.batch) if l2 else None,
    )


def log_weighting(network: Network, config: TrainConfig, log: EncodedLog) -> Weighting | None:
    """The weighting that a config names, for a network on its device and the tasks of a log; None: the plain sum."""
    if config.accumulate > 1 and config.weighting.name == "uniform":
        return None  # the same sum, without gauges that would see pieces
    train, turns = log.part("train"), log_turns(config, log, 0)
    epoch = Order(len(train), config.batch, 0).steps_per_epoch if turns is None else turns.steps
    return build_weighting(
        config.weighting,
        network,
        log.labels,
        steps_per_epoch=epoch,
        base_losses=base_rate_losses(train.labels) if config.weighting.initial == "base_rate" else None,
    )


def l2_scales(tables: Tables, log: EncodedLog, batch: int) -> list[torch.Tensor]:
    """Per table tensor the factors (n) that make lazy L2 equal a dense penalty in expectation: 1 / P(row in batch).

    The probability is that of a row with `c` occurrences among N training rows, `1 - exp(-c batch / N)`; rows that
    never occur are never touched. Several logs in turns: the same to first order (`equal`: rows of shorter logs are
    touched, and drawn to zero, as much more often as their log goes round).
    """
    rows = len(log.part("train"))
    scales = []
    for group in tables.groups:
        counts = torch.cat([log.counts(b.table)[b.start : b.stop] for b in group.blocks])  # type: ignore[union-attr]
        probability = -torch.expm1(-counts.double() * batch / rows)
        scale = torch.where(counts > 0, 1 / probability.clamp(min=1e-12), 1.0).float().to(tables.restore.device)
        scales += [scale] * sum(p is not None for p in (group.weight, group.linear))
    return scales


def finish(
    folder: Path,
    network: Network,
    model: ModelConfig,
    log: EncodedLog,
    trained: FitResult,
) -> None:
    """Write a stage's model and history, and drop its checkpoints."""
    artifact.write_json(folder / "history.json", [p.to_json() for p in trained.points])
    if trained.events:
        artifact.write_json(folder / "events.json", [e.to_json() for e in trained.events])
    best = trained.best
    save_network(
        folder / "model",
        network,
        model,
        log.part("train").numeric.shape[1],
        list(log.labels),
        {"best": best.to_json(), "steps": trained.steps},
    )
    Checkpoints(folder / "checkpoints").clear()


def summary(title: str, trained: FitResult) -> str:
    """One line about a training."""
    best = trained.best
    loss = "" if math.isnan(best.valid_logloss) else f", logloss {best.valid_logloss:.4f}"
    if best.step == 0:
        return (
            f"{title}: none of {len(trained.points) - 1} evaluations was better than what it began with (valid "
            f"{best_words(best)}{loss}), which is kept as it is; a lower learning rate may find more"
        )
    return (
        f"{title}: best valid {best_words(best)}{loss} "
        f"(epoch {best.epoch + 1}, step {best.step:,} of {trained.steps:,})"
    )


def run_result(run: Run, name: str) -> str:
    """The hash of what an earlier stage left."""
    run.need(name)
    done = run.done(name)
    assert done is not None
    return done.result
