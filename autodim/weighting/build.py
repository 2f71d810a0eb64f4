"""From a config's section `weighting` to the object that a step takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from autodim.config.schema import WeightingConfig
from autodim.errors import ConfigError, did_you_mean
from autodim.models.base import Model
from autodim.weighting.capture import Captured, shared_modules
from autodim.weighting.dwa import DWA
from autodim.weighting.gradients import GradientWeighting
from autodim.weighting.gradnorm import GradNorm
from autodim.weighting.gradvac import GradVac
from autodim.weighting.groups import GroupedWeighting, shared_layers
from autodim.weighting.mgda import MGDA
from autodim.weighting.paperec import PAPERec
from autodim.weighting.pcgrad import PCGrad
from autodim.weighting.pe_ltr import PELTR
from autodim.weighting.scalar import Decayed, Static, Uniform
from autodim.weighting.solver import Solver
from autodim.weighting.uncertainty import Uncertainty

if TYPE_CHECKING:
    from autodim.training.network import Network
    from autodim.training.step import Weighting

LR = {"uncertainty": 1e-3, "gradnorm": 0.025, "paperec": 1e-3}
MOST_GROUPS = 1000


def build_weighting(
    config: WeightingConfig,
    network: Network,
    tasks: Sequence[str],
    *,
    steps_per_epoch: int = 1,
    base_losses: Tensor | None = None,
) -> Weighting | None:
    """The weighting that a config names; None for a single task with the plain sum, which needs no object.

    Args:
        network: already on its device.
        tasks: T names in the order of the losses.
        steps_per_epoch: of the training; windows and decays count in it.
        base_losses: T, the losses of the labels' mean rates; only GradNorm with `initial: base_rate` needs them.

    Raises:
        ConfigError: a weighting that these tasks or this model cannot have.
    """
    name, count = config.name, len(tasks)
    for option in ("weights", "decay", "floor"):
        _known(option, getattr(config, option), tasks)
    _known("regression", config.regression, tasks)
    if count == 1 and name not in ("uniform", "static"):
        raise ConfigError(f"weighting.name: found {name}, but there is one task; expected uniform or static")
    if name == "uniform":
        return None if count == 1 else Uniform(tasks)
    weights = [config.weights.get(t, 1.0) for t in tasks]
    if name == "static":
        return Static(tasks, weights)
    if name == "decayed":
        return Decayed(tasks, weights, [config.decay.get(t, 1.0) for t in tasks], steps_per_epoch)
    lr = LR.get(name, 0.0) if config.lr is None else config.lr
    if name == "uncertainty":
        return Uncertainty(tasks, lr, [t in config.regression for t in tasks], config.cap)
    if name == "dwa":
        return DWA(tasks, config.window_steps or max(1, round(config.window * steps_per_epoch)), config.temperature)
    model = network.model
    if name == "gradnorm":
        return _gradnorm(config, model, tasks, lr, base_losses)
    own = model.own_parameters() if isinstance(model, Model) else []
    floors = [config.floor.get(t, 0.0) for t in tasks]
    if name == "paperec":
        slot = None if config.group is None else _group(config.group, network)
        return PAPERec(tasks, _representation(model, name), Captured([model]), floors, own, lr, slot)
    if config.groups == "layer":
        layers = shared_layers(model, own)
        return GroupedWeighting([_solver(config, count, floors) for _ in range(1 + len(layers))], layers, tasks, own)
    representation = _representation(model, "mode: representation") if config.mode == "representation" else None
    return GradientWeighting(
        _solver(config, count, floors), tasks, own, config.mode, config.every, config.scale_own, representation
    )


def _solver(config: WeightingConfig, count: int, floors: Sequence[float]) -> Solver:
    if config.name == "gradvac":
        return GradVac(count, config.beta)
    if config.name == "pe_ltr":
        return PELTR(floors, config.solve)
    return {"pcgrad": PCGrad, "mgda": MGDA}[config.name]()


def _gradnorm(
    config: WeightingConfig, model: nn.Module, tasks: Sequence[str], lr: float, base_losses: Tensor | None
) -> GradNorm:
    shared = model.last_shared() if isinstance(model, Model) else []
    if not shared:
        raise ConfigError("weighting.name: found gradnorm, but the model has no layer that all tasks share")
    start = base_losses if config.initial == "base_rate" else None
    if config.initial == "base_rate" and start is None:
        raise ConfigError("weighting.initial: found base_rate without the labels' rates; pass `base_losses`")
    return GradNorm(tasks, shared, config.alpha, lr, start)


def _representation(model: nn.Module, what: str) -> Captured:
    modules = shared_modules(model)
    if not modules:
        raise ConfigError(
            f"weighting: found {what}, but the model has no last representation that all tasks share; expected a model "
            "with a layer below its tasks' towers, or mode: exact"
        )
    return Captured(modules)


def _group(name: str, network: Network) -> tuple[int, int]:
    layout = network.tables.layout
    places = {slot.name: i for i, slot in enumerate(layout.slots) if not slot.multi}
    if name not in places:
        raise ConfigError(f"weighting.group: no slot {name!r} with one id a row{did_you_mean(name, list(places))}")
    slot = layout.slots[places[name]]
    rows = next(t.rows for t in layout.tables if t.name == slot.table)
    if rows > MOST_GROUPS:
        raise ConfigError(f"weighting.group: slot {name!r} has {rows:,} ids; expected at most {MOST_GROUPS:,} groups")
    if not any(places[name] in group.positions for group in network.tables.groups):  # type: ignore[operator]
        raise ConfigError(
            f"weighting.group: slot {name!r} has width 0 here and is not read; expected a slot that is kept"
        )
    return places[name], rows


def _known(option: str, found: Mapping[str, object] | Sequence[str], tasks: Sequence[str]) -> None:
    for task in found:
        if task not in tasks:
            raise ConfigError(f"weighting.{option}: no task {task!r}{did_you_mean(task, list(tasks))}")


def base_rate_losses(labels: Tensor) -> Tensor:
    """T losses of the best constant: the entropy of each label's mean rate, in nats.

    Args:
        labels: N x T of 0, 1 and NaN (no label).

    Raises:
        ConfigError: a label that is no probability (a squared error has no rate).
    """
    rate = labels.double().nanmean(0)
    if bool((rate < 0).any() | (rate > 1).any()):
        raise ConfigError("weighting.initial: found base_rate, but a label is not between 0 and 1; use initial: first")
    return -(torch.xlogy(rate, rate) + torch.xlogy(1 - rate, 1 - rate)).float()
