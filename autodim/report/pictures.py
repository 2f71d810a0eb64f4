"""Pictures of an allocation: widths per slot and the dimension map.

Each function takes plain data and gives one SVG (or "" when there is nothing to draw). Colours are CSS classes of
report.css. At most `LIMIT` slots are drawn, the dearest ones; the template's tables list all of them.
"""

from __future__ import annotations

import math

from autodim.report import numbers, svg
from autodim.report.data import STATE_WORDS, SlotRow

LIMIT = 60
WIDTH = 960.0
_LABELS = 200.0  # most room for slot names
_LEVELS = 8  # steps of the heat ramp, classes h0..h8 (h0: zero)
_DECADES = 4  # scores below 10^-4 of the largest share the palest step


def dearest(slots: tuple[SlotRow, ...], limit: int = LIMIT) -> tuple[SlotRow, ...]:
    """The `limit` slots that cost most before the cut, dearest first (ties in the given order); blocks of a table stay
    together, where the whole table stands."""
    whole: dict[str, float] = {}
    for s in slots:
        whole[s.table] = whole.get(s.table, 0.0) + s.before
    return tuple(sorted(slots, key=lambda s: -(whole[s.table] if s.table else s.before))[:limit])


def _label_room(shown: tuple[SlotRow, ...]) -> float:
    """Where the slot names end: as wide as the longest, within bounds."""
    return min(_LABELS, max(60.0, 8 + max(svg.extent(svg.clean(s.name)) for s in shown)))


def widths(slots: tuple[SlotRow, ...], unit: str) -> str:
    """One bar a slot: kept width inside the uniform width, coloured by how it is stored."""
    shown = dearest(slots)
    if not shown:
        return ""
    step = 26.0 if len(shown) <= 20 else 21.0
    names = _label_room(shown)
    bar, left = step - 9, names + 10
    room = 620 - left
    widest = max(max(s.uniform_width, s.width) for s in shown)
    head = 26.0
    parts = [
        svg.text(names, 14, "slot", "head", "end"),
        svg.text(left, 14, f"dimensions kept of {widest}", "head"),
        svg.text(780, 14, "ids", "head", "end"),
        svg.text(870, 14, _unit_title(unit), "head", "end"),
        svg.text(WIDTH - 4, 14, "of before", "head", "end"),
        svg.line(0, 22, WIDTH, 22, "axis"),
    ]
    for i, slot in enumerate(shown):
        y = head + i * step
        middle = y + step / 2 + 4.5
        track = room * slot.uniform_width / max(widest, 1)
        filled = room * slot.width / max(widest, 1)
        tip = (
            f"{slot.name}: {slot.width} of {slot.uniform_width} dimensions, {numbers.count(slot.rows)} ids, "
            f"{numbers.amount(slot.cost, unit)} {unit_words(unit)} ({STATE_WORDS[slot.state]})"
        )
        top = y + (step - bar) / 2
        parts.append(svg.text(names, middle, svg.fit(slot.name, _LABELS), "label", "end", title=tip))
        parts.append(svg.rect(left, top, track, bar, "track", title=tip, radius=3))
        parts.append(svg.rect(left, top, filled, bar, f"s-{slot.state}", title=tip, radius=3))
        if slot.uniform_width <= 32:
            unit_width = track / max(slot.uniform_width, 1)
            parts += [
                svg.line(left + k * unit_width, top, left + k * unit_width, top + bar, "gap")
                for k in range(1, slot.uniform_width)
            ]
        note = str(slot.width) if slot.width else {"mean": "0, its mean"}.get(slot.state, "0, dropped")
        parts.append(svg.text(left + max(track, filled) + 8, middle, note, "figure" if slot.width else "figure none"))
        parts.append(svg.text(780, middle, numbers.count(slot.rows), "tick", "end"))
        parts.append(svg.text(870, middle, numbers.amount(slot.cost, unit), "tick", "end"))
        parts.append(svg.text(WIDTH - 4, middle, numbers.share(slot.cost, slot.before), "tick", "end"))
    every = {s.table or s.name for s in slots}
    kept = len({s.table or s.name for s in slots if s.width})
    about = f"{kept} of {len(every)} slots keep at least one dimension; the table below the picture lists every slot"
    return svg.document(WIDTH, head + len(shown) * step + 4, "Width of each slot after the cut", about, parts)


