"""The comparison's rows as tables: one per budget, each against the uncut model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from autodim import artifact
from autodim.config.schema import Config
from autodim.report import numbers
from autodim.report.compare import ComparisonRow, SeedResult, compare, comparison_csv, comparison_markdown, spread
from autodim.report.data import ResultRow
from autodim.report.differences import Difference, SeedDifference, difference_markdown, interval
from autodim.stages.compare import Grid, Place, cell_run, row_name, seed_run
from autodim.stages.differences import paired
from autodim.stages.means import Means
from autodim.stages.report import write_report
from autodim.stages.run import Run
from autodim.stages.search import write_config
from autodim.training.progress import Progress


def comparisons(rows: Sequence[dict[str, Any]]) -> list[tuple[str, tuple[ComparisonRow, ...]]]:
    """Per budget share: a title and the rows, the uncut model first, differences paired by seed against it."""
    measured = [r for r in rows if "infeasible" not in r]
    shares = sorted({r["share"] for r in measured if r["strategy"] != "uncut"}, reverse=True)
    uncut = [_seed_result(r, "uncut") for r in measured if r["strategy"] == "uncut"]
    tables = []
    for share in shares:
        cells = [r for r in measured if r["share"] == share and r["strategy"] != "uncut"]
        results = [*uncut, *(_seed_result(r, row_name(r)) for r in cells)]
        tables.append(
            (f"budget {share:.4g} of the uniform model", compare(results, reference="uncut" if uncut else None))
        )
    return tables


def write_tables(
    folder: Path, rows: Sequence[dict[str, Any]], differences: Mapping[float, Sequence[Difference]] | None = None
) -> Path:
    """Save FOLDER/comparison.md and .csv; returns the first.

    Args:
        differences: per budget share, to the chosen reference.
    """
    tables = comparisons(rows)
    shares = sorted({r["share"] for r in rows if "infeasible" not in r and r["strategy"] != "uncut"}, reverse=True)
    parts = []
    for share, (title, table) in zip(shares, tables, strict=True):
        told = difference_markdown(differences[share]) if differences and differences.get(share) else ""
        parts.append(f"### {title}\n\n{comparison_markdown(table)}" + (f"\n{told}" if told else ""))
    text = "\n\n".join(parts)
    artifact.write_text(folder / "comparison.md", text + truth_table(rows) + task_table(rows) + "\n")
    artifact.write_text(folder / "comparison.csv", "\n".join(comparison_csv(table) for _, table in tables))
    return folder / "comparison.md"


def truth_table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: how the found widths correlate with a planted log's true ones; empty for other logs."""
    known = [r for r in rows if r.get("truth_spearman") is not None]
    if not known:
        return ""
    lines = [
        "\n\n### Spearman of found and true widths\n",
        "| model | share | mean | per seed |",
        "|---|---:|---:|---|",
    ]
    for name, share in dict.fromkeys((row_name(r), r["share"]) for r in known):
        values = [r["truth_spearman"] for r in known if (row_name(r), r["share"]) == (name, share)]
        each = ", ".join(f"{v:.2f}" for v in values)
        lines.append(f"| {name} | {share:g} | {sum(values) / len(values):.2f} | {each} |")
    return "\n".join(lines) + "\n"


