"""`csv`: one line per slot (per block, where a table is cut into several), for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from autodim.dimension.allocation import Allocation
from autodim.embedding.layout import Slot

COLUMNS = (
    "slot",
    "table",
    "start",
    "stop",
    "rows",
    "width",
    "common",
    "projected",
    "bias",
    "cost",
    "unit",
    "score",
    "kept",
    "precision",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def to_csv(allocation: Allocation, slots: Sequence[Slot] = ()) -> str:
    """CSV with a header, UTF-8, `\\n` line ends; kept dimensions are separated by blanks.

    A shared table's cost stands in each of its slots' lines: sum over tables, not over lines. A name that a
    spreadsheet would take for a formula gets a leading apostrophe (`=cmd` becomes `'=cmd`); for an exact name
    use the json format. `slots` is not needed.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for e in allocation.entries:
        kept = "" if e.kept is None else " ".join(map(str, e.kept))
        for slot in e.slots:
            writer.writerow(
                [
                    harmless(slot),
                    harmless(e.table),
                    e.start,
                    e.stop,
                    e.rows,
                    e.width,
                    allocation.common,
                    int(e.projected),
                    int(e.bias),
                    e.cost,
                    allocation.unit,
                    "" if e.score is None else repr(e.score),
                    kept,
                    e.precision,
                ]
            )
    return out.getvalue()


def harmless(cell: str) -> str:
    """A text cell that no spreadsheet takes for a formula."""
    return "'" + cell if cell.startswith(_FORMULA) else cell