def dimension_map(slots: tuple[SlotRow, ...]) -> str:
    """A heat map, slots x dimensions: order of magnitude of the score, kept outlined; share of the score at right."""
    scored = [s for s in slots if s.scores]
    shown = dearest(tuple(scored))
    largest = max((v for s in scored for v in s.scores or ()), default=0.0)
    if not shown or not largest > 0:
        return ""
    columns = max(len(s.scores or ()) for s in shown)
    names = _label_room(shown)
    left, head = names + 10, 40.0
    cell = min(36.0, (700.0 - left) / columns)
    high = 20.0 if len(shown) <= 20 else 15.0
    step = high + 2
    shares = any(s.share is not None for s in shown)
    own = all(s.kept is None for s in shown)  # a basis of its own for each slot
    right = left + columns * cell + 34
    room = WIDTH - right - 62
    top_share = max((s.share or 0.0 for s in shown), default=0.0) or 1.0
    every = next(e for e in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 10**6) if e * cell >= 24)
    axis = "direction, by falling worth" if own else "dimension of the uniform table"
    parts = [svg.text(names, 14, "slot", "head", "end"), svg.text(left, 14, axis, "head")]
    parts += [svg.text(left + (j + 0.5) * cell, 33, str(j), "tick", "middle") for j in range(0, columns, every)]
    if shares:
        parts.append(svg.text(right, 14, "share of the whole score", "head"))
    for i, slot in enumerate(shown):
        y = head + i * step
        middle = y + high / 2 + 4.5
        parts.append(svg.text(names, middle, svg.fit(slot.name, _LABELS), "label", "end", title=slot.name))
        kept = set(slot.kept or ())
        for j, score in enumerate(slot.scores or ()):
            x = left + j * cell
            tip = f"{slot.name}, dimension {j}: score {score:.3g}" + (", kept" if j in kept else "")
            parts.append(svg.rect(x + 0.5, y, cell - 1, high, f"h{heat_level(score, largest)}", title=tip))
        for first, last in _runs(sorted(kept)):
            parts.append(
                svg.rect(left + first * cell + 1, y + 1, (last - first + 1) * cell - 2, high - 2, "kept", radius=2)
            )
        if slot.share is not None:
            parts.append(svg.rect(right, y + 3, room * slot.share / top_share, high - 6, "share", radius=2))
            label = numbers.share(slot.share, 1)
            parts.append(svg.text(right + room * slot.share / top_share + 6, middle, label, "tick"))
    bottom = head + len(shown) * step + 12
    parts += _ramp(left, bottom, any(s.kept for s in shown))
    about = f"Scores of {len(shown)} slots by {columns} dimensions, darker is more important, kept dimensions outlined"
    return svg.document(WIDTH, bottom + 24, "Score of every dimension of every slot", about, parts)


def _runs(numbers_: list[int]) -> list[tuple[int, int]]:
    """First and last of each run of neighbouring numbers: one outline instead of many."""
    runs: list[tuple[int, int]] = []
    for k in numbers_:
        if runs and runs[-1][1] == k - 1:
            runs[-1] = (runs[-1][0], k)
        else:
            runs.append((k, k))
    return runs


def heat_level(score: float, largest: float) -> int:
    """Step of the heat ramp: 0 for no score, else 1..8 by order of magnitude below the largest score."""
    if not score > 0 or not largest > 0:
        return 0
    decades = min(max(-math.log10(score / largest), 0.0), _DECADES)
    return min(_LEVELS, 1 + int((1 - decades / _DECADES) * _LEVELS))


def _ramp(x: float, y: float, outlined: bool) -> list[str]:
    parts = [svg.text(x, y + 11, f"10^-{_DECADES} of the largest, or less".replace("^-4", "⁻⁴"), "tick")]
    x += 182
    for level in range(1, _LEVELS + 1):
        parts.append(svg.rect(x, y, 22, 14, f"h{level}"))
        x += 23
    parts.append(svg.text(x + 8, y + 11, "the largest score", "tick"))
    if outlined:
        x += 138
        parts += [svg.rect(x, y, 18, 14, "h6"), svg.rect(x + 1, y + 1, 16, 12, "kept", radius=1.5)]
        parts.append(svg.text(x + 26, y + 11, "kept", "tick"))
    return parts


def _unit_title(unit: str) -> str:
    return {"params": "parameters", "bytes": "memory", "serving_bytes": "memory", "dims": "dimensions"}[unit]


def unit_words(unit: str) -> str:
    return {
        "params": "parameters",
        "bytes": "with optimizer state",
        "serving_bytes": "in serving",
        "dims": "dimensions",
    }[unit]
