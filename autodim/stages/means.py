"""The models of a comparison's report: means over seeds in the place of one run's own figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from autodim.report.data import ResultRow, product


@dataclass(frozen=True)
class Means:
    """The run's own models as means over the seeds of a comparison; widths and courses are those of the first seed."""

    uncut: ResultRow | None
    cut: ResultRow | None
    product: ResultRow
    seeds: tuple[int, ...]


def over_seeds(rows: Sequence[ResultRow], means: Means | None) -> list[ResultRow]:
    """A run's own rows with their means over seeds; one that has none is left out, as it compares with no mean."""
    if means is None:
        return list(rows)
    handed, found = product(rows), []
    for row in rows:
        mean = means.product if row is handed else {"uncut": means.uncut, "cut": means.cut}.get(row.role)
        if mean is not None:
            size = row.bytes if row.role == "served" else mean.bytes
            found.append(replace(mean, name=row.name, role=row.role, bytes=size))
    return found


def means_notes(means: Means) -> tuple[str, ...]:
    """What a report over seeds is of."""
    seeds = ", ".join(map(str, means.seeds))
    return (
        f"The figures of the models are means over the seeds {seeds}; widths, courses and other notes are those of "
        f"seed {means.seeds[0]}.",
    )
