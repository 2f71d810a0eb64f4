"""What the schema alone cannot see: settings that contradict each other or have no effect. Torch-free.

Each check yields problems; all of them are collected. Settings without effect count only where they were given
and differ from the default, so that a resolved config, which gives everything, passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from autodim.config import check_data, check_logs, check_multitask, check_optimizer, check_training, check_weighting
from autodim.config.problem import Problem, given, idle
from autodim.config.schema import Config
from autodim.config.sections.prune import TIERS
from autodim.config.spelling import closest, quoted
from autodim.config.yaml_text import KeyPath
from autodim.errors import ConfigError


def check(config: Config) -> list[Problem]:
    """Every problem across sections, in the order of the file's sections."""
    return [problem for one in CHECKS for problem in one(config)]


def require(config: Config, source: str = "config") -> None:
    """Raises one ConfigError with all problems; for configs that were built in Python."""
    if problems := check(config):
        raise ConfigError("\n".join(f"{source}: {p.text}" for p in problems))


def _model(config: Config) -> Iterator[Problem]:
    model = config.model
    crossed = model.sharing.interaction == "cross"
    deep = ("deepfm", "widedeep", "dnn", "pnn", "dcn", "dcnv2")
    needs: tuple[tuple[str, tuple[str, ...]], ...] = (
        ("hidden", (*deep, "single", "shared_bottom", "esmm")),
        ("dropout", (*deep, *check_multitask.ARCHITECTURES)),
        ("batch_norm", deep),
        ("cross_layers", ("dcn", "dcnv2", *(check_multitask.ARCHITECTURES if crossed else ()))),
        ("product", ("pnn",)),
    )
    for name, models in needs:
        if model.name not in models and given(model, name):
            yield idle(("model", name), f"model.name: {model.name}, only with {', '.join(models)}", ("model", "name"))


def _prune(config: Config) -> Iterator[Problem]:
    prune = config.prune
    if prune.strategy == "manual" and prune.widths is None:
        yield Problem(("prune", "strategy"), "prune.widths: missing, expected the widths file for `strategy: manual`")
    for name, strategies in (
        ("alpha", ("power_rule",)),
        ("gamma", ("spectral_tempered",)),
        ("thresholds", ("frequency_tiers",)),
        ("search", ("search",)),
        ("pep", ("pep",)),
        ("optembed", ("optembed",)),
        ("widths", ("manual",)),
        ("seed", ("random", "search", "pep", "optembed")),
    ):
        if prune.strategy not in strategies and given(prune, name):
            why = f"prune.strategy: {prune.strategy}, only with {', '.join(strategies)}"
            yield idle(("prune", name), why, ("prune", "strategy"))
    ladder = prune.ladder or TIERS
    if prune.thresholds and len(prune.thresholds) != len(ladder):
        yield Problem(
            ("prune", "thresholds"),
            f"prune.thresholds: found {len(prune.thresholds)}, expected {len(ladder)}: one for each rung of "
            "prune.ladder",
        )
    elif (rising := [t for _, t in sorted(zip(ladder, prune.thresholds, strict=False))]) != sorted(rising):
        yield Problem(
            ("prune", "thresholds"), "prune.thresholds: expected numbers that do not fall as the rungs get wider"
        )
    yield from _precision(config)
    if config.pretrain.weights is None and given(config.pretrain, "weights_map"):
        yield idle(("pretrain", "weights_map"), "no pretrain.weights to map", ("pretrain", "weights"))
    yield from _blocks(config)
    if config.retrain.mode == "none" and given(config.retrain, "distill"):
        yield idle(("retrain", "distill"), "retrain.mode: none, nothing is trained", ("retrain", "mode"))


PREDICTING = ("sseds", "spectral", "magnitude", "random")  # they give every dimension a worth


