"""The training loop: steps, evaluations several times an epoch, early stop, checkpoints, an exact resume."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from autodim.config.schema import TrainConfig
from autodim.data.batches import Order
from autodim.data.columns import Columns
from autodim.errors import TrainingError
from autodim.training.checkpoints import Checkpoints, below, load_optimizers, optimizer_tensors
from autodim.training.feed import Feed
from autodim.training.gauges import Gauges
from autodim.training.interrupt import Interrupted, StopFlag
from autodim.training.metrics import Metrics, evaluate_logits
from autodim.training.network import Network
from autodim.training.progress import Progress
from autodim.training.seeds import derive
from autodim.training.step import Stateful, Step

WATCH_EVERY = 50  # steps between reads of the loss: each read waits for the device
CHUNK = 8192  # rows of a prediction batch; small enough for the activations to stay in cache


@dataclass(frozen=True)
class Point:
    """One evaluation during training.

    Attributes:
        lr: rate of the first optimizer (the tables', where there are any) at the next step.
        optimizer: what the optimizers, clippers and the weighting tell, by name; see `autodim.training.gauges`.
    """

    epoch: int
    step: int
    train_loss: float
    valid_auc: float
    valid_logloss: float
    lr: float
    optimizer: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON object; NaN and infinities become null, and `optimizer` is left out where it is empty."""
        return {k: _number(v) for k, v in vars(self).items() if k != "optimizer"} | (
            {"optimizer": {k: _number(v) for k, v in self.optimizer.items()}} if self.optimizer else {}
        )

    @staticmethod
    def from_json(value: dict[str, Any]) -> Point:
        return Point(
            epoch=value["epoch"],
            step=value["step"],
            **{
                k: math.nan if value[k] is None else value[k]
                for k in ("train_loss", "valid_auc", "valid_logloss", "lr")
            },
            optimizer={k: math.nan if v is None else v for k, v in value.get("optimizer", {}).items()},
        )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class FitResult:
    """How a training went: its evaluations, the best one, and the seconds of this process."""

    points: tuple[Point, ...]
    best: Point
    seconds: float
    steps: int


def predict(network: Network, columns: Columns, device: torch.device, chunk: int = CHUNK) -> Tensor:
    """Logits N x T of all rows, on the device, in evaluation mode and without gradients."""
    was_training = network.training
    network.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(columns), chunk):
            batch = columns.batch(slice(start, min(start + chunk, len(columns))), device)
            parts.append(network(batch).float())
    network.train(was_training)
    return torch.cat(parts) if parts else torch.zeros(0, columns.labels.shape[1], device=device)


def evaluate(network: Network, columns: Columns, device: torch.device) -> list[Metrics]:
    """Metrics per task on one part of a log."""
    logits = predict(network, columns, device)
    return evaluate_logits(logits, columns.labels.to(device))


