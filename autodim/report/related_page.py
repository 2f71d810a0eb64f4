"""The page of `autodim relate`: heat maps, the course of the cosines, a sentence a pair; offline like the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from autodim.report import numbers, svg
from autodim.report.axes import Scale, left_axis, padded, tick_digits, ticks
from autodim.report.related import HEADS, Estimate, Pair, pair_cells

_CELL, _HEAD = 104.0, 58.0
_NEGATIVE = "".join(
    f"svg .n{k} {{ fill: color-mix(in srgb, var(--poor) {share}%, var(--card)); }} "
    for k, share in enumerate((4, 22, 42, 62, 82))
)


def heat_map(
    title: str, tasks: Sequence[str], of: Callable[[int, int], Estimate | None], largest: float, digits: int = 2
) -> str:
    """One SVG: rows whose training or step, columns whose gain; blue above 0, red below, both deeper when larger.

    Args:
        of: row, column -> what is shown; None: a dash.
        largest: the size that has the deepest colour, above 0.
    """
    room = max(90.0, min(200.0, max(svg.extent(t) for t in tasks) + 14))
    width, height = room + _CELL * len(tasks), _HEAD + (_CELL - 40) * len(tasks)
    parts = [svg.text(0, 16, title, "caption")]
    parts.append(svg.text(0, _HEAD - 8, "from, for:", "tick"))
    for j, task in enumerate(tasks):
        parts.append(
            svg.text(room + (j + 0.5) * _CELL, _HEAD - 8, svg.fit(task, _CELL - 8), "head", "middle", title=task)
        )
    for i, task in enumerate(tasks):
        y = _HEAD + i * (_CELL - 40)
        parts.append(svg.text(0, y + 36, svg.fit(task, room - 8), "label", title=task))
        for j, other in enumerate(tasks):
            x = room + j * _CELL
            found = of(i, j)
            mean = None if found is None else found.mean
            if mean is None:
                parts.append(svg.rect(x + 1, y + 1, _CELL - 2, _CELL - 42, "track", radius=4))
                parts.append(svg.text(x + _CELL / 2, y + 36, numbers.DASH, "tick", "middle"))
                continue
            depth = min(abs(mean) / largest, 1.0)
            css = f"h{round(8 * depth)}" if mean >= 0 else f"n{round(4 * depth)}"
            half = "" if found is None or found.half is None else f"± {_short(found.half, digits)}"
            tip = f"{task} for {other}: {mean:+.4g} {half}".strip()
            parts.append(svg.rect(x + 1, y + 1, _CELL - 2, _CELL - 42, css, title=tip, radius=4))
            ink = "on-colour" if depth > 0.6 else "figure"
            parts.append(svg.text(x + _CELL / 2, y + (30 if half else 36), _signed(mean, digits), ink, "middle"))
            if half:
                parts.append(svg.text(x + _CELL / 2, y + 47, half, ink if depth > 0.6 else "tick", "middle"))
    return svg.document(width, height, title, f"{len(tasks)} x {len(tasks)} tasks", parts)


def course_chart(found: Sequence[Pair]) -> str:
    """One SVG, or "": the mean cosine of each pair over the training."""
    lines = {}
    for pair in found:
        if (pair.target, pair.source) not in lines and pair.course:
            lines[pair.source, pair.target] = pair.course
    if not lines:
        return ""
    left, right, top, bottom = 62.0, 720.0, 40.0, 260.0
    y = Scale(*padded([0.0, *(v for line in lines.values() for _, v in line)]), bottom, top)
    x = Scale(0.0, 1.0, left, right)
    digits = tick_digits(ticks(y.low, y.high, 6), 2)
    title = "Cosine of the gradients over the training"
    parts = [svg.text(0, 16, title, "caption"), *left_axis(y, left, right, lambda v: f"{v:.{digits}f}")]
    parts.append(svg.line(left, y(0.0), right, y(0.0), "mark"))
    for share, name in ((0.0, "start"), (0.5, "half"), (1.0, "end")):
        parts.append(svg.text(x(share), bottom + 18, name, "tick", "middle"))
    last = 0.0
    for k, ((a, b), line) in enumerate(sorted(lines.items(), key=lambda item: y(item[1][-1][1]))):
        colour = k % 8 + 1
        parts.append(svg.polyline([(x(s), y(v)) for s, v in line], f"sweep k{colour}"))
        last = max(y(line[-1][1]), last + 16)
        parts.append(svg.rect(right + 8, last - 5, 10, 10, f"c{colour}", radius=2))
        parts.append(svg.text(right + 24, last + 4, svg.fit(f"{a}, {b}", 210), "tick", title=f"{a}, {b}"))
    return svg.document(960.0, 290.0, title, f"{len(lines)} pairs", parts)


def related_page(title: str, tasks: Sequence[str], found: Sequence[Pair], notes: Sequence[str]) -> str:
    """The whole page."""
    by = {(p.source, p.target): p for p in found}
    known = [p.affinity for p in found if p.affinity.mean is not None]
    # the deepest colour is beyond the noise, so that a map of noise is pale
    size = max((abs(a.mean or 0.0) + (a.half or 0.0) for a in known), default=0.0) or 1.0

    def of(pick: Callable[[Pair], Estimate]) -> Callable[[int, int], Estimate | None]:
        return lambda i, j: None if i == j else pick(by[tasks[i], tasks[j]])

    maps = [
        heat_map("Transfer: share of own training", tasks, of(lambda p: p.transfer), 1.0),
        heat_map("Look-ahead affinity", tasks, of(lambda p: p.affinity), size, digits=0),
        heat_map("Gradient cosine", tasks, of(lambda p: p.cosine["all"]), 1.0),
        heat_map("Share of batches in conflict", tasks, of(lambda p: p.conflict["all"]), 1.0),
    ]
    if any(p.cosine["tables"].mean is not None for p in found):  # otherwise the trunk is all
        maps.append(heat_map("Gradient cosine, tables", tasks, of(lambda p: p.cosine["tables"]), 1.0))
        maps.append(heat_map("Gradient cosine, trunk", tasks, of(lambda p: p.cosine["trunk"]), 1.0))
    head = "".join(f'<th scope="col"{_left(k)}>{_text(h)}</th>' for k, h in enumerate(HEADS))
    body = "".join(
        "<tr>" + "".join(f"<td{_left(k)}>{_text(c)}</td>" for k, c in enumerate(pair_cells(p))) + "</tr>" for p in found
    )
    css = (Path(__file__).parent / "report.css").read_text(encoding="utf-8") + _NEGATIVE
    sentences = "".join(f"<li>{_text(p.words)}</li>" for p in found)
    course = course_chart(found)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{_text(title)} · autodim relate</title><style>{css}</style></head><body><main>"
        f'<header><div class="brand"><h1>{_text(title)}</h1></div><div class="verdict plain">'
        f'<p class="headline">How the tasks are related</p><ul class="sentences">{sentences}</ul></div></header>'
        f'<section><h2>Pairs of tasks</h2><p class="soft">{" ".join(_text(n) for n in notes)}</p>'
        f'<div class="charts">{"".join(maps)}</div></section>'
        + (f'<section><h2>Over the training</h2><div class="scroll">{course}</div></section>' if course else "")
        + f'<section><h2>All figures</h2><div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody>'
        "</table></div></section></main></body></html>\n"
    )


def _left(column: int) -> str:
    return ' class="left"' if column < 2 else ""


def _text(text: str) -> str:
    return escape(svg.clean(text))


def _signed(value: float, digits: int) -> str:
    return numbers.difference(value, digits) if digits else f"{value:+.2g}"


def _short(value: float, digits: int) -> str:
    return numbers.ratio(value, digits) if digits else f"{value:.1g}"
