"""Presets: one word that fixes several settings. In a file it refuses what says otherwise beside it; given as an
override it outranks the file, as overrides do."""

from __future__ import annotations

from typing import Any

from autodim.config import walk
from autodim.config.overrides import OVERRIDE
from autodim.config.spelling import shown
from autodim.config.translate import Marks, lookup, place

# paper: SSEDS (Qu et al., SIGIR 2022, arXiv 2204.03281) as printed. The budget counts dimensions (the paper's
# ||alpha||_0), one raw ranking over all slots, no floor under a slot, the first dense layer starts cold.
PRESETS: dict[str, dict[tuple[str, ...], Any]] = {
    "paper": {
        ("prune", "strategy"): "sseds",
        ("prune", "budget", "unit"): "dims",
        ("prune", "rank"): "score",
        ("prune", "zero"): "drop",
        ("retrain", "mode"): "warm_cold_first",
    },
}
_DEFAULT_SHARE = 0.25  # a preset that sets the budget's unit must keep the default share that it hides


def apply_preset(raw: dict[str, Any], marks: Marks, source: str) -> list[str]:
    """Fills a preset's settings into `raw` and `marks`, in place.

    Returns:
        One line for each setting that was given and contradicts the preset.
    """
    found, name = lookup(raw, ("prune", "preset"))
    if not found or not isinstance(name, str) or name not in PRESETS:
        return []  # an unknown preset is the schema's to refuse
    problems = []
    preset_at = place(("prune", "preset"), marks, source)
    # a budget in absolute numbers means another thing in another unit: that is for the user to say
    counted = lookup(raw, ("prune", "budget", "amount"))[1] is not None
    if lookup(raw, ("prune", "budget"))[1] is None:
        raw["prune"]["budget"] = {"share": _DEFAULT_SHARE}
        marks[("prune", "budget", "share")] = "default"
    for path, value in PRESETS[name].items():
        given, current = lookup(raw, path)
        outranked = preset_at == OVERRIDE != place(path, marks, source) and not (counted and path[-1] == "unit")
        if not given or (outranked and current != value):
            section = _section(raw, path[:-1])
            if section is not None:
                section[path[-1]] = value
                marks[path] = f"preset {name}"
        elif current != value:
            problems.append(
                f"{place(path, marks, source)}: {walk.dotted(path)}: found {shown(current)}, but prune.preset: {name} "
                f"({preset_at}) means {shown(value)}; take out one of the two"
            )
    return problems


def _section(raw: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any] | None:
    """The section at a path, made where absent; None where something else stands there."""
    here: Any = raw
    for part in path:
        if here.get(part) is None:
            here[part] = {}
        here = here[part]
        if not isinstance(here, dict):
            return None
    return here
