"""Pictures of curvature against frequency: one panel a slot, one line a run, both axes logarithmic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from autodim.report import svg
from autodim.report.axes import Scale

_WIDTH, _HEIGHT = 470.0, 270.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 456.0, 62.0, 222.0
_LINES = ("line-a", "line-b")
_MOST = 12  # panels


def binned(counts: Sequence[int], values: Sequence[float]) -> list[tuple[float, float, int]]:
    """Ids gathered by powers of two of their count: (mean count, mean value, ids), only bins with a positive mean."""
    bins: dict[int, list[tuple[int, float]]] = {}
    for count, value in zip(counts, values, strict=True):
        bins.setdefault(int(math.log2(count)), []).append((count, value))
    found = []
    for _, members in sorted(bins.items()):
        mean = sum(v for _, v in members) / len(members)
        if mean > 0:
            found.append((sum(c for c, _ in members) / len(members), mean, len(members)))
    return found


def panel(slot: str, runs: Sequence[tuple[str, Sequence[int], Sequence[float]]]) -> str:
    """One slot's picture: mean top eigenvalue against count, a line a run; "" where nothing is positive.

    Args:
        runs: name, counts (each at least 1) and top eigenvalues, at most two.
    """
    series = [(name, binned(counts, top)) for name, counts, top in runs[: len(_LINES)]]
    points = [p for _, line in series for p in line]
    if not points:
        return ""
    x = Scale(0.0, max(math.ceil(math.log10(max(c for c, _, _ in points))), 1), _LEFT, _RIGHT)
    lows, highs = min(v for _, v, _ in points), max(v for _, v, _ in points)
    y = Scale(math.floor(math.log10(lows)), math.ceil(math.log10(highs) + 1e-9), _BOTTOM, _TOP)
    parts = [svg.text(0, 14, svg.fit(slot, 300), "caption")]
    for power in range(int(y.low), int(y.high) + 1):
        parts.append(svg.line(_LEFT, y(power), _RIGHT, y(power), "grid"))
        parts.append(svg.text(_LEFT - 7, y(power) + 4, f"1e{power}", "tick", "end"))
    parts.append(svg.line(_LEFT, _BOTTOM, _RIGHT, _BOTTOM, "axis"))
    for power in range(int(x.high) + 1):
        parts.append(svg.line(x(power), _BOTTOM, x(power), _BOTTOM + 4, "axis"))
        parts.append(svg.text(x(power), _BOTTOM + 17, f"{10**power:,}", "tick", "middle"))
    parts.append(svg.text((_LEFT + _RIGHT) / 2, _BOTTOM + 38, "examples with the id", "tick", "middle"))
    for number, (name, line) in enumerate(series):
        css = _LINES[number]
        places = [(x(math.log10(c)), y(math.log10(v))) for c, v, _ in line]
        parts.append(svg.polyline(places, css))
        for (px, py), (count, value, ids) in zip(places, line, strict=True):
            tip = f"{name}: {ids:,} ids of about {count:,.0f} examples, mean top eigenvalue {value:.3g}"
            parts.append(svg.circle(px, py, 2.6, f"dot {css}", tip))
        top = 28 + 16 * number
        parts += [svg.line(_LEFT, top, _LEFT + 18, top, css), svg.text(_LEFT + 24, top + 4, svg.fit(name, 340), "tick")]
    about = f"mean top eigenvalue of ids by frequency, {' and '.join(name for name, _ in series)}"
    return svg.document(_WIDTH, _HEIGHT, f"{slot}: curvature", about, parts)


def page(
    entries: Sequence[Mapping[str, Any]], head: Sequence[str], body: Sequence[Sequence[str]], notes: Sequence[str]
) -> str:
    """One offline HTML page: the panels of the largest slots, the table, and notes."""
    slots = sorted(dict.fromkeys(e["slot"] for e in entries), key=lambda s: -_ids(entries, s))[:_MOST]
    panels = [panel(s, [(e["run"], e["counts"], e["top"]) for e in entries if e["slot"] == s]) for s in slots]
    style = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")

    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(svg.clean(c))}</{tag}>" for c in cells) + "</tr>"

    rows = "".join(row(cells, "td") for cells in body)
    said = "".join(f'<p class="soft">{escape(svg.clean(n))}</p>' for n in notes)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Curvature by id</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{style}</style></head><body><main>\n<h1>Curvature by id</h1>\n"
        '<p class="soft">The largest eigenvalue of each id\'s own block of the Hessian of the mean loss, against how '
        "many examples have the id. Points are means over ids whose counts share a power of two.</p>\n"
        f'<div class="charts">{"".join(panels)}</div>\n'
        f'<div class="scroll"><table><thead>{row(head, "th")}</thead><tbody>{rows}</tbody></table></div>\n{said}'
        "</main></body></html>\n"
    )


def _ids(entries: Sequence[Mapping[str, Any]], slot: str) -> int:
    return max(e["ids"] for e in entries if e["slot"] == slot)
