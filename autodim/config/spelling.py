"""Guessing what a mistyped word was meant to be, and showing found values safely in messages."""

from __future__ import annotations

import json
from collections.abc import Iterable
from difflib import SequenceMatcher

LONGEST_SHOWN = 60
LONGEST_GUESSED = 80  # the distance is quadratic, and nobody mistypes longer words


def distance(a: str, b: str) -> int:
    """Edits (insert, delete, replace, swap of neighbours) from `a` to `b`. Cost: len(a) x len(b)."""
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        row = [i]
        for j, y in enumerate(b, start=1):
            best = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                best = min(best, before[j - 2] + 1)
            row.append(best)
        before, last = last, row
    return last[-1]


def closest(word: str, known: Iterable[str]) -> str | None:
    """The entry of `known` within about a third of its letters of `word`, or None.

    difflib alone misses short keys (`ov` for `on`), hence the edit distance; it only breaks ties here.
    """
    if len(word) > LONGEST_GUESSED:
        return None
    plain = word.lower().replace("-", "_")

    def rank(entry: str) -> tuple[int, float]:
        return distance(plain, entry.lower()), -SequenceMatcher(None, plain, entry).ratio()

    candidates = [entry for entry in known if entry]
    best = min(candidates, key=rank, default=None)
    if best is None or distance(plain, best.lower()) > max(1, len(best) // 3):
        return None
    return best


def quoted(text: str, longest: int = LONGEST_SHOWN) -> str:
    """`text` in double quotes, cut to a readable length, with control characters escaped."""
    cut = text if len(text) <= longest else text[: longest - 3] + "..."
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut) + '"'


def plain_key(text: str) -> str:
    """A key as it may stand unquoted in a message; quoted where it is odd."""
    return text if text and len(text) <= LONGEST_SHOWN and text.isprintable() else quoted(text)


def shown(value: object) -> str:
    """A value found in a config, in YAML's words and short."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, dict):
        return (
            "a section {"
            + ", ".join([plain_key(str(k)) for k in value][:4])
            + (", ..." if len(value) > 4 else "")
            + "}"
        )
    if isinstance(value, list):
        text = json.dumps(value, ensure_ascii=True, default=str)
        return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."
    return json.dumps(value)