class Training:
    """One training run that can stop after any step and go on as if it had not.

    Args:
        network: what is trained, in place; ends with the weights of its best evaluation.
        step: the update rule.
        parts: train and valid. Early stopping looks at `valid` (the first task's AUC).
        config: batch size, epochs, evaluations, patience.
        seed: of the order of the rows and of dropout; every batch is a pure function of (seed, epoch, step).
        folder: where checkpoints go; None: nowhere, and nothing is resumed.
        schedules: of the step's optimizers; each moves on after every update.
    """

    def __init__(
        self,
        network: Network,
        step: Step,
        parts: tuple[Columns, Columns],
        config: TrainConfig,
        seed: int,
        folder: Path | None = None,
        schedules: Sequence[LRScheduler] = (),
    ):
        self.network, self.step, (self.train, self.valid) = network, step, parts
        self.config, self.seed, self.schedules = config, seed, schedules
        self.gauges = Gauges(step)
        device = self.device = next(chain(network.parameters(), network.buffers())).device
        train = self.train
        self.order = Order(len(train), config.batch, derive(seed, "order"))
        self.checkpoints = Checkpoints(folder) if folder else None
        self.points: list[Point] = []
        self.position = 0  # steps done
        self.best: Point | None = None
        self.best_weights: dict[str, Tensor] | None = None
        self.since_best = 0
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.loss_steps = 0
        steps = self.order.steps_per_epoch
        self.eval_at = {max(1, round(steps * k / config.evals_per_epoch)) for k in range(1, config.evals_per_epoch + 1)}

    def run(self, progress: Progress, title: str, stop: StopFlag | None = None) -> FitResult:
        """Train to the end, from the last checkpoint where there is one.

        Raises:
            Interrupted: a signal came; everything is saved.
            TrainingError: the loss is not finite.
        """
        began = time.monotonic()
        self._resume()
        steps = self.order.steps_per_epoch
        total = steps * self.config.epochs
        progress.start(title, total * self.config.batch, done=self.position * self.config.batch)
        self.network.train()
        feed = Feed(self.train, lambda position: self.order.rows(*divmod(position, steps)), total, self.device)
        finished = self._finished()
        while self.position < total and not finished:
            epoch, step = divmod(self.position, steps)
            batch = feed(self.position)
            losses = self.step(batch, derive(self.seed, "dropout", epoch, step))
            for schedule in self.schedules:
                schedule.step()
            self.gauges.update()
            self.loss_sum += losses.sum()
            self.loss_steps += 1
            self.position += 1
            if self.position % WATCH_EVERY == 0:
                self._watch(epoch, step)
                progress.update(self.position * self.config.batch, self._note(epoch))
            if step + 1 in self.eval_at:
                self._watch(epoch, step)
                finished = self._evaluate(epoch)
                progress.update(self.position * self.config.batch, self._note(epoch))
            if stop is not None and stop.signum is not None:
                self._save()
                raise Interrupted(stop.signum)
        feed.close()
        assert self.best is not None, "at least one evaluation a run"
        self.network.load_state(self._best_weights())
        return FitResult(tuple(self.points), self.best, time.monotonic() - began, self.position)

    def _note(self, epoch: int) -> str:
        best = f"best valid AUC {self.best.valid_auc:.4f}" if self.best else ""
        return f"epoch {epoch + 1}/{self.config.epochs}  {best}"

    def _watch(self, epoch: int, step: int) -> None:
        if not math.isfinite(float(self.loss_sum)):
            raise TrainingError(
                f"epoch {epoch + 1}, step {step + 1}: the training loss is not finite within the last {WATCH_EVERY} "
                "steps; expected finite numbers; lower the learning rates (pretrain.optimizer) or look for extreme "
                "values in the numeric columns; the last checkpoint is kept"
            )

    def _evaluate(self, epoch: int) -> bool:
        metrics = evaluate(self.network, self.valid, self.device)[0]
        loss = float(self.loss_sum) / max(self.loss_steps, 1)
        self.loss_sum.zero_()
        self.loss_steps = 0
        lr = self.step.optimizers[0].param_groups[0]["lr"] if self.step.optimizers else 0.0
        point = Point(epoch, self.position, loss, metrics.auc, metrics.logloss, lr, self.gauges.read())
        self.points.append(point)
        # an AUC that cannot be computed (one class in valid) never stops a training: the log loss decides then
        if self.best is None or _better(point, self.best):
            self.best, self.since_best = point, 0
            self.best_weights = {k: v.clone() for k, v in self.network.state().items()}
            if self.checkpoints:
                self.checkpoints.save_best(self.position, self.best_weights)
        else:
            self.since_best += 1
            for optimizer in self.step.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] *= self.config.plateau
        self._save()
        return self._finished()

    def _finished(self) -> bool:
        return self.since_best >= self.config.patience

    def _best_weights(self) -> dict[str, Tensor]:
        if self.best_weights is not None:
            return self.best_weights
        assert self.checkpoints is not None and self.best is not None
        return self.checkpoints.best(self.best.step)

    def _save(self) -> None:
        if self.checkpoints is None:
            return
        tensors = {f"network/{k}": v for k, v in self.network.state().items()}
        extra, rest = optimizer_tensors(self.step.optimizers)
        tensors.update(extra)
        tensors["loss_sum"] = self.loss_sum
        tensors.update({f"gauges/{k}": v for k, v in self.gauges.tensors().items()})
        if isinstance(self.step.perturbation, Stateful):
            tensors.update({f"perturbation/{k}": v for k, v in self.step.perturbation.state().items()})
        if isinstance(self.step.weighting, Stateful):
            tensors.update({f"weighting/{k}": v for k, v in self.step.weighting.state().items()})
        state: dict[str, Any] = {
            "position": self.position,
            "points": [p.to_json() for p in self.points],
            "best_step": self.best.step if self.best else None,
            "since_best": self.since_best,
            "loss_steps": self.loss_steps,
            "optimizers": rest,
            "schedules": [s.state_dict() for s in self.schedules],
        }
        self.checkpoints.save(self.position, tensors, state)

    def _resume(self) -> None:
        found = self.checkpoints.latest() if self.checkpoints else None
        if found is None:
            return
        tensors, state = found
        self.network.load_state(below(tensors, "network/"))
        load_optimizers(self.step.optimizers, tensors, state["optimizers"])
        for schedule, saved in zip(self.schedules, state["schedules"], strict=True):
            schedule.load_state_dict(saved)
        if isinstance(self.step.perturbation, Stateful):
            self.step.perturbation.load_state(below(tensors, "perturbation/"))
        if isinstance(self.step.weighting, Stateful):
            self.step.weighting.load_state(below(tensors, "weighting/"))
        self.gauges.load(below(tensors, "gauges/"), self.device)
        self.loss_sum = tensors["loss_sum"].to(self.device)
        self.loss_steps, self.position = state["loss_steps"], state["position"]
        self.since_best = state["since_best"]
        self.points = [Point.from_json(p) for p in state["points"]]
        self.best = next((p for p in self.points if p.step == state["best_step"]), None)


def _better(point: Point, best: Point) -> bool:
    if math.isnan(point.valid_auc) or math.isnan(best.valid_auc):
        return point.valid_logloss < best.valid_logloss
    return point.valid_auc > best.valid_auc
