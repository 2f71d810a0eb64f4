"""Differences to a reference with intervals, and whether they are larger than noise, in plain words. Torch-free.

Two kinds of noise are told apart, since more seeds help against one of them only:

- *seeds*: another initialisation and order would have given other weights. Paired by seed; Student's t over seeds.
- *rows*: other test rows would have given other figures. Within a seed, both models score the same rows, so their
  difference has a paired error (DeLong for AUC, Student for log loss); seeds share the test rows, so it is averaged
  over seeds and not divided by their number.

A difference is larger than noise when its size exceeds both half intervals taken together (root of the sum of squares).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt

from autodim.report import numbers
from autodim.training.student import quantile

LEVEL = 0.95


@dataclass(frozen=True)
class SeedDifference:
    """One model less the reference on one seed's test rows; errors are standard errors over the rows."""

    seed: int
    auc: float
    auc_error: float
    loss: float
    loss_error: float


@dataclass(frozen=True)
class Interval:
    """A mean difference and its half widths at LEVEL: over seeds (None with one seed), over rows, and of both."""

    mean: float
    seeds: float | None
    rows: float
    n: int

    @property
    def half(self) -> float:
        return sqrt((self.seeds or 0.0) ** 2 + self.rows**2)

    @property
    def real(self) -> bool:
        """Larger than the noise of rows and, where it is known, of seeds."""
        return abs(self.mean) > self.half


@dataclass(frozen=True)
class Difference:
    """One model against the reference over the seeds that both have."""

    name: str
    reference: str
    auc: Interval
    loss: Interval


def difference(name: str, reference: str, seeds: Sequence[SeedDifference]) -> Difference:
    """Intervals from at least one seed."""
    return Difference(
        name,
        reference,
        interval([s.auc for s in seeds], [s.auc_error for s in seeds]),
        interval([s.loss for s in seeds], [s.loss_error for s in seeds]),
    )


def interval(values: Sequence[float], errors: Sequence[float]) -> Interval:
    """Mean, t interval over the values, and the mean (root of mean squares) of their own errors as a normal one."""
    n = len(values)
    rows = quantile((1 + LEVEL) / 2, inf) * sqrt(statistics.fmean(e * e for e in errors))
    seeds = None
    if n > 1:
        seeds = quantile((1 + LEVEL) / 2, n - 1) * statistics.stdev(values) / sqrt(n)
    return Interval(statistics.fmean(values), seeds, rows, n)


def words(found: Difference) -> str:
    """Whether the AUC (and, where it says something else, the log loss) differs by more than noise."""
    auc, loss = _word(found.auc, higher_is_better=True), _word(found.loss, higher_is_better=False)
    text = auc if auc == loss else f"{auc} in AUC, {loss} in log loss"
    return text + (" (one seed: rows only)" if found.auc.n == 1 else "")


def _word(found: Interval, higher_is_better: bool) -> str:
    if not found.real:
        return "within noise"
    return "better" if (found.mean > 0) == higher_is_better else "worse"


COLUMNS = (
    "model",
    "AUC difference",
    "95 %: seeds",
    "rows",
    "logloss difference",
    "95 %: seeds",
    "rows",
    "larger than noise?",
)


def difference_cells(found: Difference, ascii: bool = False) -> tuple[str, ...]:
    """The row as text, one cell per entry of COLUMNS."""

    def cells(one: Interval) -> tuple[str, str, str]:
        seeds = numbers.DASH if one.seeds is None else numbers.ratio(one.seeds)
        return numbers.difference(one.mean, ascii=ascii), seeds, numbers.ratio(one.rows)

    return (found.name, *cells(found.auc), *cells(found.loss), words(found))


def difference_markdown(found: Sequence[Difference]) -> str:
    """A markdown table, and a sentence that says how to read it."""
    reference = found[0].reference
    lines = [
        f"Differences to {reference}, paired by seed; half widths of 95 % intervals over seeds (t) and over test rows "
        "(DeLong; paired t):",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---|" + "---:|" * (len(COLUMNS) - 2) + "---|",
    ]
    lines += [f"| {' | '.join(difference_cells(one))} |" for one in found]
    better = [one.name for one in found if words(one).startswith("better")]
    worse = [one.name for one in found if words(one).startswith("worse")]
    said = [f"Better than {reference} by more than noise: {'; '.join(better)}." if better else ""]
    said.append(f"Worse: {'; '.join(worse)}." if worse else "")
    rest = [one.name for one in found if one.name not in better and one.name not in worse]
    said.append(f"Not told apart from it: {'; '.join(rest)}." if rest else "")
    return "\n".join(lines) + "\n\n" + " ".join(s for s in said if s) + "\n"
