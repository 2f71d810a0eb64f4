"""Checks of the `optimizer` sections: options of another method, and methods that cannot be combined."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from autodim.config.problem import Problem, given, idle
from autodim.config.schema import ClipConfig, Config, PerturbConfig, Section, TrainConfig
from autodim.config.walk import dotted
from autodim.config.yaml_text import KeyPath

PERTURB_OPTIONS: dict[str, tuple[str, ...]] = {
    "xi": ("helen",),
    "norm_scope": ("helen",),
    "frequency": ("helen",),
    "decay": ("helen",),
    "dense": ("helen",),
    "eta": ("asam",),
}
CLIP_OPTIONS: dict[str, tuple[str, ...]] = {
    "max_norm": ("norm",),
    "clip": ("agc",),
    "eps": ("agc",),
    "ratio": ("cowclip",),
    "zeta": ("cowclip",),
    "form": ("cowclip",),
    "l2": ("cowclip",),
}


def _optimizer(config: Config) -> Iterator[Problem]:
    for stage, train in (("pretrain", config.pretrain), ("retrain", config.retrain)):
        yield from _one(train, (stage,))


def _one(train: TrainConfig, stage: KeyPath) -> Iterator[Problem]:
    optimizer, path = train.optimizer, (*stage, "optimizer")
    dense, perturb = optimizer.dense, optimizer.perturb
    if given(dense, "mode") and not dense.name.startswith("clippy_"):
        key = (*path, "dense")
        why = f"{dotted((*key, 'name'))}: {dense.name}, only with clippy_adagrad, clippy_adam"
        yield idle((*key, "mode"), why, (*key, "name"))
    if perturb is not None:
        yield from _perturb(perturb, (*path, "perturb"))
    yield from _clippers(train, path)
    yield from _schedule(train, stage)


def _perturb(perturb: PerturbConfig, path: KeyPath) -> Iterator[Problem]:
    yield from _options(perturb, perturb.name, PERTURB_OPTIONS, path)
    if perturb.name == "helen" and given(perturb, "decay") and perturb.frequency != "ema":
        why = f"{dotted((*path, 'frequency'))}: {perturb.frequency}, only with ema"
        yield idle((*path, "decay"), why, (*path, "frequency"))


def _clippers(train: TrainConfig, path: KeyPath) -> Iterator[Problem]:
    seen: set[str] = set()
    for i, one in enumerate(train.optimizer.clip):
        here: KeyPath = (*path, "clip", i)
        key = dotted(here)
        yield from _options(one, one.name, CLIP_OPTIONS, here)
        if one.name in seen:
            yield Problem(here, f"{key}: {one.name} is listed twice; take one of them out")
        seen.add(one.name)
        if one.name == "norm" and one.max_norm is None:
            yield Problem(here, f"{key}.max_norm: missing, expected the largest norm, such as 10")
        if one.name == "cowclip" and train.optimizer.tables.l2 > 0:
            yield _l2_after_clip(one, train.optimizer.tables.l2, here, (*path, "tables", "l2"))


def _l2_after_clip(one: ClipConfig, l2: float, here: KeyPath, tables: KeyPath) -> Problem:
    move = f"set {dotted(tables)} to 0 and keep the clipper's l2: {one.l2:g}" if one.l2 else f"move it: l2: {l2:g} here"
    return Problem(
        here,
        f"{dotted(here)}: cowclip bounds gradients with L2 already in them, but {dotted(tables)} is added after "
        f"clipping; {move}",
        tables,
    )


def _schedule(train: TrainConfig, stage: KeyPath) -> Iterator[Problem]:
    schedule, path = train.optimizer.schedule, (*stage, "optimizer", "schedule")
    if schedule is None:
        return
    key = dotted(path)
    if train.plateau != 1:
        plateau = dotted((*stage, "plateau"))
        yield Problem(
            path,
            f"{key}: found beside {plateau}: {train.plateau:g}; both set the learning rates, and the schedule would "
            "undo the plateau's; take one of them out",
            (*stage, "plateau"),
        )
    if schedule.warmup >= train.epochs:
        yield Problem(
            (*path, "warmup"),
            f"{key}.warmup: found {schedule.warmup:g} epochs, expected less than {dotted((*stage, 'epochs'))}: "
            f"{train.epochs}",
        )
    if schedule.name == "constant" and given(schedule, "floor"):
        yield idle((*path, "floor"), f"{key}.name: constant, only with linear, cosine", (*path, "name"))


def _options(section: Section, name: str, options: dict[str, tuple[str, ...]], path: KeyPath) -> Iterator[Problem]:
    for option, owners in options.items():
        if name not in owners and given(section, option):
            why = f"{dotted((*path, 'name'))}: {name}, only with {', '.join(owners)}"
            yield idle((*path, option), why, (*path, "name"))


CHECKS: tuple[Callable[[Config], Iterator[Problem]], ...] = (_optimizer,)
