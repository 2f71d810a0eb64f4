"""The training loop: steps, evaluations, early stop, a watch for divergence, checkpoints, an exact resume."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from autodim.config.schema import TrainConfig
from autodim.data.columns import Columns
from autodim.embedding.grouping import early
from autodim.errors import TrainingError
from autodim.optim.schedule import scale_rates
from autodim.training.alternate import Alternate, LastLosses
from autodim.training.checkpoints import Checkpoints, optimizer_tensors
from autodim.training.course import Course, Epochs
from autodim.training.evaluation import evaluate
from autodim.training.feed import Feed
from autodim.training.finite import first_not_finite, weights_are_finite
from autodim.training.gauges import Gauges
from autodim.training.history import FitResult, Point, best_words, better
from autodim.training.interrupt import Interrupted, StopFlag
from autodim.training.metrics import Metrics
from autodim.training.network import Network
from autodim.training.progress import Progress
from autodim.training.saved import from_checkpoint, to_checkpoint
from autodim.training.seeds import derive
from autodim.training.step import Step
from autodim.training.watch import Event, LossRing, make_detector, parameter_norms

State = tuple[dict[str, Tensor], list[dict[str, Any]]]  # of optimizers, as `optimizer_tensors` gives it
WATCH_EVERY = 50  # steps between reads of the loss: each read waits for the device


class Training:
    """One training run that can stop after any step and go on as if it had not.

    Args:
        network: what is trained, in place; ends with the weights of its best evaluation.
        step: the update rule.
        parts: train and valid. Early stopping looks at `valid`: the AUC (of a regression R2) of the first task, or the
            mean over the main tasks (`config.select_by`).
        config: batch size, epochs, evaluations, patience.
        seed: of the order of the rows and of dropout; every batch is a pure function of (seed, epoch, step).
        folder: where checkpoints go; None: nowhere, and nothing is resumed.
        schedules: of the step's optimizers; each moves on after every update.
        course: which rows are read when; default: epochs over all of them.
        counts_start: what the network begins with is a trained model: it is evaluated too (at step 0), and is the
            result where no later evaluation is better. It takes no patience. Not in windows, whose last weights count.

    Raises:
        ValueError: a policy `rollback` without a folder.
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
        course: Course | None = None,
        counts_start: bool = False,
    ):
        self.network, self.step, (self.train, self.valid) = network, step, parts
        self.config, self.seed, self.schedules = config, seed, schedules
        if config.watch.policy == "rollback" and folder is None:
            raise ValueError("watch.policy: rollback goes back to checkpoints; give a folder for them")
        self.gauges = Gauges(step)
        device = self.device = next(chain(network.parameters(), network.buffers())).device
        train = self.train
        self.course = course or Epochs(
            len(train), config.batch, config.epochs, config.evals_per_epoch, derive(seed, "order")
        )
        self.checkpoints = Checkpoints(folder) if folder else None
        self.points: list[Point] = []
        self.position = 0  # steps done
        self.best: Point | None = None
        self.best_weights: dict[str, Tensor] | None = None
        self.since_best = 0
        self.best_state: State | None = None
        self.loss_sum, self.loss_steps = 0.0, 0  # of the finite losses since the last evaluation
        self.ring = LossRing(WATCH_EVERY, device)
        self.last = LastLosses(train.labels.shape[1], device) if isinstance(self.course, Alternate) else None
        self.detector = make_detector(config.watch)
        self.events: list[Event] = []
        self.rollbacks = 0
        self.stopped = False
        self.saved_at = -1
        self.counts_start = counts_start and self.course.judged

    def run(self, progress: Progress, title: str, stop: StopFlag | None = None) -> FitResult:
        """Train to the end, from the last checkpoint where there is one.

        Raises:
            Interrupted: a signal came; everything is saved.
            TrainingError: the loss is not finite.
        """
        began = time.monotonic()
        start = self._start() if self.counts_start else None  # also of a resumed training: it is built anew each time
        self._resume()
        course, total = self.course, self.course.total
        if self.config.watch.policy == "rollback" and self.position == 0 and self.saved_at < 0:
            self._save()  # what a divergence before the first evaluation goes back to
        progress.start(title, total * self.config.batch, done=self.position * self.config.batch)
        self.network.train()
        prepare = early(self.network.tables, self.device)
        feed = Feed(self.train, lambda p: course.rows(*course.at(p)), total, self.device, prepare=prepare)
        finished = self._finished()
        while self.position < total and not finished:
            epoch, step = course.at(self.position)
            batch = feed(self.position)
            absent, seed = course.absent(epoch, step), derive(self.seed, "dropout", epoch, step)
            losses = self.step(batch, seed, absent) if absent else self.step(batch, seed)
            for schedule in self.schedules:
                schedule.step()
            self.gauges.update()
            self.ring.add(losses if self.last is None else self.last.fill(losses, absent))
            self.position += 1
            evaluates = course.evaluates(epoch, step)
            if self.position % WATCH_EVERY == 0 or evaluates:
                kept = self._watch(epoch, step, progress)
                if kept and evaluates:
                    self._evaluate(epoch, progress)
                finished = self._finished()
                progress.update(self.position * self.config.batch, self._note(epoch))
            if stop is not None and stop.signum is not None:
                self._watch(epoch, step, progress)
                if weights_are_finite(self.network):  # else the checkpoint before is the one to go on from
                    self._save(good=False)
                raise Interrupted(stop.signum)
        feed.close()
        assert self.best is not None, "at least one evaluation a run"
        points = tuple(self.points)
        if start is not None:
            points = (start[0], *points)
            if not better(self.best, start[0]):
                self.best, self.best_weights, self.best_state = start
        self.network.load_state(self._best_weights())
        for event in self.detector.end() if not self.stopped else ():
            self._tell(replace(event, attempt=self.rollbacks), progress)
        return FitResult(points, self.best, time.monotonic() - began, self.position, tuple(self.events))

    def _start(self) -> tuple[Point, dict[str, Tensor], State | None]:
        """The evaluation of what the training begins with, and its copies."""
        found = evaluate(self.network, self.valid, self.device, self.step.tasks)
        return self._point(0, found, math.nan, {}), *self._copies()

    def _point(self, epoch: int, found: Sequence[Metrics], loss: float, gauges: dict[str, float]) -> Point:
        """An evaluation after the updates that were made; `loss`: the mean training loss since the last one."""
        lr = self.step.optimizers[0].param_groups[0]["lr"] if self.step.optimizers else 0.0
        first, judged = found[0], self._judged(found)
        return Point(epoch, self.position, loss, first.auc, first.logloss, lr, gauges, *judged)

    def _copies(self) -> tuple[dict[str, Tensor], State | None]:
        """Copies of the weights, and of the optimizers' state where `keep_state` asks for it."""
        weights = {k: v.clone() for k, v in self.network.state().items()}
        if not self.config.keep_state:
            return weights, None
        tensors, rest = optimizer_tensors(self.step.optimizers)
        return weights, ({k: v.clone() for k, v in tensors.items()}, rest)

    def _note(self, epoch: int) -> str:
        best = f"best valid {best_words(self.best)}" if self.best else ""
        name = "epoch" if self.course.judged else "window epoch"
        return f"{name} {epoch + 1}/{self.course.epochs}  {best}"

    def _watch(self, epoch: int, step: int, progress: Progress) -> bool:
        """Judge the losses since the last look; False where the training went back or ends here."""
        losses = self.ring.read()
        for step_number, loss in enumerate(losses, start=self.position - len(losses) + 1):
            if math.isfinite(loss):
                self.loss_sum += loss
                self.loss_steps += 1
            event = self.detector.loss(step_number, loss)
            if event is not None and not self._act(event, epoch, step, progress):
                return False
        return True

    def _evaluate(self, epoch: int, progress: Progress) -> None:
        rows = self.course.held_out(epoch)
        part = self.valid if rows is None else self.train
        found = evaluate(self.network, part, self.device, self.step.tasks, rows)
        metrics = found[0]
        # a row that no batch of valid reads may be spoilt too: it would be saved, scored and cut
        judged = metrics.loss if weights_are_finite(self.network) else math.nan
        event = self.detector.evaluation(self.position, metrics.auc, judged)
        if event is not None and not self._act(event, *self.course.at(self.position - 1), progress):
            return
        loss = self.loss_sum / max(self.loss_steps, 1)
        self.loss_sum, self.loss_steps = 0.0, 0
        point = self._point(epoch, found, loss, self.gauges.read())
        self.points.append(point)
        # an AUC that cannot be computed (one class in valid) never stops a training: the log loss decides then
        if self.best is None or not self.course.judged or better(point, self.best):
            self.best, self.since_best = point, 0
            self.best_weights, self.best_state = self._copies()
            if self.checkpoints:
                tensors, rest = self.best_state or ({}, [])
                self.checkpoints.save_best(self.position, self.best_weights | tensors, {"optimizers": rest})
        else:
            self.since_best += 1
            scale_rates(self.step.optimizers, self.schedules, self.config.plateau)
        self._save()

    def _act(self, event: Event, epoch: int, step: int, progress: Progress) -> bool:
        """Follow the policy; False where the training went back or ends here.

        Raises:
            TrainingError: numbers that are not finite, and nothing to go back to.
        """
        watch = self.config.watch
        event = replace(event, attempt=self.rollbacks, optimizer=self.gauges.peek())
        if event.kind != "full":
            self._tell(event, progress)
            return True
        event = replace(event, norms=parameter_norms(dict(self.network.named_parameters())))
        if watch.policy == "rollback" and self.rollbacks < watch.rollbacks:
            self._roll_back(replace(event, action="rollback"), progress)
            return False
        finite, ends = event.reason != "not finite", watch.policy != "warn"
        if ends and self.best is not None:
            self.stopped = True
            self._tell(replace(event, action="stop"), progress)
            return False
        if finite and not ends:
            self._tell(event, progress)
            return True
        said = "the training loss is not finite" if not finite else f"training diverged ({event.words()})"
        where = "" if finite else f"{first_not_finite(self.network, self.train)}; "
        raise TrainingError(
            f"epoch {epoch + 1}, step {step + 1}: {said}, since update {event.step:,}; {where}expected finite numbers "
            "that fall; lower the learning rates (pretrain.optimizer), clip (optimizer.clip, or dense: "
            "clippy_adagrad), set watch.policy: rollback, or look for extreme values in the numeric columns; the last "
            "checkpoint is kept"
        )

    def _tell(self, event: Event, progress: Progress) -> None:
        self.events.append(event)
        progress.line(f"watch: {event.words()}")

    def _roll_back(self, event: Event, progress: Progress) -> None:
        """Go back to the last good checkpoint, and on from there with lower rates."""
        found = self.checkpoints.latest(good=True) if self.checkpoints else None
        assert self.checkpoints is not None and found is not None, "saved at the start"
        events, rollbacks = self.events, self.rollbacks + 1
        from_checkpoint(self, *found)
        self.best_weights = self.best_state = None  # of a later evaluation, perhaps; the checkpoint's is on disk
        self.events, self.rollbacks = events, rollbacks
        self._tell(event, progress)
        scale_rates(self.step.optimizers, self.schedules, self.config.watch.factor)
        # the newer ones first: whoever is killed in between meets the same divergence again, and the same way back
        self.checkpoints.forget_after(self.position)
        self._save()

    def _judged(self, found: Sequence[Metrics]) -> tuple[dict[str, dict[str, float | int | None]], float]:
        """The metrics of all tasks by name, and the score that is compared."""
        tasks = self.step.tasks
        score = found[0].score
        if self.config.select_by == "mean" and tasks:
            main = [m.score for m, task in zip(found, tasks, strict=True) if task.role == "main"]
            score = sum(main) / len(main)
        if len(tasks) < 2 and all(task.kind == "binary" for task in tasks):
            return {}, score
        return {task.name: m.to_json() for m, task in zip(found, tasks, strict=True)}, score

    def _finished(self) -> bool:
        return self.stopped or (self.course.judged and self.since_best >= self.config.patience)

    def _best_weights(self) -> dict[str, Tensor]:
        if self.best_weights is not None:
            return self.best_weights
        assert self.checkpoints is not None and self.best is not None
        tensors = self.checkpoints.best(self.best.step)
        return {name: tensor for name, tensor in tensors.items() if not name.startswith("optimizer")}

    def best_optimizers(self) -> State | None:
        """The optimizers' state at the best evaluation, where `keep_state` asks for it."""
        if not self.config.keep_state or self.best_state is not None or self.checkpoints is None or self.best is None:
            return self.best_state
        tensors = self.checkpoints.best(self.best.step)
        rest = self.checkpoints.about_best(self.best.step)["optimizers"]
        return {name: tensor for name, tensor in tensors.items() if name.startswith("optimizer")}, rest

    def _save(self, good: bool = True) -> None:
        """Save everything; `good`: a rollback may come back here (never to where a signal happened to come)."""
        if self.checkpoints is None or (self.saved_at == self.position and not good):
            return
        self.saved_at = self.position
        self.checkpoints.save(self.position, *to_checkpoint(self, good))

    def _resume(self) -> None:
        found = self.checkpoints.latest() if self.checkpoints else None
        if found is not None:
            from_checkpoint(self, *found)
