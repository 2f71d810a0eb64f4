"""Labels of which one happens only where another does (bought, so clicked): how a config could say it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autodim.data.infer.sections import safe
from autodim.data.infer.target import Target
from autodim.data.infer.words import flow, scalar

CHANCE = 1e-4  # labels that have nothing to do with each other look nested at most so often


def nested(targets: Sequence[Target]) -> list[tuple[Target, Target]]:
    """Pairs (inner, outer): every sampled row whose inner label is 1 has the outer 1, and not the other way round.

    Of several outer labels the narrowest; none where so few ones would agree by chance.
    """
    found = []
    for inner in targets:
        ones = inner.values == 1
        around = [
            outer
            for outer in targets
            if outer is not inner
            and bool((outer.values[ones] == 1).all())
            and bool((inner.values[outer.values == 1] == 0).any())
            and float(np.mean(outer.values[~np.isnan(outer.values)])) ** int(ones.sum()) < CHANCE
        ]
        if around:
            found.append((inner, min(around, key=lambda outer: int((outer.values == 1).sum()))))
    return found


def nested_lines(targets: Sequence[Target]) -> list[str]:
    """Comments below the labels: what was seen, and the ways to say it; nothing is changed by them."""
    lines = []
    for inner, outer in nested(targets):
        name, other = scalar(inner.entry["name"]), scalar(outer.entry["name"])
        within = {**inner.entry, "where": str(outer.entry["name"])}
        rows = int((inner.values == 1).sum())
        lines += [
            f"# all {rows:,} sampled rows with {name} = 1 have {other} = 1: if {name} can only follow {other}, say so:",
            f"#   {flow(within)}   learns it among the rows with {other} = 1 alone",
        ]
        if len(targets) == 2:
            entry = flow({**within, "outside": "zero"})
            first = "" if outer is targets[0] else f", {other} as the first label,"
            lines += [
                f"#   {entry}{first} and `model: {{name: esmm}}` without `sharing`",
                f"#     learns {other}, and {name} given {other}, on all rows (the entire space)",
            ]
    return [f"  {safe(line)}" for line in lines]


def nested_notes(targets: Sequence[Target]) -> list[str]:
    """The same in a sentence, for the terminal."""
    return [
        f"{scalar(inner.entry['name'])} is 1 only where {scalar(outer.entry['name'])} is: the comments below `labels` "
        "say how to tell the model"
        for inner, outer in nested(targets)
    ]
