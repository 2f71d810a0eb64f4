"""How tasks are related, from what was measured per seed: means with standard errors, and a sentence per pair.

Torch-free. Letters: T tasks.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

from autodim.report import numbers
from autodim.training.student import quantile

Matrix = Sequence[Sequence[float | None]]
LEVEL = 0.95
BINS = 20  # of the training, for the course of a cosine


@dataclass(frozen=True)
class Estimate:
    """A mean, its standard error (None: one value only), and how many values it is of; mean None: not defined."""

    mean: float | None = None
    error: float | None = None
    n: int = 0

    @property
    def half(self) -> float | None:
        """Half of the 95 % interval (Student's t)."""
        return None if self.error is None else quantile((1 + LEVEL) / 2, max(self.n - 1, 1)) * self.error


@dataclass(frozen=True)
class SeedRecord:
    """What one seed measured.

    Attributes:
        control: T best validation losses over a frozen random trunk.
        trained: T x T, row: the task that the shared part learned from, column: whose loss.
        probes: of the joint training, in order: `step`, `affinity` (T x T) and `cosines` by group (T x T).
    """

    seed: int
    control: Sequence[float]
    trained: Sequence[Sequence[float]]
    probes: Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Pair:
    """What was measured of one ordered pair, and in words."""

    source: str
    target: str
    transfer: Estimate
    affinity: Estimate
    cosine: dict[str, Estimate]
    conflict: dict[str, Estimate]
    course: tuple[tuple[float, float], ...]
    words: str = ""

    def to_json(self) -> dict[str, Any]:
        """With the standard error of each mean, and half of its 95 % interval."""
        found = asdict(self)
        for name in ("transfer", "affinity"):
            found[name]["half"] = getattr(self, name).half
        for name in ("cosine", "conflict"):
            for group, one in getattr(self, name).items():
                found[name][group]["half"] = one.half
        return found


def estimate(values: Sequence[float | None]) -> Estimate:
    """Mean and standard error of what is known."""
    found = [v for v in values if v is not None and math.isfinite(v)]
    if not found:
        return Estimate()
    error = statistics.stdev(found) / sqrt(len(found)) if len(found) > 1 else None
    return Estimate(statistics.fmean(found), error, len(found))


def share_of_gain(control: float, other: float, own: float, flat: float = 5e-3) -> float:
    """Transfer: the share of what own training gains over the control that another task's training gives.

    Returns:
        NaN where own training gains less than `flat` of the control's loss: there is nothing to be a share of.
    """
    gain = control - own
    return (control - other) / gain if gain > flat * abs(control) else math.nan


def pairs(tasks: Sequence[str], records: Sequence[SeedRecord], groups: Sequence[str]) -> list[Pair]:
    """Every ordered pair of different tasks.

    Standard errors are over seeds; with one seed they are over its probed batches (transfer then has none).
    """
    found = []
    for i, source in enumerate(tasks):
        for j, target in enumerate(tasks):
            if i == j:
                continue
            moved = estimate([share_of_gain(r.control[j], r.trained[i][j], r.trained[j][j]) for r in records])
            affinity = _over(records, [[p["affinity"][i][j] for p in r.probes] for r in records])
            cosine, conflict = {}, {}
            for group in groups:
                series = [[p["cosines"][group][i][j] for p in r.probes] for r in records]
                cosine[group] = _over(records, series)
                below = [[None if c is None else float(c < 0) for c in one] for one in series]
                conflict[group] = _over(records, below)
            pair = Pair(source, target, moved, affinity, cosine, conflict, _course(records, i, j))
            found.append(Pair(**{**vars(pair), "words": sentence(pair)}))
    return found


def _over(records: Sequence[SeedRecord], series: Sequence[Sequence[float | None]]) -> Estimate:
    if len(records) == 1:
        return estimate(series[0])
    return estimate([estimate(one).mean for one in series])


def _course(records: Sequence[SeedRecord], i: int, j: int) -> tuple[tuple[float, float], ...]:
    """(share of the longest training, mean cosine) in BINS equal parts."""
    last = max((p["step"] for r in records for p in r.probes), default=0) + 1
    cells: dict[int, list[float]] = {}
    for record in records:
        for one in record.probes:
            value = one["cosines"]["all"][i][j]
            if value is not None:
                cells.setdefault(BINS * one["step"] // last, []).append(value)
    return tuple(((k + 0.5) / BINS, statistics.fmean(v)) for k, v in sorted(cells.items()))


def sentence(pair: Pair) -> str:
    """One sentence in plain words."""
    a, b = pair.source, pair.target
    return f"{a} for {b}: {_transfer_words(pair)}; {_step_words(pair)}; {_cosine_words(pair)}."


def _transfer_words(pair: Pair) -> str:
    found, a, b = pair.transfer, pair.source, pair.target
    if found.mean is None:
        return f"{b} gains nothing from training the shared part, so {a} cannot give it a share of that"
    half = found.half
    size = f"{100 * found.mean:.0f} %" + ("" if half is None else f" ± {100 * half:.0f}")
    doubt = half if half is not None else 0.1
    if found.mean + doubt < 0:
        return f"what {a} teaches the shared part is worse for {b} than a random one ({size} of {b}'s own training)"
    if found.mean - doubt <= 0:
        return f"what {a} teaches the shared part is of no clear use to {b} ({size} of {b}'s own training)"
    if found.mean >= 0.8:
        return f"what {a} teaches the shared part serves {b} nearly as well as its own training ({size})"
    return f"what {a} teaches the shared part gives {b} a part of its own training ({size})"


def _step_words(pair: Pair) -> str:
    found, a, b = pair.affinity, pair.source, pair.target
    if found.mean is None:
        return "no step was measured"
    half = found.half or 0.0
    size = f"affinity {found.mean:+.2g}" + (f" ± {half:.1g}" if half else "")
    if abs(found.mean) <= half:
        return f"a step for {a} has no clear effect on the loss of {b} ({size})"
    return f"a step for {a} {'lowers' if found.mean > 0 else 'raises'} {b}'s loss ({size})"


def _cosine_words(pair: Pair) -> str:
    found, below = pair.cosine["all"], pair.conflict["all"]
    if found.mean is None:
        return "no gradient was compared"
    half = found.half or 0.0
    size = f"cosine {numbers.difference(found.mean, 2, ascii=True)}" + (f" ± {numbers.ratio(half, 2)}" if half else "")
    if abs(found.mean) <= half:
        word = "show no clear common direction"
    else:
        word = "agree on average" if found.mean > 0 else "disagree on average"
    return f"their gradients {word} ({size}) and conflict in {100 * (below.mean or 0):.0f} % of the batches"


HEADS = ("shared part learns from", "for", "transfer", "affinity", "cosine", "below 0", "cosine tables", "cosine trunk")


def intervals(seeds: int, sign: str = "±") -> str:
    """What follows the sign in every figure and sentence: the one convention of the tables, the page and the words."""
    over = f"over {seeds} seeds" if seeds > 1 else "over the probed batches of one seed (transfer has none)"
    return f"after {sign} half of a 95 % interval {over}, Student's t"


def pair_cells(pair: Pair) -> tuple[str, ...]:
    """The row as text, one cell per entry of HEADS; after +- what `intervals` says."""
    return (
        pair.source,
        pair.target,
        _cell(pair.transfer, 2),
        "-" if pair.affinity.mean is None else f"{pair.affinity.mean:+.3g}" + _half(pair.affinity),
        _cell(pair.cosine["all"], 3),
        "-" if pair.conflict["all"].mean is None else f"{100 * pair.conflict['all'].mean:.0f} %",
        _cell(pair.cosine["tables"], 3),
        _cell(pair.cosine["trunk"], 3),
    )


def _cell(found: Estimate, digits: int) -> str:
    if found.mean is None:
        return "-"
    half = "" if found.half is None else f" +- {numbers.ratio(found.half, digits)}"
    return numbers.difference(found.mean, digits, ascii=True) + half


def _half(found: Estimate) -> str:
    return "" if found.half is None else f" +- {found.half:.1g}"
