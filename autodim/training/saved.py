"""What a checkpoint holds of a training, and the way back: everything that the next step depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from autodim.training.checkpoints import below, load_optimizers, optimizer_tensors
from autodim.training.history import Point
from autodim.training.step import Stateful
from autodim.training.watch import Event

if TYPE_CHECKING:
    from autodim.training.loop import Training


def to_checkpoint(training: Training, good: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and plain values.

    Args:
        good: a rollback may come back here, as far as the caller knows.
    """
    tensors = {f"network/{k}": v for k, v in training.network.state().items()}
    extra, rest = optimizer_tensors(training.step.optimizers)
    tensors.update(extra)
    tensors["ring"] = training.ring.values
    if training.last is not None:
        tensors["last_losses"] = training.last.values
    tensors.update({f"gauges/{k}": v for k, v in training.gauges.tensors().items()})
    if isinstance(training.step.perturbation, Stateful):
        tensors.update({f"perturbation/{k}": v for k, v in training.step.perturbation.state().items()})
    if isinstance(training.step.weighting, Stateful):
        tensors.update({f"weighting/{k}": v for k, v in training.step.weighting.state().items()})
    state: dict[str, Any] = {
        "position": training.position,
        "points": [p.to_json() for p in training.points],
        "best_step": training.best.step if training.best else None,
        "since_best": training.since_best,
        "loss_sum": training.loss_sum,
        "loss_steps": training.loss_steps,
        "ring": training.ring.count,
        "watch": training.detector.state(),
        "events": [e.to_json() for e in training.events],
        "rollbacks": training.rollbacks,
        "good": good and training.detector.calm,
        "optimizers": rest,
        "schedules": [s.state_dict() for s in training.schedules],
    }
    return tensors, state


def from_checkpoint(training: Training, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """The reverse of `to_checkpoint`, in place."""
    training.network.load_state(below(tensors, "network/"))
    load_optimizers(training.step.optimizers, tensors, state["optimizers"])
    for schedule, saved in zip(training.schedules, state["schedules"], strict=True):
        schedule.load_state_dict(saved)
    if isinstance(training.step.perturbation, Stateful):
        training.step.perturbation.load_state(below(tensors, "perturbation/"))
    if isinstance(training.step.weighting, Stateful):
        training.step.weighting.load_state(below(tensors, "weighting/"))
    training.gauges.load(below(tensors, "gauges/"), training.device)
    training.ring.load(tensors["ring"], state["ring"])
    if training.last is not None:
        training.last.values = tensors["last_losses"].to(training.device)
    training.detector.load_state(state["watch"])
    training.events, training.rollbacks = [Event.from_json(e) for e in state["events"]], state["rollbacks"]
    training.loss_sum, training.loss_steps = state["loss_sum"], state["loss_steps"]
    training.position = training.saved_at = state["position"]
    training.since_best = state["since_best"]
    training.points = [Point.from_json(p) for p in state["points"]]
    training.best = next((p for p in training.points if p.step == state["best_step"]), None)
