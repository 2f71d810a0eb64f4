"""Charts of measurements: training curves and the dot plot of models against baselines. Each gives one SVG or ""."""

from __future__ import annotations

from autodim.report import numbers, svg
from autodim.report.axes import Scale, bottom_axis, left_axis, padded, tick_digits, ticks
from autodim.report.data import CurvePoint, ResultRow, WatchEvent, product

_WIDTH, _HEIGHT = 470.0, 250.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 48.0, 456.0, 46.0, 208.0
_MOST_POINTS = 300
_MOST_EVENTS = 50

Line = tuple[str, str, list[tuple[float, float]]]  # name, CSS class, (step, value)


def best_point(points: tuple[CurvePoint, ...]) -> CurvePoint | None:
    """The evaluation whose weights are kept: the one that says so, else the first with the highest validation AUC."""
    for point in points:
        if point.kept:
            return point
    measured = [p for p in points if numbers.known(p.valid_auc)]
    return max(measured, key=lambda p: (p.valid_auc or 0.0, -p.step), default=None)


def loss_chart(stage: str, points: tuple[CurvePoint, ...], events: tuple[WatchEvent, ...] = ()) -> str:
    """Training loss and validation logloss against steps; the kept evaluation and what the watch saw are marked."""
    lines: list[Line] = [
        ("training loss", "line-a", _series(points, "train_loss")),
        ("validation logloss", "line-b", _series(points, "valid_logloss")),
    ]
    best = best_point(points)
    return _chart(f"{stage}: loss", lines, _mark(best, best.valid_logloss if best else None), events)


def auc_chart(stage: str, points: tuple[CurvePoint, ...]) -> str:
    """Validation AUC against steps, the best marked."""
    best = best_point(points)
    lines: list[Line] = [("validation AUC", "line-b", _series(points, "valid_auc"))]
    return _chart(f"{stage}: validation AUC", lines, _mark(best, best.valid_auc if best else None))


def line_chart(title: str, lines: list[Line]) -> str:
    """Lines against steps, at most eight; "" where none has a point."""
    return _chart(title, lines[:8], None)


def _mark(best: CurvePoint | None, value: float | None) -> tuple[float, float] | None:
    if best is None or value is None or not numbers.known(value):
        return None
    return float(best.step), value