def _precision(config: Config) -> Iterator[Problem]:
    prune = config.prune
    if prune.nested and prune.strategy in ("manual", "uniform", "uniform_int8", "spectral_uniform"):
        why = f"prune.strategy: {prune.strategy}, whose widths do so anyway or are given"
        yield idle(("prune", "nested"), why, ("prune", "strategy"))
    if prune.nested and prune.strategy in ("search", "optembed"):
        yield Problem(
            ("prune", "nested"),
            f"prune.nested: with prune.strategy: {prune.strategy} each budget has its own search, which nothing ties "
            "to that of a smaller one; take out one",
        )
    if prune.nested and prune.tasks.combine == "worst":
        yield Problem(
            ("prune", "nested"),
            "prune.nested: with prune.tasks.combine: worst each budget weighs the tasks anew, so that a larger one may "
            "take dimensions back; take out one",
        )
    if prune.precision != "auto":
        return
    found = "prune.precision: auto trades width against precision"
    if prune.budget.unit != "serving_bytes":
        yield Problem(
            ("prune", "precision"),
            f"{found}, which only shows in bytes in serving; found the unit {prune.budget.unit}; use "
            "prune.budget.unit=serving_bytes, or one precision for all: fp16, int8",
        )
    if prune.strategy not in PREDICTING or prune.rank != "ratio":
        which = f"prune.strategy: {prune.strategy}, prune.rank: {prune.rank}"
        yield Problem(
            ("prune", "precision"),
            f"{found} by the loss that each predicts; found {which}; expected rank ratio and one of "
            f"{', '.join(PREDICTING)}, or one precision for all: fp16, int8",
        )
    if prune.nested:
        yield Problem(
            ("prune", "nested"),
            "prune.nested: with prune.precision: auto a larger budget may choose fewer, finer numbers; take out one",
        )


def _quality(config: Config) -> Iterator[Problem]:
    prune, mode = config.prune, config.retrain.mode
    if not prune.budget.by_quality:
        for name in ("confidence", "confirm", "measure"):
            if given(prune.quality, name):
                why = "a budget that is no quality (prune.budget.max_loss_increase or max_auc_drop)"
                yield idle(("prune", "quality", name), why, ("prune", "budget"))
        return
    if prune.quality.confirm == 0:
        yield Problem(
            ("prune", "quality", "confirm"),
            "prune.quality.confirm: found 0, expected some rows to judge on; .5 is usual",
        )
    if prune.strategy == "manual":
        yield Problem(
            ("prune", "strategy"),
            "prune.strategy: found manual, whose widths are given: nothing is left to find for a budget by quality",
        )
    if prune.quality.measure == "retrained" and mode == "none":
        yield Problem(
            ("prune", "quality", "measure"), "prune.quality.measure: found retrained, but retrain.mode: none; say cut"
        )
    if prune.strategy in ("uniform", "uniform_int8") and (prune.quality.measure == "cut" or mode == "none"):
        yield Problem(
            ("prune", "strategy"),
            f"prune.strategy: found {prune.strategy}, which cannot be cut from the trained model: a budget by quality "
            "has to be measured on the retrained one; set retrain.mode: cold, or take spectral_uniform",
        )


def _blocks(config: Config) -> Iterator[Problem]:
    prune, blocks = config.prune, config.prune.blocks
    path: KeyPath = ("prune", "blocks")
    if not blocks.slots:
        for name in ("shares", "by", "min_rows"):
            if given(blocks, name):
                yield idle((*path, name), "prune.blocks.slots: empty, no table is cut", (*path, "slots"))
        return
    shares = list(blocks.shares)
    if not shares or shares != sorted(set(shares)):
        yield Problem((*path, "shares"), f"prune.blocks.shares: found {shares}, expected rising shares in (0, 1)")
    if prune.budget.unit == "dims":
        yield Problem(path, "prune.blocks: a budget in dims knows no blocks of rows; use budget.unit: params")
    if prune.strategy in ("manual", "uniform", "uniform_int8"):
        why = "a widths file says its own blocks" if prune.strategy == "manual" else "all rows get one width"
        yield idle(path, f"prune.strategy: {prune.strategy}, {why}", ("prune", "strategy"))
    known = {slot.name: slot for slot in config.data.slots}
    for name in () if blocks.slots == "auto" else blocks.slots:
        if known and name not in known:
            guess = closest(name, known)
            hint = f'; did you mean "{guess}"?' if guess else f"; slots: {', '.join(known)}"
            yield Problem((*path, "slots"), f"prune.blocks.slots: no slot {quoted(name)}{hint}")
        elif name in known and known[name].kind in ("value", "scaled"):
            found = f"prune.blocks.slots: {name} is of kind {known[name].kind}"
            yield Problem((*path, "slots"), f"{found} and has no table of ids to cut")


