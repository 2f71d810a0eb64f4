"""Comparison of runs over seeds: means, spread, and the difference to a reference, as rows, markdown and CSV.

Differences are paired by seed where both have it: the same seed means the same split, initial weights and order, so
its noise cancels, and the spread of the differences is what tells luck from merit.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autodim.errors import ConfigError, did_you_mean
from autodim.export.csv_format import harmless
from autodim.report import numbers, svg


@dataclass(frozen=True)
class SeedResult:
    """One model of one seed on the test rows; units as in `ResultRow`."""

    name: str
    seed: int
    auc: float | None = None
    logloss: float | None = None
    params: float | None = None
    bytes: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n - 1) of n numbers; None where nothing, or only one, was measured."""

    mean: float | None = None
    sd: float | None = None
    n: int = 0


@dataclass(frozen=True)
class ComparisonRow:
    """One model over its seeds. `auc_difference`, `logloss_difference`: to the reference, over seeds that both have."""

    name: str
    seeds: tuple[int, ...]
    auc: Spread
    logloss: Spread
    params: Spread
    bytes: Spread
    seconds: Spread
    auc_difference: Spread
    logloss_difference: Spread


def spread(values: Sequence[float | None]) -> Spread:
    """Mean and spread of what was measured."""
    found = [v for v in values if v is not None and numbers.known(v)]
    if not found:
        return Spread()
    return Spread(statistics.fmean(found), statistics.stdev(found) if len(found) > 1 else None, len(found))


def compare(results: Sequence[SeedResult], reference: str | None = None) -> tuple[ComparisonRow, ...]:
    """One row per name, in order of first appearance.

    Args:
        results: any number of seeds per name; a (name, seed) given twice keeps the last.
        reference: the name that differences are taken to; default: the first.

    Raises:
        ConfigError: `reference` is not among the names.
    """
    groups: dict[str, dict[int, SeedResult]] = {}
    for result in results:
        groups.setdefault(result.name, {})[result.seed] = result
    if not groups:
        return ()
    if reference is not None and reference not in groups:
        raise ConfigError(f'no model "{reference}" to compare with{did_you_mean(reference, list(groups))}')
    base = groups[reference if reference is not None else next(iter(groups))]
    return tuple(_row(name, group, base) for name, group in groups.items())


def _row(name: str, group: dict[int, SeedResult], base: dict[int, SeedResult]) -> ComparisonRow:
    def over(of: Callable[[SeedResult], float | None]) -> Spread:
        return spread([of(r) for r in group.values()])

    def against(of: Callable[[SeedResult], float | None]) -> Spread:
        if group is base:
            return Spread()
        pairs = [(of(r), of(base[seed])) for seed, r in group.items() if seed in base]
        return spread([None if a is None or b is None else a - b for a, b in pairs])

    return ComparisonRow(
        name=name,
        seeds=tuple(sorted(group)),
        auc=over(lambda r: r.auc),
        logloss=over(lambda r: r.logloss),
        params=over(lambda r: r.params),
        bytes=over(lambda r: r.bytes),
        seconds=over(lambda r: r.seconds),
        auc_difference=against(lambda r: r.auc),
        logloss_difference=against(lambda r: r.logloss),
    )


COLUMNS = ("model", "AUC", "difference", "logloss", "difference", "parameters", "memory", "time", "seeds")


def comparison_cells(row: ComparisonRow, ascii: bool = False) -> tuple[str, ...]:
    """The row as text, one cell per entry of COLUMNS."""
    sign = "+-" if ascii else "±"

    def of(s: Spread) -> str:
        return numbers.ratio(s.mean) + (f" {sign} {numbers.ratio(s.sd)}" if s.sd is not None else "")

    def change(s: Spread) -> str:
        return numbers.difference(s.mean, ascii=ascii) + (f" {sign} {numbers.ratio(s.sd)}" if s.sd is not None else "")

    return (
        svg.clean(row.name),
        of(row.auc),
        change(row.auc_difference),
        of(row.logloss),
        change(row.logloss_difference),
        numbers.count(row.params.mean),
        numbers.size(row.bytes.mean),
        numbers.seconds(row.seconds.mean),
        str(len(row.seeds)),
    )


def comparison_markdown(rows: Sequence[ComparisonRow]) -> str:
    """A markdown table for a README; pipes and line breaks in names are escaped, the best AUC is bold."""
    best = max((r.auc.mean for r in rows if r.auc.mean is not None), default=None)
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * (len(COLUMNS) - 1)]
    for row in rows:
        cells = [" ".join(c.replace("\\", "\\\\").replace("|", "\\|").split()) for c in comparison_cells(row)]
        cells[0] = cells[0].replace("<", "&lt;")
        if best is not None and row.auc.mean == best:
            cells[1] = f"**{cells[1]}**"
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def comparison_csv(rows: Sequence[ComparisonRow]) -> str:
    """Full precision, one line per model; empty where nothing was measured."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    measures = ("auc", "logloss", "auc_difference", "logloss_difference", "params", "bytes", "seconds")
    writer.writerow(["model", "seeds", *(f"{m}_{part}" for m in measures for part in ("mean", "sd"))])
    for row in rows:
        spreads = (
            row.auc, row.logloss, row.auc_difference, row.logloss_difference, row.params, row.bytes, row.seconds,
        )  # fmt: skip
        figures = [v for s in spreads for v in (s.mean, s.sd)]
        name = svg.clean(row.name)
        writer.writerow(
            [harmless(name), " ".join(map(str, row.seeds)), *("" if v is None else repr(v) for v in figures)]
        )
    return out.getvalue()
