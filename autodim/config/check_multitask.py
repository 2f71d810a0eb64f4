"""Checks of several tasks: labels that refer to each other, architectures that fit, options that have an effect."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from autodim.config.problem import Problem, given, idle
from autodim.config.schema import Config, LabelConfig
from autodim.config.spelling import closest, quoted
from autodim.config.yaml_text import KeyPath

ARCHITECTURES = ("single", "shared_bottom", "omoe", "mmoe", "snr", "ple", "esmm")

# options of model.sharing -> the architectures that read them
_OPTIONS: dict[str, tuple[str, ...]] = {
    "experts": ("omoe", "mmoe", "snr"),
    "expert_hidden": ("omoe", "mmoe", "snr", "ple"),
    "own_experts": ("ple",),
    "shared_experts": ("ple",),
    "levels": ("snr", "ple"),
    "connection": ("snr",),
    "penalty": ("snr",),
    "towers": ("shared_bottom", "omoe", "mmoe", "snr", "ple"),
    "interaction": ARCHITECTURES,
}
# labels that a known log brings where none are given
_BUILT_IN = {"mmoe": 2}


def _built_in(config: Config) -> int:
    return _BUILT_IN.get(config.data.log or "", 1)


def _labels(config: Config) -> Iterator[Problem]:
    labels = config.data.labels
    named = {label.name: label for label in labels}
    for i, label in enumerate(labels):
        here: KeyPath = ("data", "labels", i)
        key = f"data.labels[{i}]"
        if i == 0 and label.role != "main":
            yield Problem(
                (*here, "role"), f"{key}.role: found auxiliary, expected main: the first label is what stops a training"
            )
        if label.kind == "regression":
            for name in ("above", "equals"):
                if getattr(label, name) is not None:
                    yield Problem(
                        (*here, name), f"{key}.{name}: makes a 0 or 1, but kind: regression learns the number itself"
                    )
        if label.where is None:
            if given(label, "outside"):
                yield idle((*here, "outside"), f"no {key}.where", (*here, "where"))
            continue
        if label.where not in named:
            guess = closest(label.where, named)
            hint = f'; did you mean "{guess}"?' if guess else f"; labels: {', '.join(named)}"
            yield Problem((*here, "where"), f"{key}.where: no label {quoted(label.where)}{hint}")
        elif named[label.where].kind == "regression":
            wanted = "expected a binary label, of which rows with 1 are taken"
            yield Problem((*here, "where"), f"{key}.where: {quoted(label.where)} is a regression; {wanted}")
        elif _circular(label, named):
            yield Problem((*here, "where"), f"{key}.where: {quoted(label.name)} depends on itself")


def _circular(label: LabelConfig, named: dict[str, LabelConfig]) -> bool:
    seen = {label.name}
    here = named.get(label.where or "")
    while here is not None:
        if here.name in seen:
            return True
        seen.add(here.name)
        here = named.get(here.where or "")
    return False


def _architecture(config: Config) -> Iterator[Problem]:
    model, labels = config.model, config.data.labels
    for name, known in _OPTIONS.items():
        if model.name not in known and given(model.sharing, name):
            why = f"model.name: {model.name}, only with {', '.join(known)}"
            yield idle(("model", "sharing", name), why, ("model", "name"))
    if model.name == "shared_bottom" and not model.hidden:
        yield Problem(("model", "hidden"), "model.hidden: found [], expected layers of the bottom that tasks share")
    tasks = len(labels) or _built_in(config)
    if model.name in ARCHITECTURES and model.name != "single" and tasks < 2:
        yield Problem(
            ("model", "name"),
            f"model.name: {model.name} shares between tasks, but data.labels names {tasks}; expected two or more "
            "(with one label: single, dnn)",
        )
    elif model.name == "esmm":
        yield from _esmm(labels)


def _esmm(labels: tuple[LabelConfig, ...]) -> Iterator[Problem]:
    wanted = (
        "expected two binary labels, the click and then the conversion with `where: <the click>` and `outside: zero`"
    )
    if len(labels) != 2:
        yield Problem(("data", "labels"), f"data.labels: found {len(labels)} for model.name: esmm; {wanted}")
        return
    click, conversion = labels
    for i, label in enumerate(labels):
        if label.kind != "binary":
            yield Problem(
                ("data", "labels", i, "kind"),
                f"data.labels[{i}].kind: found {label.kind} for model.name: esmm; {wanted}",
            )
    if click.where is not None:
        yield Problem(("data", "labels", 0, "where"), f"data.labels[0].where: esmm learns clicks on all rows; {wanted}")
    if conversion.where != click.name or conversion.outside != "zero":
        found = f"where: {conversion.where or 'none'}, outside: {conversion.outside}"
        yield Problem(("data", "labels", 1), f"data.labels[1]: found {found} for model.name: esmm; {wanted}")


def _selection(config: Config) -> Iterator[Problem]:
    main = sum(label.role == "main" for label in config.data.labels) if config.data.labels else _built_in(config)
    for stage in ("pretrain", "retrain"):
        if main < 2 and given(getattr(config, stage), "select_by"):
            yield idle((stage, "select_by"), "one main task", ("data", "labels"))


def _quality(config: Config) -> Iterator[Problem]:
    if config.prune.budget.max_auc_drop is None:
        return
    for i, label in enumerate(config.data.labels):
        if label.kind == "regression" and label.role == "main":
            yield Problem(
                ("prune", "budget", "max_auc_drop"),
                f"prune.budget.max_auc_drop: data.labels[{i}] ({quoted(label.name)}) is a regression and has no AUC; "
                "expected max_loss_increase alone",
            )


# strategies whose statistics each task has (dimension.tasks, which config must not import)
_PER_TASK = ("sseds", "spectral", "spectral_uniform", "spectral_refit", "spectral_tempered")


def _search(config: Config) -> Iterator[Problem]:
    prune = config.prune
    labels = {label.name: label for label in config.data.labels}
    main = [label.name for label in config.data.labels if label.role == "main"]
    here: KeyPath = ("prune", "tasks")
    given_here = [name for name in ("combine", "weights") if given(prune.tasks, name)]
    if prune.strategy not in _PER_TASK:
        for name in given_here:
            why = f"prune.strategy: {prune.strategy}, only with {', '.join(_PER_TASK)}"
            yield idle((*here, name), why, ("prune", "strategy"))
        return
    if (len(main) if labels else _built_in(config)) < 2:
        for name in given_here:
            yield idle((*here, name), "one main task", ("data", "labels"))
        return
    for name in prune.tasks.weights:
        if name not in labels:
            guess = closest(name, labels)
            hint = f'; did you mean "{guess}"?' if guess else f"; labels: {', '.join(labels)}"
            yield Problem((*here, "weights"), f"prune.tasks.weights: no label {quoted(name)}{hint}")
        elif name not in main:
            why = f"label {quoted(name)} is auxiliary, which is left out of the search"
            yield Problem((*here, "weights"), f"prune.tasks.weights: {why}; expected a main one")
    if prune.tasks.weights and not any(prune.tasks.weights.get(name, 1.0) for name in main):
        yield Problem((*here, "weights"), "prune.tasks.weights: found 0 for every main task, expected one above 0")
    if prune.tasks.combine == "worst" and prune.precision == "auto":
        yield Problem(
            ("prune", "precision"),
            "prune.precision: auto weighs rounding against width for the sum of the tasks only; with "
            "prune.tasks.combine: worst expected one precision for all: fp32, fp16, int8",
        )


CHECKS: tuple[Callable[[Config], Iterator[Problem]], ...] = (_labels, _architecture, _selection, _quality, _search)
