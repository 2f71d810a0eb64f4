"""Pictures of several tasks: heat maps of shares and of gates, lines over steps. Each gives one SVG or ""."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from autodim.report import numbers, svg
from autodim.report.charts import Line, line_chart
from autodim.report.pictures import LIMIT, WIDTH
from autodim.report.tasks import GateRow, Series, TaskCourse, TaskShares

_LABELS = 220.0
_MOST_COLUMNS = 24
_ROW = 24.0

Cell = tuple[float, str, str] | None  # value from 0, text, what is said when pointed at


def share_map(shares: TaskShares) -> str:
    """Slots x tasks: what each slot is worth to each task, the most wanted slots first; what the cut loses below."""
    order = sorted(shares.slots, key=lambda name: (-max(shares.slots[name], default=0.0), name))[:LIMIT]
    rows: list[tuple[str, list[Cell]]] = [
        (
            name,
            [
                (share, numbers.share(share, 1), f"{name} for {task}: {share:.2%} of all slots")
                for task, share in zip(shares.tasks, shares.slots[name], strict=True)
            ],
        )
        for name in order
    ]
    foot = [numbers.share(lost, 1) for lost in shares.lost]
    return _heat("Which slots serve which task", "slot", shares.tasks, rows, ("the cut loses", foot) if foot else None)


def gate_maps(gates: Sequence[GateRow]) -> list[str]:
    """One picture a level: gates x experts, the mean weight over the test rows."""
    found = []
    for level in sorted({gate.level for gate in gates}):
        here = [gate for gate in gates if gate.level == level]
        experts = list(dict.fromkeys(name for gate in here for name in gate.experts))
        rows: list[tuple[str, list[Cell]]] = []
        for gate in here:
            cells: list[Cell] = [None] * len(experts)
            for name, mean, spread in zip(gate.experts, gate.mean, gate.spread, strict=True):
                tip = f"{gate.name}, {name}: mean {mean:.3f}, standard deviation {spread:.3f} over the rows"
                cells[experts.index(name)] = (mean, f"{mean:.2f}", tip)
            rows.append((gate.name, cells))
        found.append(_heat(f"Mean weight of each expert, level {level}", "gate of", experts, rows))
    return [picture for picture in found if picture]


def course_charts(stage: str, course: TaskCourse) -> list[str]:
    """Losses of the tasks, their weights where they are not all alike, and conflicts of gradients."""
    found = [line_chart(f"{stage}: loss of each task, unweighted", _lines(course.losses))]
    weights = {value for series in course.weights.values() for _, value in series}
    if len(weights) > 1:
        found.append(line_chart(f"{stage}: weight of each task", _lines(course.weights)))
    angles = {"share of pairs in conflict": course.conflict, "mean cosine": course.cosine}
    found.append(line_chart(f"{stage}: gradients of the tasks", _lines(angles)))
    return [chart for chart in found if chart]


def _lines(series: Mapping[str, Series]) -> list[Line]:
    return [(name, f"sweep k{1 + i % 8}", list(values)) for i, (name, values) in enumerate(series.items())]


def _heat(
    title: str,
    first: str,
    columns: Sequence[str],
    rows: Sequence[tuple[str, Sequence[Cell]]],
    foot: tuple[str, Sequence[str]] | None = None,
) -> str:
    values = [cell[0] for _, cells in rows for cell in cells if cell is not None and math.isfinite(cell[0])]
    largest = max(values, default=0.0)
    if not columns or largest <= 0:
        return ""
    columns = columns[:_MOST_COLUMNS]
    names = min(_LABELS, max(90.0, 8 + max(svg.extent(svg.clean(name)) for name, _ in rows)))
    left, head = names + 10, 40.0
    room = min(130.0, (WIDTH - left) / len(columns))
    parts = [svg.text(0, 14, title, "caption"), svg.text(names, 33, first, "head", "end")]
    for k, name in enumerate(columns):
        label = svg.fit(name, room - 6, 12)
        parts.append(svg.text(left + (k + 0.5) * room, 33, label, "head", "middle", title=name))
    for i, (name, cells) in enumerate(rows):
        y = head + i * _ROW
        parts.append(svg.text(names, y + 15.5, svg.fit(name, _LABELS), "label", "end", title=name))
        for k, cell in enumerate(cells[: len(columns)]):
            if cell is None:
                continue
            value, text, tip = cell
            # roots: what is small is still told from nothing
            level = min(8, math.ceil(8 * math.sqrt(max(value, 0.0) / largest))) if math.isfinite(value) else 0
            parts.append(svg.rect(left + k * room + 1, y, room - 2, _ROW - 2, f"h{level}", title=tip, radius=2))
            if room >= 34:
                css = "on-colour" if level >= 5 else "tick"
                parts.append(svg.text(left + (k + 0.5) * room, y + 15.5, text, css, "middle", title=tip))
    bottom = head + len(rows) * _ROW
    if foot is not None:
        parts.append(svg.text(names, bottom + 19, foot[0], "figure", "end"))
        for k, text in enumerate(foot[1][: len(columns)]):
            parts.append(svg.text(left + (k + 0.5) * room, bottom + 19, text, "figure", "middle"))
        bottom += 28
    about = f"{len(rows)} rows by {len(columns)} columns, darker is more"
    return svg.document(WIDTH, bottom + 4, title, about, parts)