def task_table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: each label's test AUC (of a regression RMSE) over seeds; empty where there is one label."""
    known = [r for r in rows if r.get("tasks")]
    if not known:
        return ""
    labels = list(known[0]["tasks"])
    lines = ["\n\n### Each label: test AUC, of a regression RMSE\n"]
    lines += ["| model | share | " + " | ".join(labels) + " |", "|---|---:|" + "---:|" * len(labels)]
    for name, share in dict.fromkeys((row_name(r), r["share"]) for r in known):
        cells = []
        for label in labels:
            found = [r["tasks"][label] for r in known if (row_name(r), r["share"]) == (name, share)]
            over = spread([t["auc"] if t.get("rmse") is None else t["rmse"] for t in found])
            cells.append(numbers.ratio(over.mean) + (f" ± {numbers.ratio(over.sd)}" if over.sd is not None else ""))
        lines.append(f"| {name} | {share:g} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write_reports(
    config: Config, place: Place, grid: Grid, rows: Sequence[dict[str, Any]], progress: Progress | None = None
) -> list[Path]:
    """A report per budget: the first strategy beside every other one. AUCs and losses are means over the seeds, and
    each other strategy has the difference to the first with its interval, paired by seed; widths and courses are those
    of the first seed.

    A run that lent its pretraining gets the baselines into its own report too, where the budget is its own; the
    differences are to its strategy, where that was compared.
    """
    base, quiet = place.home(config), progress or Progress("quiet")
    written = []
    first, mode = grid.cells[0]
    name = row_name({"strategy": first, "mode": mode})
    gaps = paired(config, place, grid, rows, name, quiet)
    for share, (_, compared) in zip(sorted(grid.shares, reverse=True), comparisons(rows), strict=False):
        baselines = with_gaps(compared, gaps.get(share, {}), name)
        cell = cell_run(seed_run(base, place, grid.seeds[0]), first, share, mode)
        if cell.done("evaluate") is not None:
            write_config(cell)
            path = place.folder / f"report-{share:g}.html"
            written.append(write_report(cell, baselines, path, means_of(rows, compared, share, name, grid.seeds)))
        own = config.prune.budget.share
        if place.run is not None and own == share:
            own_name = own_row(config, grid)
            own_gaps = gaps if own_name == name else paired(config, place, grid, rows, own_name, quiet)
            mine = with_gaps(compared, own_gaps.get(share, {}), own_name)
            artifact.write_json(place.run / "baselines.json", [asdict(b) for b in mine])
            run = Run(place.run, config)
            if run.done("evaluate") is not None:
                run.reseal("baselines.json")
                written.append(write_report(run))
    return written


def means_of(
    rows: Sequence[dict[str, Any]], compared: Sequence[ComparisonRow], share: float, name: str, seeds: tuple[int, ...]
) -> Means | None:
    """The models of one cell as means over the seeds; None with one seed."""
    found = {r.name: baseline(r) for r in compared}
    if len(seeds) < 2 or name not in found:
        return None
    own = [r for r in rows if row_name(r) == name and r["share"] == share and "infeasible" not in r]
    auc, loss = spread([r["cut_auc"] for r in own]), spread([r["cut_logloss"] for r in own])
    spread_of = {"auc": auc.mean, "logloss": loss.mean, "auc_sd": auc.sd, "logloss_sd": loss.sd}
    cut = replace(found[name], role="cut", seconds=None, seeds=auc.n, **spread_of)  # type: ignore[arg-type]
    return Means(found.get("uncut"), cut if auc.n else None, found[name], seeds)


def own_row(config: Config, grid: Grid) -> str:
    """What a run's own strategy and way of retraining are called in the tables of a grid."""
    mode = "distill" if config.retrain.distill and config.retrain.mode == "warm" else config.retrain.mode
    return row_name({"strategy": config.prune.strategy, "mode": None if grid.modes == (None,) else mode})


def with_gaps(
    compared: Sequence[ComparisonRow], gaps: Mapping[str, Sequence[SeedDifference]], name: str
) -> tuple[ResultRow, ...]:
    """All others than the model of a name as its baselines, with the difference to it where that was measured."""
    found = []
    for row in compared:
        if row.name in ("uncut", name):
            continue
        pairs = gaps.get(row.name)
        one = baseline(row)
        if pairs:
            to = interval([p.auc for p in pairs], [p.auc_error for p in pairs])
            if to.half == to.half:  # a number
                one = replace(one, gap=-to.mean, gap_half=to.half, gap_seeds=to.n)
        found.append(one)
    return tuple(found)


def baseline(row: ComparisonRow) -> ResultRow:
    """A strategy's means and spread over seeds, as a report shows them."""
    return ResultRow(
        name=row.name,
        role="baseline",
        auc=row.auc.mean,
        logloss=row.logloss.mean,
        params=row.params.mean,
        bytes=row.bytes.mean,
        seconds=row.seconds.mean,
        seeds=len(row.seeds),
        auc_sd=row.auc.sd,
        logloss_sd=row.logloss.sd,
    )


def _seed_result(row: dict[str, Any], name: str) -> SeedResult:
    return SeedResult(name, row["seed"], row["auc"], row["logloss"], row["params"], row["train_bytes"], row["seconds"])
