"""Where the budget goes: stacked bars of what the slots cost, before and after the cut."""

from __future__ import annotations

from dataclasses import replace

from autodim.report import numbers, svg
from autodim.report.data import BudgetRow, SlotRow
from autodim.report.pictures import WIDTH, dearest, unit_words

_SEGMENTS = 7  # slots with a colour of their own


def budget_parts(slots: tuple[SlotRow, ...]) -> list[tuple[str, float, float, int]]:
    """(name, before, after, colour 1..8) of the dearest slots, the others summed under one name and colour 8."""
    slots = joined(slots)
    shown = dearest(slots, _SEGMENTS if len(slots) > _SEGMENTS + 1 else _SEGMENTS + 1)
    parts = [(s.name, s.before, s.cost, i + 1) for i, s in enumerate(shown)]
    rest = len(slots) - len(shown)
    if rest:
        named = {id(s) for s in shown}
        others = [s for s in slots if id(s) not in named]
        parts.append((f"{rest} other slots", sum(s.before for s in others), sum(s.cost for s in others), 8))
    return parts


def joined(slots: tuple[SlotRow, ...]) -> tuple[SlotRow, ...]:
    """The blocks of a table as one row, which costs what they do."""
    found: dict[str, SlotRow] = {}
    for number, s in enumerate(slots):
        key = f"table {s.table}" if s.table else f"slot {number}"
        before, cost = (found[key].before, found[key].cost) if key in found else (0.0, 0.0)
        name = s.name.rsplit(" [", 1)[0] if s.table else s.name
        found[key] = replace(s, name=name, uniform_cost=before + s.before, cost=cost + s.cost) if s.table else s
    return tuple(found.values())


def budget(slots: tuple[SlotRow, ...], row: BudgetRow) -> str:
    """Stacked bars on one scale, before and after the cut, and the small one again enlarged."""
    parts_of = budget_parts(slots)
    before, after = sum(p[1] for p in parts_of), sum(p[2] for p in parts_of)
    if before <= 0:
        return ""
    scale = max(before, after, row.asked)
    unit, height = row.unit, 34.0
    end = WIDTH * after / scale

    def bar(y: float, after_cut: bool, whole: float) -> list[str]:
        found, x = [], 0.0
        for part in parts_of:
            value = part[2] if after_cut else part[1]
            width = WIDTH * value / whole if whole else 0.0
            tip = f"{part[0]}: {numbers.amount(value, unit)} ({numbers.share(value, before)} of before)"
            found.append(svg.rect(x, y, width, height, f"c{part[3]} segment", title=tip))
            if width > 66:
                found.append(svg.text(x + 8, y + 22, svg.fit(part[0], width - 16), "on-colour", title=tip))
            x += width
        return found

    asked = WIDTH * row.asked / scale
    words = unit_words(unit)
    said = f"Uniform model: {numbers.amount(before, unit)} {words}"
    parts = [
        svg.text(0, 14, said, "caption"),
        *bar(22, False, scale),
    ]
    parts.append(
        svg.text(0, 86, f"After the cut: {numbers.amount(after, unit)} ({numbers.share(after, before)})", "caption")
    )
    parts += [svg.rect(0, 94, WIDTH, height, "track", radius=2), *bar(94, True, scale)]
    parts += [svg.line(asked, 89, asked, 94 + height + 5, "mark")]
    near_end = asked > WIDTH - 180
    anchor, shift = ("end", -6) if near_end else ("start", 8)
    if asked - end > 4 or not near_end:
        asked_text = f"asked: at most {numbers.amount(row.asked, unit)}"
        parts.append(svg.text(max(asked, end) + shift, 116, asked_text, "tick", anchor))
    bottom = 94 + height + 8
    if 0 < after < 0.6 * scale:
        parts.append(svg.polygon([(0, 130), (end, 130), (WIDTH, 166), (0, 166)], "zoom"))
        parts.append(svg.text(8, 158, "the same, enlarged", "tick"))
        parts += bar(166, True, after)
        bottom = 166 + height + 6
    about = f"{numbers.amount(after, unit)} of {numbers.amount(before, unit)} {words} remain"
    return svg.document(WIDTH, bottom, "Where the budget is spent before and after the cut", about, parts)
