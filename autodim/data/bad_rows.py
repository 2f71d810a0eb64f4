"""Rows of a piece that cannot be used: what is said of each, and that it is counted."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from autodim.config.schema import LabelConfig, SlotConfig
from autodim.data.accounting import Rejects, excerpt
from autodim.data.labels import Found
from autodim.data.reader import Piece


def reject_weights(
    piece: Piece, rows: np.ndarray, bad: np.ndarray, slot: SlotConfig, *, reason: str, rejects: Rejects
) -> None:
    """Rows whose weights of several ids are wrong: `bad` N bool of `rows`, their positions in the piece."""
    for i in np.flatnonzero(bad):
        rejects.add(piece.where(int(rows[i])), f"column {slot.weights or slot.source!r} {reason} (slot {slot.name!r})")


def reject_numbers(
    piece: Piece, rows: np.ndarray, bad: np.ndarray, column: str, *, values: pa.Array, rejects: Rejects
) -> None:
    """Rows whose number or time cannot be read: `bad` N bool of `rows`, their positions in the piece."""
    for i in np.flatnonzero(bad):
        value = values[int(i)].as_py()
        reason = f"column {column!r} holds {excerpt(str(value))}, which is no finite number"
        if value is None or value == "":
            reason = f"column {column!r} is missing, but it sorts the rows into parts"
        elif isinstance(value, str):
            reason += " (if it means missing, add it to data.missing)"
        rejects.add(piece.where(int(rows[i])), reason)


def reject_labels(piece: Piece, rows: np.ndarray, label: LabelConfig, *, found: Found, rejects: Rejects) -> None:
    """Rows (positions in the piece, ascending) that hold no such label: their lines are told together, as a wrong
    setting of the label makes all of them odd."""
    if len(rows):
        reason = f"label {label.name!r}: column {label.source!r} holds {found.holds}"
        lines = [piece.lines.of(int(row)) for row in rows]
        rejects.add_all(piece.source, piece.unit, lines, reason, found.expected)
