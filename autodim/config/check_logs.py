"""Checks of several logs with labels of their own (`data.logs`), and of trainings that take them in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from autodim.config.check_weighting import GRADIENTS
from autodim.config.problem import Problem, given, idle
from autodim.config.schema import Config, TrainConfig
from autodim.config.spelling import closest, quoted
from autodim.config.walk import dotted
from autodim.config.yaml_text import KeyPath

COMPARING = (*GRADIENTS, "gradnorm", "paperec")  # weightings that compare the tasks' gradients within a batch


def _logs(config: Config) -> Iterator[Problem]:
    data, here = config.data, ("data", "logs")
    if not data.logs:
        return
    for name in ("path", "log"):
        if getattr(data, name) is not None:
            yield Problem(here, f"data.logs: found beside data.{name}; give exactly one of the two")
    if len(data.logs) == 1:
        yield Problem(here, "data.logs: found one, expected two or more; for one log give data.path and data.labels")
    labels = [label.name for label in data.labels]
    for i, log in enumerate(data.logs):
        key = f"data.logs[{i}].labels"
        if not log.labels:
            yield Problem(
                (*here, i, "labels"), f"{key}: none given, expected names of data.labels: {', '.join(labels)}"
            )
        for j, name in enumerate(log.labels):
            if name not in labels:
                guess = closest(name, labels)
                hint = f'; did you mean "{guess}"?' if guess else f"; labels: {', '.join(labels)}"
                yield Problem((*here, i, "labels", j), f"{key}: no label {quoted(name)} in data.labels{hint}")
    having = {name: [i for i, log in enumerate(data.logs) if name in log.labels] for name in labels}
    for j, label in enumerate(data.labels):
        if not having[label.name]:
            text = (
                f"data.labels[{j}]: no log of data.logs has the label {quoted(label.name)}; name it in the log's labels"
            )
            yield Problem(("data", "labels", j), text)
        for i in having[label.name]:
            if label.where in having and i not in having[label.where]:
                yield Problem(
                    ("data", "labels", j, "where"),
                    f"data.labels[{j}].where: {quoted(label.name)} is known where {quoted(label.where)} is 1, but "
                    f"data.logs[{i}] ({data.logs[i].path}) has no {quoted(label.where)}; add it there, or leave "
                    "`where` out: a log of clicks alone says so by its rows",
                )


def _turns(config: Config) -> Iterator[Problem]:
    for stage, train in (("pretrain", config.pretrain), ("retrain", config.retrain)):
        yield from _turn(config, train, (stage,))


def _turn(config: Config, train: TrainConfig, stage: KeyPath) -> Iterator[Problem]:
    key, logs = (*stage, "alternate"), config.data.logs
    if not logs:
        if given(train, "alternate"):
            yield idle(key, "one log (no data.logs)", ("data", "logs"))
        return
    if train.alternate == "never":
        return
    now = f"{dotted(key)}: {train.alternate}"
    if train.windows is not None:
        yield Problem(
            (*stage, "windows"),
            f"{dotted((*stage, 'windows'))}: found with {now}; a window mixes the rows of all logs in its span of "
            f"time: set {dotted(key)}: never",
            key,
        )
    name, here = train.weighting.name, (*stage, "weighting")
    if name in COMPARING and all(len(set(log.labels)) < 2 for log in logs):
        yield Problem(
            (*here, "name"),
            f"{dotted((*here, 'name'))}: found {name}, which compares the gradients of several tasks on one batch, but "
            f"with {now} and logs of one label each no batch has two tasks; expected uniform, static, decayed, "
            f"uncertainty or dwa, or {dotted(key)}: never, which mixes the logs in a batch",
            key,
        )
    elif name in GRADIENTS and train.weighting.every > 1:
        yield Problem(
            (*here, "every"),
            f"{dotted((*here, 'every'))}: found {train.weighting.every} with {now}; weights that were found on a batch "
            f"of one log are not those of another's tasks; expected 1, or {dotted(key)}: never",
            key,
        )


CHECKS: tuple[Callable[[Config], Iterator[Problem]], ...] = (_logs, _turns)
