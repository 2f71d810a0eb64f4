"""The picture of a sweep: quality over budgets, a line a strategy, with intervals, the uncut model and the knees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import log2
from pathlib import Path

from autodim.report import numbers, svg
from autodim.report.axes import Scale, left_axis, padded, tick_digits, ticks
from autodim.report.knee import knee

_WIDTH, _HEIGHT = 960.0, 380.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 760.0, 40.0, 320.0
_COLOURS = 8  # classes k1..k8, as c1..c8 of the stylesheet

PREDICTED = (
    "The table's predicted change also counts the gradient's term, which the allocation leaves out because it helps on "
    "some logs and hurts on others: a prediction may be lower at a smaller budget, and one below 0 there is a hint "
    "that the slot vectors overfit."
)


@dataclass(frozen=True)
class SweepPoint:
    """One measured cut.

    Attributes:
        name: the line that it belongs to: a strategy, and how it was retrained.
        share: of the uniform model's spend that was really spent, above 0.
        value: AUC, or log loss in nats.
        half: half width of the 95 % interval of its difference to the uncut model.
    """

    name: str
    share: float
    value: float
    half: float = 0.0


@dataclass(frozen=True)
class SweepData:
    """Everything that the figure of a sweep shows; `part` is the part of the log that it was measured on, `predicted`
    whether its table has predictions."""

    part: str
    uncut_auc: float
    uncut_loss: float
    auc: tuple[SweepPoint, ...]
    loss: tuple[SweepPoint, ...]
    knees: Mapping[str, SweepPoint]
    predicted: bool = False

    @property
    def sentences(self) -> tuple[str, ...]:
        """The knees, the rule that found them, and what a prediction is made of."""
        rule = (
            "The knee is where the AUC stands highest above the straight line from the smallest budget to the uncut "
            "model, budgets on a logarithmic axis (kneedle), and by more than its interval."
        )
        found = [
            f"{name}: {numbers.share(p.share, 1)} spent, AUC {numbers.ratio(p.value)}" for name, p in self.knees.items()
        ]
        told = f"Knees: {'; '.join(found)}. {rule}" if found else f"No line has a knee. {rule}"
        return (told, PREDICTED) if self.predicted else (told,)

    @property
    def charts(self) -> tuple[str, str]:
        """SVGs of AUC and of log loss."""
        where = f"on the {self.part} rows"
        return (
            sweep_chart(f"AUC {where}, by what the embeddings spend", self.auc, self.uncut_auc),
            sweep_chart(f"Log loss {where}, by what the embeddings spend", self.loss, self.uncut_loss, rising=False),
        )


def sweep_page(title: str, data: SweepData) -> str:
    """The figure as a page of its own, offline like the report."""
    css = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")
    name = escape(svg.clean(title))
    charts = "".join(f'<div class="scroll">{chart}</div>' for chart in data.charts)
    words = "".join(f"<p>{escape(svg.clean(s))}</p>" for s in data.sentences)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{name} · autodim sweep</title>'
        f"<style>{css}</style></head><body><main><section><h2>{name}: quality over budgets</h2>{charts}{words}"
        "</section></main></body></html>\n"
    )


def lines_of(points: Sequence[SweepPoint]) -> dict[str, list[SweepPoint]]:
    """Points by name, in the order of appearance, each by falling share; of equal shares the last."""
    found: dict[str, dict[float, SweepPoint]] = {}
    for point in points:
        if point.share > 0:
            found.setdefault(point.name, {})[point.share] = point
    return {name: sorted(line.values(), key=lambda p: -p.share) for name, line in found.items()}


def knees(points: Sequence[SweepPoint], uncut: float, rising: bool = True) -> dict[str, SweepPoint]:
    """The knee of each line that has one; the uncut model, at share 1, is the upper end of every line.

    Args:
        points: of all lines. uncut: the uncut model's value. rising: higher is better (AUC), or lower (log loss).
    """
    found = {}
    sign = 1 if rising else -1
    for name, line in lines_of(points).items():
        whole = [p for p in line if p.share < 1] + [SweepPoint(name, 1.0, uncut)]
        place = knee([p.share for p in whole], [sign * p.value for p in whole], [p.half for p in whole])
        if place is not None:
            found[name] = whole[place]
    return found


def sweep_chart(title: str, points: Sequence[SweepPoint], uncut: float, rising: bool = True) -> str:
    """One SVG, or "" without points: quality against the share that is spent (logarithmic), large budgets on the left.

    Intervals are those of the difference to the uncut model (paired), drawn around each point.
    """
    lines = lines_of(points)
    if not lines:
        return ""
    shares = [p.share for line in lines.values() for p in line]
    values = [uncut] + [p.value + s * p.half for line in lines.values() for p in line for s in (-1, 1)]
    x = Scale(0.0, max(-log2(min(shares)), 0.5), _LEFT, _RIGHT)
    y = Scale(*padded(values), _BOTTOM, _TOP)
    digits = tick_digits(ticks(y.low, y.high, 6), 3)
    parts = [svg.text(0, 16, title, "caption")]
    parts += left_axis(y, _LEFT, _RIGHT, lambda v: numbers.ratio(v, digits))
    parts += _shares_axis(x)
    parts += [svg.line(_LEFT, y(uncut), _RIGHT, y(uncut), "mark")]
    labels: list[tuple[float, str, int]] = [(y(uncut), f"uncut {numbers.ratio(uncut)}", 0)]
    marked = knees(points, uncut, rising)
    for number, (name, line) in enumerate(lines.items()):
        colour = number % _COLOURS + 1
        parts.append(svg.polyline([(x(-log2(p.share)), y(p.value)) for p in line], f"sweep k{colour}"))
        for p in line:
            a, b = x(-log2(p.share)), y(p.value)
            tip = f"{name}, {p.share:.2%} spent: {numbers.ratio(p.value)}"
            tip += f" ± {numbers.ratio(p.half)}" if p.half else ""
            if p.half:
                parts.append(svg.line(a, y(p.value - p.half), a, y(p.value + p.half), f"sweep k{colour}"))
            parts.append(svg.circle(a, b, 3.2, f"c{colour}", tip))
        if name in marked:
            at = marked[name]
            tip = f"{name}: the knee, {at.share:.2%} spent"
            parts.append(svg.circle(x(-log2(at.share)), y(at.value), 7.5, f"sweep k{colour}", tip))
        labels.append((y(line[-1].value), name, colour))
    parts += _labels(labels)
    about = f"{len(lines)} lines, {len(shares)} cuts; uncut {numbers.ratio(uncut)}"
    return svg.document(_WIDTH, _HEIGHT, title, about, parts)


def _shares_axis(x: Scale) -> list[str]:
    parts = [svg.line(x.start, _BOTTOM, x.stop, _BOTTOM, "axis")]
    for power in range(int(x.high + 1e-9) + 1):
        place = x(float(power))
        parts.append(svg.line(place, _BOTTOM, place, _BOTTOM + 4, "axis"))
        parts.append(svg.text(place, _BOTTOM + 17, f"{100 / 2**power:.3g} %", "tick", "middle"))
    parts.append(
        svg.text((_LEFT + _RIGHT) / 2, _BOTTOM + 38, "spent, of the uniform model; rings: knees", "tick", "middle")
    )
    return parts


def _labels(labels: Sequence[tuple[float, str, int]]) -> list[str]:
    """Names at the right end of their lines, moved apart where they would overlap."""
    parts, last = [], 0.0
    for height, name, colour in sorted(labels):
        last = max(height, last + 16)
        if colour:
            parts.append(svg.rect(_RIGHT + 8, last - 5, 10, 10, f"c{colour}", radius=2))
        parts.append(svg.text(_RIGHT + 24, last + 4, svg.fit(name, _WIDTH - _RIGHT - 28), "tick", title=name))
    return parts
