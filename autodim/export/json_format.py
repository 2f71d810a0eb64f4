"""`json`: the allocation for programs: the facts of the widths file, one object a block."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from autodim.dimension.allocation import Allocation, Entry
from autodim.embedding.layout import Slot

FORMAT = 1


def to_json(allocation: Allocation, slots: Sequence[Slot] = ()) -> str:
    """Indented JSON. `slots` adds how bags are pooled.

    Raises:
        ValueError: a score is not a finite number (JSON has no NaN).
    """
    poolings = {s.name: s.pooling if s.multi else None for s in slots}
    value: dict[str, Any] = {
        "format": FORMAT,
        "strategy": allocation.strategy,
        "budget": {
            "text": allocation.budget,
            "unit": allocation.unit,
            "asked": allocation.asked,
            "spent": allocation.spent,
            "uniform": allocation.uniform,
        },
        "common": allocation.common,
        "source": allocation.source,
        "notes": list(allocation.notes),
        "widths": allocation.widths,
        "blocks": [block_facts(e) for e in allocation.entries],
    }
    if poolings:
        value["pooling"] = {name: pooling for name, pooling in poolings.items() if pooling is not None}
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def block_facts(entry: Entry) -> dict[str, Any]:
    """One block as plain values; what is unknown is null."""
    return {
        "table": entry.table,
        "slots": list(entry.slots),
        "start": entry.start,
        "stop": entry.stop,
        "rows": entry.rows,
        "width": entry.width,
        "kept": None if entry.kept is None else list(entry.kept),
        "projected": entry.projected,
        "bias": entry.bias,
        "cost": entry.cost,
        "precision": entry.precision,
        "score": entry.score,
        "scores": None if entry.scores is None else list(entry.scores),
    }