def _limits(config: Config) -> Iterator[Problem]:
    prune, width = config.prune, config.model.width
    known = {slot.name: slot for slot in config.data.slots}
    yield from _range(("prune",), "prune", prune.min_dim, prune.max_dim, width)
    yield from _multiple(("prune",), "prune", prune.multiple_of, width)
    for name, limits in prune.slots.items():
        path: KeyPath = ("prune", "slots", name)
        key = f"prune.slots.{name if name.isprintable() else quoted(name)}"
        if known and name not in known:
            guess = closest(name, known)
            hint = f'; did you mean "{guess}"?' if guess else f"; slots: {', '.join(known)}"
            yield Problem(path, f"{key}: no such slot{hint}")
            continue
        if name in known and known[name].kind == "value":
            yield Problem(path, f"{key}: a slot of kind value has no table, so limits on its width have no effect")
        multiple = limits.multiple_of or prune.multiple_of
        if limits.multiple_of is not None:
            yield from _multiple(path, key, limits.multiple_of, width)
        if limits.fixed is not None:
            if limits.fixed > width:
                yield Problem(
                    (*path, "fixed"), f"{key}.fixed: found {limits.fixed}, expected at most model.width: {width}"
                )
            elif limits.fixed % multiple:
                found = f"{key}.fixed: found {limits.fixed}"
                yield Problem((*path, "fixed"), f"{found}, expected a multiple of {multiple} (multiple_of)")
            for other in ("min_dim", "max_dim"):
                if getattr(limits, other) is not None:
                    yield Problem((*path, other), f"{key}.{other}: has no effect beside `fixed`; take out one of them")
        elif limits.min_dim is not None or limits.max_dim is not None:
            low = prune.min_dim if limits.min_dim is None else limits.min_dim
            high = prune.max_dim if limits.max_dim is None else limits.max_dim
            yield from _range(path, key, low, high, width)


def _range(path: KeyPath, key: str, low: int, high: int | None, width: int) -> Iterator[Problem]:
    if high is not None and high > width:
        yield Problem((*path, "max_dim"), f"{key}.max_dim: found {high}, expected at most model.width: {width}")
    if low > width:
        yield Problem((*path, "min_dim"), f"{key}.min_dim: found {low}, expected at most model.width: {width}")
    elif high is not None and low > high:
        yield Problem((*path, "min_dim"), f"{key}.min_dim: found {low}, expected at most max_dim: {high}")


def _multiple(path: KeyPath, key: str, multiple: int, width: int) -> Iterator[Problem]:
    if multiple > width:
        found = f"{key}.multiple_of: found {multiple}"
        yield Problem((*path, "multiple_of"), f"{found}, expected at most model.width: {width}")


def _run(config: Config) -> Iterator[Problem]:
    if not config.run.strip() or not config.run.isprintable():
        yield Problem(("run",), f"run: found {quoted(config.run)}, expected the name of a folder")


CHECKS: tuple[Callable[[Config], Iterator[Problem]], ...] = (
    _run,
    *check_data.CHECKS,
    *check_logs.CHECKS,
    _model,
    *check_multitask.CHECKS,
    *check_optimizer.CHECKS,
    *check_weighting.CHECKS,
    *check_training.CHECKS,
    _prune,
    _quality,
    _limits,
)
