"""How numbers are written in reports and terminal tables: one place, so that a figure reads the same everywhere.

`None` and NaN are "not measured" and become a dash; nothing here raises on them.
"""

from __future__ import annotations

import math

DASH = "–"
MINUS = "−"  # the typographic minus; `ascii=True` where a program may read the text


def known(value: float | None) -> bool:
    """Whether a number was measured: not None, not NaN."""
    return value is not None and not math.isnan(value)


def ratio(value: float | None, digits: int = 4) -> str:
    """A number that is usually between 0 and 1, without its leading zero: `.8123`."""
    if value is None or math.isnan(value):
        return DASH
    shown = f"{value:.{digits}f}"
    if shown.startswith("0."):
        return shown[1:]
    return "-" + shown[2:] if shown.startswith("-0.") else shown


def difference(value: float | None, digits: int = 4, ascii: bool = False) -> str:
    """A change with its sign: `+.0012`, `−.0089`, and `±0` where it rounds to nothing."""
    if value is None or math.isnan(value):
        return DASH
    size = ratio(abs(value), digits)
    if float(size) == 0:
        return "0" if ascii else "±0"
    return ("+" if value > 0 else "-" if ascii else MINUS) + size


def count(value: float | None) -> str:
    """A whole number with thousands separators: `1,234,567`."""
    return DASH if value is None or math.isnan(value) else f"{round(value):,}"


def short(value: float | None) -> str:
    """A count in at most about four characters: `950`, `2k`, `13.5k`, `2.1M`."""
    if value is None or math.isnan(value):
        return DASH
    return _scaled(value, 1000, ("", "k", "M", "G", "T")).replace(".0", "")


def size(value: float | None) -> str:
    """Bytes in binary units: `950 B`, `13.5 KiB`, `2.1 GiB`."""
    if value is None or math.isnan(value):
        return DASH
    return _scaled(value, 1024, (" B", " KiB", " MiB", " GiB", " TiB"))


def share(part: float | None, whole: float | None) -> str:
    """`part` of `whole` in percent: `12.5 %`, `10 %`; a dash where it cannot be said."""
    if part is None or whole is None or math.isnan(part) or math.isnan(whole) or whole == 0:
        return DASH
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "< 0.1 %"
    return f"{percent:.1f}".removesuffix(".0") + " %"


def seconds(value: float | None) -> str:
    """A duration: `4.2 s`, `3 min 20 s`, `2 h 05 min`."""
    if value is None or math.isnan(value):
        return DASH
    if value < 59.95:
        return f"{value:.1f} s"
    whole = round(value)
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def amount(value: float | None, unit: str) -> str:
    """An amount in a budget unit: bytes are scaled, parameters and dimensions counted."""
    return size(value) if unit in ("bytes", "serving_bytes") else count(value)


def _scaled(value: float, base: int, units: tuple[str, ...]) -> str:
    power = 0
    while abs(value) >= base * 0.9995 and power < len(units) - 1:
        value /= base
        power += 1
    digits = 0 if power == 0 or abs(value) >= 99.95 else 1
    return f"{value:.{digits}f}{units[power]}"
