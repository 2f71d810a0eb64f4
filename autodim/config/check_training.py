"""Checks of a training's own settings: windows, the watch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from autodim.config.problem import Problem, given, idle
from autodim.config.schema import Config, TrainConfig
from autodim.config.walk import dotted
from autodim.config.yaml_text import KeyPath


def _training(config: Config) -> Iterator[Problem]:
    for stage, train in (("pretrain", config.pretrain), ("retrain", config.retrain)):
        yield from _windows(config, train, (stage,))
        yield from _watch(train, (stage,))


def _windows(config: Config, train: TrainConfig, stage: KeyPath) -> Iterator[Problem]:
    if train.windows is None:
        return
    key: KeyPath = (*stage, "windows")
    if config.data.split.by != "time":
        yield Problem(
            key,
            f"{dotted(key)}: found with data.split.by: {config.data.split.by}, expected time; its column says when a "
            "row was, and the parts must follow each other in time",
            ("data", "split", "by"),
        )
    why = f"{dotted(key)}: each window is judged on the period after it, so evaluations are not compared"
    for name in ("evals_per_epoch", "patience", "plateau"):
        if given(train, name):
            yield idle((*stage, name), why, key)


def _watch(train: TrainConfig, stage: KeyPath) -> Iterator[Problem]:
    for name in ("factor", "rollbacks"):
        if train.watch.policy != "rollback" and given(train.watch, name):
            why = f"{dotted((*stage, 'watch', 'policy'))}: {train.watch.policy}, only with rollback"
            yield idle((*stage, "watch", name), why, (*stage, "watch", "policy"))


CHECKS: tuple[Callable[[Config], Iterator[Problem]], ...] = (_training,)
