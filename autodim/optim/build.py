"""From a config's section `optimizer` to everything that turns gradients into updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from autodim.config.schema import ClipConfig, OptimizerConfig, PerturbConfig, ScheduleConfig
from autodim.errors import ConfigError
from autodim.models.base import Model
from autodim.optim import build_dense_optimizer, build_table_optimizer
from autodim.optim.agc import AGC
from autodim.optim.asam import ASAM
from autodim.optim.cowclip import CowClip, scale_for_batch
from autodim.optim.helen import Helen
from autodim.optim.norm_clip import NormClip
from autodim.optim.sam import SAM
from autodim.optim.schedule import make_schedule

if TYPE_CHECKING:
    from autodim.training.network import Network
    from autodim.training.step import Clipper, Perturbation

RADII = {"helen": 0.05, "sam": 0.05, "asam": 0.5}  # the papers' own


@dataclass(frozen=True)
class Rules:
    """What a step and a training need of a config's section `optimizer`.

    Attributes:
        optimizers: the tables' and the dense parameters'; either is left out where it has nothing to update.
        perturbation: the second pass, or None.
        clippers: in order.
        schedules: at most one per optimizer; `step()` each after every update.
    """

    optimizers: list[torch.optim.Optimizer]
    perturbation: Perturbation | None = None
    clippers: list[Clipper] = field(default_factory=list)
    schedules: list[LRScheduler] = field(default_factory=list)


def build_rules(
    config: OptimizerConfig,
    network: Network,
    *,
    epochs: int = 1,
    steps_per_epoch: int = 1,
    counts: Mapping[str, Tensor] | None = None,
    l2_scales: Sequence[Tensor] | None = None,
) -> Rules:
    """The rules that a config names, for a network that is already on its device.

    Args:
        epochs, steps_per_epoch: of the training; they place the schedule.
        counts: per table name, how often each of its rows occurs in the training rows; only Helen's frequency `global`
            needs it.
        l2_scales: for each of `network.tables.table_parameters()` a factor a row (see `autodim.optim.rows`), for
            whatever adds L2 to tables; None: all 1.

    Raises:
        ConfigError: Helen with frequency `global`, but no counts.
    """
    config = scaled(config)
    tables, dense = network.tables.table_parameters(), network.dense_parameters()
    optimizers: list[torch.optim.Optimizer] = []
    if tables:
        optimizer = build_table_optimizer(config.tables, tables)
        if config.tables.l2 and l2_scales is not None:
            for group, scale in zip(optimizer.param_groups, l2_scales, strict=True):
                group["l2_scale"] = scale
        optimizers.append(optimizer)
    if dense:
        optimizers.append(build_dense_optimizer(config.dense, dense))
    scales = None if l2_scales is None else dict(zip(tables, l2_scales, strict=True))
    return Rules(
        optimizers,
        None if config.perturb is None else build_perturbation(config.perturb, counts),
        [build_clipper(one, network, scales) for one in config.clip],
        _schedules(config, optimizers, bool(tables), epochs, steps_per_epoch),
    )


def scaled(config: OptimizerConfig) -> OptimizerConfig:
    """The rates for a batch that is `scale_batch` times as large: CowClip's rule, but for its warm-up."""
    if config.scale_batch == 1:
        return config
    new = scale_for_batch(config.scale_batch, config.tables.lr, config.tables.l2, config.dense.lr)
    return config.model_copy(
        update={
            "tables": config.tables.model_copy(update={"l2": new.l2}),
            "dense": config.dense.model_copy(update={"lr": new.dense_lr}),
            "clip": tuple(one.model_copy(update={"l2": one.l2 * config.scale_batch}) for one in config.clip),
        }
    )


def _schedules(
    config: OptimizerConfig, optimizers: Sequence[torch.optim.Optimizer], tables: bool, epochs: int, steps: int
) -> list[LRScheduler]:
    """The config's schedule on all optimizers; with `scale_batch` the dense one rises for at least an epoch."""
    if config.scale_batch == 1:
        return [] if config.schedule is None else build_schedules(config.schedule, optimizers, epochs, steps)
    plain, dense = optimizers[:1] if tables else [], optimizers[1:] if tables else optimizers
    schedule = config.schedule or ScheduleConfig(name="constant")
    warm = schedule.model_copy(update={"warmup": max(schedule.warmup, 1.0)})
    of_tables = [] if config.schedule is None else build_schedules(schedule, plain, epochs, steps)
    return [*of_tables, *build_schedules(warm, dense, epochs, steps)]


def build_perturbation(config: PerturbConfig, counts: Mapping[str, Tensor] | None = None) -> Perturbation:
    """The second pass that a config names; `counts` as for `build_rules`."""
    rho = RADII[config.name] if config.rho is None else config.rho
    if config.name == "sam":
        return SAM(rho)
    if config.name == "asam":
        return ASAM(rho, config.eta)
    wants_counts = config.frequency == "global"
    if wants_counts and counts is None:
        raise ConfigError(
            "optimizer.perturb.frequency: found global without counts of the training rows; pass `counts` (per table "
            "one a row), or use frequency: batch"
        )
    return Helen(
        rho,
        config.xi,
        config.norm_scope,
        config.frequency,
        config.dense,
        counts if wants_counts else None,
        config.decay,
    )


def build_clipper(
    config: ClipConfig, network: Network, l2_scales: Mapping[nn.Parameter, Tensor] | None = None
) -> Clipper:
    """The clipper that a config names; AGC leaves the model's last layer alone.

    Raises:
        ConfigError: `norm` without its largest norm.
    """
    if config.name == "norm":
        if config.max_norm is None:
            raise ConfigError("optimizer.clip: norm has no max_norm; expected the largest norm, such as 10")
        return NormClip(config.max_norm)
    if config.name == "agc":
        head = network.model.head() if isinstance(network.model, Model) else []
        return AGC(config.clip, config.eps, exclude=head)
    return CowClip(config.ratio, config.zeta, config.form, config.l2, l2_scales if config.l2 else None)


def build_schedules(
    config: ScheduleConfig, optimizers: Sequence[torch.optim.Optimizer], epochs: int, steps_per_epoch: int
) -> list[LRScheduler]:
    """A schedule per optimizer; it sets the first step's rates at once."""
    steps = epochs * steps_per_epoch
    warmup = min(round(config.warmup * steps_per_epoch), steps - 1)
    return [make_schedule(config.name, o, steps, warmup, config.floor) for o in optimizers]
