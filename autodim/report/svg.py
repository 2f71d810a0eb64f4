"""A few SVG shapes as text: escaped, styled by CSS classes only (so that one picture serves both colour schemes).

Coordinates are user units, y grows downwards. Nothing here knows what is drawn; every picture stays valid XML
whatever a slot is called.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from html import escape

_REPLACEMENT = "\ufffd"
# Cc controls (NUL, escapes), Cs lone surrogates, Cn/Co unassigned and private; Cf minus the joiners that emoji and
# several scripts need: the rest of Cf can reorder the text around it.
_HIDDEN = frozenset({"Cc", "Cs", "Cn", "Co", "Cf"})
_HARMLESS = frozenset("\u200c\u200d\t\n")


def clean(text: str) -> str:
    """The text with control, bidirectional and unencodable characters replaced: safe for XML and for terminals."""
    return "".join(_REPLACEMENT if unicodedata.category(c) in _HIDDEN and c not in _HARMLESS else c for c in text)


def fit(text: str, room: float, size: float = 13) -> str:
    """The text cut with an ellipsis so that it takes about `room` units at font size `size`; on one line."""
    text = " ".join(clean(text).split())
    used = 0.0
    for i, char in enumerate(text):
        used += extent(char, size)
        if used > room:
            return text[: max(i - 1, 1)] + "…"
    return text


def extent(text: str, size: float = 13) -> float:
    """About how wide the text is at a font size; nothing measures fonts here, so a little too wide on purpose."""
    return sum(size * (1.05 if unicodedata.east_asian_width(c) in "WF" else 0.6) for c in text)


def element(tag: str, attributes: Mapping[str, str | float | None], content: str = "") -> str:
    """One element; attributes that are None are left out, `content` is markup already."""
    shown = "".join(f' {k}="{_value(v)}"' for k, v in attributes.items() if v is not None and v != "")
    return f"<{tag}{shown}>{content}</{tag}>" if content else f"<{tag}{shown}/>"


def rect(x: float, y: float, width: float, height: float, css: str, *, title: str = "", radius: float = 0) -> str:
    return element(
        "rect",
        {"x": x, "y": y, "width": max(width, 0), "height": max(height, 0), "rx": radius or None, "class": css},
        _title(title),
    )


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    return element("line", {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "class": css})


def circle(x: float, y: float, radius: float, css: str, title: str = "") -> str:
    return element("circle", {"cx": x, "cy": y, "r": radius, "class": css}, _title(title))


def polyline(points: Iterable[tuple[float, float]], css: str) -> str:
    return element("polyline", {"points": _points(points), "class": css})


def polygon(points: Iterable[tuple[float, float]], css: str) -> str:
    return element("polygon", {"points": _points(points), "class": css})


def text(x: float, y: float, content: str, css: str = "", anchor: str = "start", *, title: str = "") -> str:
    """Text with its baseline at y; `anchor`: start, middle or end."""
    where = None if anchor == "start" else anchor
    inner = escape(clean(content)) + _title(title)
    return element("text", {"x": x, "y": y, "class": css, "text-anchor": where}, inner)


def document(width: float, height: float, title: str, description: str, body: Iterable[str]) -> str:
    """A whole picture that scales with its container; `title` and `description` are what a screen reader says."""
    label = f"{title}. {description}" if description else title
    attributes = {"viewBox": f"0 0 {_value(width)} {_value(height)}", "role": "img", "aria-label": label}
    return element("svg", attributes, _title(title) + "".join(body))


def _title(title: str) -> str:
    return f"<title>{escape(clean(title))}</title>" if title else ""


def _points(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{_value(x)},{_value(y)}" for x, y in points)


def _value(value: str | float) -> str:
    if isinstance(value, str):
        return escape(clean(value), quote=True)
    return f"{value:.2f}".rstrip("0").rstrip(".")
