"""Checks of the `weighting` sections: options of another method, tasks that are not there, nothing to weigh."""

from __future__ import annotations

from collections.abc import Iterator

from autodim.config.problem import Problem, given, idle
from autodim.config.schema import Config, TrainConfig
from autodim.config.spelling import closest, plain_key, quoted
from autodim.config.walk import dotted
from autodim.config.yaml_text import KeyPath

GRADIENTS = ("pcgrad", "gradvac", "mgda", "pe_ltr")
OPTIONS: dict[str, tuple[str, ...]] = {
    "mode": GRADIENTS,
    "every": GRADIENTS,
    "weights": ("static", "decayed"),
    "decay": ("decayed",),
    "lr": ("uncertainty", "gradnorm", "paperec"),
    "regression": ("uncertainty",),
    "cap": ("uncertainty",),
    "window": ("dwa",),
    "window_steps": ("dwa",),
    "temperature": ("dwa",),
    "alpha": ("gradnorm",),
    "initial": ("gradnorm",),
    "beta": ("gradvac",),
    "groups": ("gradvac",),
    "floor": ("pe_ltr", "paperec"),
    "solve": ("pe_ltr",),
    "scale_own": ("pe_ltr",),
    "group": ("paperec",),
}
# models in which the tasks have no layers of their own, so that the last shared layer gives the logits themselves
WHOLE = ("fm", "deepfm", "widedeep", "dnn", "pnn", "dcn", "dcnv2")
SINGLE_LABEL_LOGS = ("flights", "planted", "criteo", "avazu")


def _weighting(config: Config) -> Iterator[Problem]:
    for stage, train in (("pretrain", config.pretrain), ("retrain", config.retrain)):
        yield from _one(config, train, (stage, "weighting"))


def _one(config: Config, train: TrainConfig, path: KeyPath) -> Iterator[Problem]:
    weighting, key = train.weighting, dotted(path)
    name = weighting.name
    for option, owners in OPTIONS.items():
        if name not in owners and given(weighting, option):
            yield idle((*path, option), f"{key}.name: {name}, only with {', '.join(owners)}", (*path, "name"))
    tasks = [label.name for label in config.data.labels]
    alone = len(tasks) == 1 or (not tasks and config.data.log in SINGLE_LABEL_LOGS)
    if alone and name not in ("uniform", "static"):
        yield Problem((*path, "name"), f"{key}.name: found {name}, but there is one task; expected uniform or static")
    if train.accumulate > 1 and name != "uniform":
        yield Problem(
            (*path, "name"),
            f"{key}.name: found {name} with {dotted((path[0], 'accumulate'))}: {train.accumulate}; expected uniform, "
            "since other weights of a batch are not those of its pieces; or take out accumulate",
        )
    if tasks:
        for option in ("weights", "decay", "floor"):
            for task in getattr(weighting, option):
                yield from _known(task, tasks, (*path, option, task), f"{key}.{option}.{plain_key(task)}")
        for i, task in enumerate(weighting.regression):
            yield from _known(task, tasks, (*path, "regression", i), f"{key}.regression[{i}]")
    if name == "static" and not weighting.weights:
        yield Problem(
            (*path, "name"), f"{key}.weights: missing, expected weights by task, such as {{{_first(tasks)}: 2}}"
        )
    if name == "decayed" and not weighting.decay:
        yield Problem(
            (*path, "name"), f"{key}.decay: missing, expected factors by task, such as {{{_first(tasks)}: .9}}"
        )
    if sum(weighting.floor.values()) >= 1:
        total = sum(weighting.floor.values())
        yield Problem((*path, "floor"), f"{key}.floor: found a sum of {total:g}, expected less than 1")
    yield from _method(config, train, path)


def _method(config: Config, train: TrainConfig, path: KeyPath) -> Iterator[Problem]:
    weighting, key, model = train.weighting, dotted(path), config.model.name
    if model in WHOLE and weighting.name in GRADIENTS and weighting.mode == "representation":
        yield Problem(
            (*path, "mode"),
            f"{key}.mode: found representation, but in model.name: {model} the tasks share all layers, and the last "
            "one's output is the logits themselves; use mode: exact, or a model with towers",
            ("model", "name"),
        )
    if model in WHOLE and weighting.name == "paperec":
        yield Problem(
            (*path, "name"),
            f"{key}.name: found paperec, which compares gradients at a shared representation, but in model.name: "
            f"{model} the tasks share all layers; use a model with towers",
            ("model", "name"),
        )
    if model == "single" and (
        weighting.name == "paperec" or (weighting.name in GRADIENTS and weighting.mode == "representation")
    ):
        option = "name" if weighting.name == "paperec" else "mode"
        yield Problem(
            (*path, option),
            f"{key}.{option}: found {getattr(weighting, option)}, which compares gradients at a shared representation, "
            "but in model.name: single the tasks share tables alone; use mode: exact of "
            f"{', '.join(GRADIENTS)}, or a model with a layer below its tasks' towers",
            ("model", "name"),
        )
    if weighting.groups == "layer" and weighting.mode != "exact":
        yield Problem(
            (*path, "mode"),
            f"{key}.mode: found {weighting.mode} with {key}.groups: layer, where each group, the tables too, has a "
            "comparison of its own; expected mode: exact, or groups: model",
            (*path, "groups"),
        )
    if weighting.groups == "layer" and weighting.every > 1:
        why = f"{key}.groups: layer, which needs the gradients of all tasks in every step"
        yield idle((*path, "every"), why, (*path, "groups"))
    if model in WHOLE and weighting.scale_own:
        why = f"model.name: {model}, in which no parameter is a task's own"
        yield idle((*path, "scale_own"), why, ("model", "name"))
    if weighting.name == "dwa":
        if weighting.window_steps is not None and given(weighting, "window"):
            yield Problem((*path, "window"), f"{key}: found both window and window_steps; take one of them out")
        elif weighting.window_steps is None and train.epochs <= 2 * weighting.window:
            stage = dotted((*path[:-1], "epochs"))
            yield Problem(
                (*path, "window"),
                f"{key}.window: found {weighting.window:g} epochs with {stage}: {train.epochs}; the weights stay at 1 "
                "in the first two windows, so they would never move; expected a shorter window, such as .25",
            )
    if weighting.group is not None and config.data.slots:
        slots = {slot.name: slot for slot in config.data.slots}
        where = (*path, "group")
        if weighting.group not in slots:
            yield from _known(weighting.group, list(slots), where, f"{key}.group", "slot")
        elif slots[weighting.group].kind in ("multi", "value"):
            kind = slots[weighting.group].kind
            yield Problem(
                where, f"{key}.group: slot {quoted(weighting.group)} is of kind {kind}; expected one id a row"
            )


def _known(word: str, known: list[str], path: KeyPath, key: str, what: str = "task") -> Iterator[Problem]:
    if word not in known:
        guess = closest(word, known)
        hint = f'; did you mean "{guess}"?' if guess else f"; {what}s: {', '.join(known)}"
        yield Problem(path, f"{key}: no such {what}{hint}")


def _first(tasks: list[str]) -> str:
    return tasks[0] if tasks else "click"


CHECKS = (_weighting,)