def _series(points: tuple[CurvePoint, ...], name: str) -> list[tuple[float, float]]:
    """The measured values of one attribute, at most `_MOST_POINTS` of them (means over equal groups)."""
    values = [(float(p.step), v) for p in sorted(points, key=lambda p: p.step) if numbers.known(v := getattr(p, name))]
    group = -(-len(values) // _MOST_POINTS)
    if group <= 1:
        return values
    groups = [values[i : i + group] for i in range(0, len(values), group)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def _chart(title: str, lines: list[Line], mark: tuple[float, float] | None, events: tuple[WatchEvent, ...] = ()) -> str:
    lines = [ln for ln in lines if ln[2]]
    if not lines:
        return ""
    values = [y for _, _, series in lines for _, y in series]
    if mark:
        values.append(mark[1])
    steps = [x for _, _, series in lines for x, _ in series]
    x = Scale(0.0 if min(steps) >= 0 else min(steps), max(steps), _LEFT, _RIGHT)
    y = Scale(*padded(values, 0.1), _BOTTOM, _TOP)
    digits = tick_digits(ticks(y.low, y.high, 6), 2)
    parts = [svg.text(0, 14, title, "caption")]
    parts += left_axis(y, _LEFT, _RIGHT, lambda v: numbers.ratio(v, digits))
    parts += bottom_axis(x, _BOTTOM, _TOP, numbers.short)
    parts.append(svg.text((_LEFT + _RIGHT) / 2, _BOTTOM + 36, "step", "tick", "middle"))
    legend, room = _LEFT, min(150.0, (_WIDTH - _LEFT) / len(lines))
    for name, css, series in lines:
        parts.append(svg.polyline([(x(a), y(b)) for a, b in series], css))
        if len(series) <= 40:
            parts += [svg.circle(x(a), y(b), 2.2, f"dot {css}") for a, b in series]
        if len(lines) > 1:
            shown = svg.fit(name, room - 30, 12) if len(lines) > 2 else name
            parts += [svg.line(legend, 28, legend + 18, 28, css), svg.text(legend + 24, 32, shown, "tick", title=name)]
            legend += room
    about = f"{len(steps)} measurements up to step {max(steps):,.0f}"
    for event in events[:_MOST_EVENTS]:
        at = x(min(max(float(event.step), x.low), x.high))
        parts.append(svg.polygon([(at - 5, _TOP - 10), (at + 5, _TOP - 10), (at, _TOP - 1)], f"event-{event.kind}"))
        parts.append(svg.circle(at, _TOP - 6, 7, "hit", event.words))
    about += f"; {len(events)} events of the watch" if events else ""
    if mark:
        step, value = mark
        parts += [svg.line(x(step), _TOP, x(step), _BOTTOM, "mark"), svg.circle(x(step), y(value), 4.5, "best")]
        said = f"{numbers.ratio(value)} at step {step:,.0f} (kept)"
        right = x(step) > (_LEFT + _RIGHT) / 2
        high = y(value) < (_TOP + _BOTTOM) / 2
        side, anchor = (-9, "end") if right else (9, "start")
        parts.append(svg.text(x(step) + side, _BOTTOM - 10 if high else _TOP + 14, said, "figure halo", anchor))
        about += f"; {said}"
    return svg.document(_WIDTH, _HEIGHT, title, about, parts)


def dot_plot(results: tuple[ResultRow, ...]) -> str:
    """Test AUC of the product and every baseline, best on top, with the spread over seeds; uncut as a line."""
    found = product(results)
    mine = None if found is None or found.role == "cut" else found
    shown = [r for r in results if (r is mine or r.role == "baseline") and numbers.known(r.auc)]
    if not shown:
        return ""
    shown.sort(key=lambda r: -(r.auc or 0))
    uncut = next((r for r in results if r.role == "uncut" and numbers.known(r.auc)), None)
    values = [(r.auc or 0) + sign * (r.auc_sd or 0) for r in ([*shown, uncut] if uncut else shown) for sign in (-1, 1)]
    step, top, left, right = 30.0, 34.0, 250.0, 840.0
    bottom = top + step * len(shown)
    x = Scale(*padded(values, 0.05, 5e-4), left, right)
    digits = tick_digits(ticks(x.low, x.high, 6), 3)
    parts = bottom_axis(x, bottom, top, lambda v: numbers.ratio(v, digits), wanted=6, grid=True)
    parts.append(svg.text((left + right) / 2, bottom + 36, "test AUC (higher is better)", "tick", "middle"))
    if uncut and uncut.auc is not None:
        parts.append(svg.line(x(uncut.auc), top - 6, x(uncut.auc), bottom, "mark"))
        anchor = "end" if x(uncut.auc) > (left + right) / 2 else "start"
        parts.append(svg.text(x(uncut.auc), 16, f"{uncut.name}: {numbers.ratio(uncut.auc)}", "tick", anchor))
    for i, row in enumerate(shown):
        auc, y = row.auc or 0.0, top + (i + 0.5) * step
        ours = row is mine
        tip = f"{row.name}: {numbers.ratio(auc)}" + (f" ± {numbers.ratio(row.auc_sd)}" if row.auc_sd else "")
        tip += f", {row.seeds} seeds" if row.seeds > 1 else ""
        if ours:
            parts.append(svg.rect(0, y - step / 2 + 1, 960, step - 2, "row-ours", radius=4))
        parts.append(svg.text(left - 24, y + 4.5, svg.fit(row.name, left - 34), "label", "end", title=tip))
        if row.auc_sd:
            parts.append(svg.line(x(auc - row.auc_sd), y, x(auc + row.auc_sd), y, "spread"))
            parts += [
                svg.line(x(auc + s * row.auc_sd), y - 4, x(auc + s * row.auc_sd), y + 4, "spread") for s in (-1, 1)
            ]
        parts.append(svg.circle(x(auc), y, 6 if ours else 5, "dot-ours" if ours else "dot-base", tip))
        figure = numbers.ratio(auc) + (f" ± {numbers.ratio(row.auc_sd)}" if row.auc_sd else "")
        parts.append(svg.text(956, y + 4.5, figure, "figure" if ours else "tick", "end"))
    about = f"{len(shown)} models, the best is {shown[0].name} with {numbers.ratio(shown[0].auc)}"
    return svg.document(960, bottom + 46, "Test AUC of the retrained model and the baselines", about, parts)
