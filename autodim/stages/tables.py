"""The comparison's rows as tables: one per budget, each against the uncut model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autodim import artifact
from autodim.report.compare import ComparisonRow, SeedResult, compare, comparison_csv, comparison_markdown


def comparisons(rows: Sequence[dict[str, Any]]) -> list[tuple[str, tuple[ComparisonRow, ...]]]:
    """Per budget share: a title and the rows, the uncut model first, differences paired by seed against it."""
    measured = [r for r in rows if "infeasible" not in r]
    shares = sorted({r["share"] for r in measured if r["strategy"] != "uncut"}, reverse=True)
    uncut = [_seed_result(r, "uncut") for r in measured if r["strategy"] == "uncut"]
    tables = []
    for share in shares:
        cells = [r for r in measured if r["share"] == share and r["strategy"] != "uncut"]
        results = [*uncut, *(_seed_result(r, r["strategy"]) for r in cells)]
        tables.append(
            (f"budget {share:.4g} of the uniform model", compare(results, reference="uncut" if uncut else None))
        )
    return tables


def write_tables(folder: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Save FOLDER/comparison.md and .csv; returns the first."""
    tables = comparisons(rows)
    text = "\n\n".join(f"### {title}\n\n{comparison_markdown(table)}" for title, table in tables)
    artifact.write_text(folder / "comparison.md", text + "\n")
    artifact.write_text(folder / "comparison.csv", "\n".join(comparison_csv(table) for _, table in tables))
    return folder / "comparison.md"


def _seed_result(row: dict[str, Any], name: str) -> SeedResult:
    return SeedResult(name, row["seed"], row["auc"], row["logloss"], row["params"], row["train_bytes"], row["seconds"])
