"""The result as a rich table."""

from __future__ import annotations

import statistics
from typing import Any

from rich.table import Table


def number(value: float) -> str:
    """Three digits and k or M: 17.2 k."""
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}" if value / size < 100 else f"{value / size:.0f}{unit}"
    return f"{value:.3g}"


def speed_table(rows: list[dict[str, Any]]) -> Table:
    """One line a variant; `x` is the ratio to the first variant with the same model, width and batch."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("variant", no_wrap=True)
    for name in ("batch", "optimizer", "dense"):
        table.add_column(name)
    for name in ("train/s", "x", "of limit", "infer/s", "x", "of limit", "memory", "of least"):
        table.add_column(name, justify="right")
    first: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        v = row["variant"]
        label = row["name"] if v["system"] == "autodim" else f"{row['name']}  {v['system']}"
        if "skip" in row:
            table.add_row(label, str(v["batch"]), "left out: " + row["skip"][:70], style="dim")
            continue
        base = first.setdefault((v["model"], v["width"], v["batch"]), row)
        cells = []
        for kind in ("train", "infer"):
            cells.append(number(row[kind]["samples_per_second"]))
            cells.append(f"{row[kind]['samples_per_second'] / base[kind]['samples_per_second']:.2f}")
            cells.append(f"{row[kind]['share']:.0%}" if "share" in row[kind] else "")
        memory = row["memory"]
        used = memory["peak"] - memory["before"]
        cells.append(f"{used / 2**20:,.0f} MiB")
        cells.append(f"{used / memory['least']:.2f}" if "least" in memory else "")
        table.add_row(label, str(v["batch"]), row["facts"]["optimizer"], "bf16" if v["bf16"] else "fp32", *cells)
    return table


def weighting_costs(rows: list[dict[str, Any]]) -> list[str]:
    """A line per weighting of several tasks: its time a step, as multiples of `uniform` in the same round."""
    lines = []
    alike = [
        ({k: v for k, v in r["variant"].items() if k != "weighting"}, r)
        for r in rows
        if r["variant"]["tasks"] > 1 and r["variant"]["system"] == "autodim" and "skip" not in r
    ]
    for key, row in alike:
        base = next((r for k, r in alike if k == key and r["variant"]["weighting"] == "uniform"), None)
        if base is None or row is base:
            continue
        pairs = zip(base["train"]["repeats"], row["train"]["repeats"], strict=True)
        ratios = sorted(plain / weighed for plain, weighed in pairs)
        middle = f"{statistics.median(ratios):.2f} times"
        lines.append(f"{row['name']}: {middle} uniform's time a step ({ratios[0]:.2f} to {ratios[-1]:.2f} by round)")
    return lines


def parts_table(rows: list[dict[str, Any]]) -> Table:
    """Milliseconds of a training step by part."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("ms a step", no_wrap=True)
    for name in ("batch", "dense"):
        table.add_column(name)
    heads = {
        "data": "data",
        "lookup": "lookup",
        "dense": "dense forward, backward",
        "rows": "gradient to rows",
        "update": "update",
    }
    for name in heads.values():
        table.add_column(name, justify="right")
    for row in rows:
        if row.get("parts"):
            v = row["variant"]
            cells = [f"{1000 * row['parts'][name]:.2f}" for name in heads]
            table.add_row(row["name"], str(v["batch"]), "bf16" if v["bf16"] else "fp32", *cells)
    return table
