"""`torchrec`: table specs for torchrec and FBGEMM, written without importing either.

FBGEMM's kernels read rows four numbers at a time, so a width that is not a multiple of 4 is refused there (and by
every sharded torchrec module; an assertion `local_cols % 4 == 0`). Such a width is reported, never rounded: rounding
up afterwards breaks the budget, so the multiple belongs into the search.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from autodim.dimension.allocation import Allocation, Entry
from autodim.dimension.blocks import spans_of
from autodim.embedding.layout import Slot
from autodim.errors import ConfigError

FORMAT = 1
MULTIPLE = 4


def to_torchrec(allocation: Allocation, slots: Sequence[Slot] = ()) -> str:
    """`specs` as indented JSON."""
    return json.dumps(specs(allocation, slots), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def specs(allocation: Allocation, slots: Sequence[Slot] = ()) -> dict[str, Any]:
    """What another training system needs to build the tables.

    Args:
        allocation: the widths.
        slots: how each slot pools its bag; a slot that is not listed, or reads one id, is pooled by SUM (of one).

    Returns:
        `tables`: name, num_embeddings, embedding_dim, feature_names, pooling (SUM or MEAN), row_start, row_stop,
            `accepted` (whether FBGEMM takes the width) and `data_type` (FP32, FP16 or INT8: how it is to be served).
            A table of several blocks gives one spec a block, named `table__start_stop`, with features of its own.
        `features`: of those blocks: `feature` (`slot__start_stop`), the `slot` that it is made from, `row_start`,
            `row_stop`: its ids are the slot's from row_start on, less row_start; ids outside are left out. `weight`
            is what each id counts: `1`, or `1 / length of the whole bag` for a mean (a mean over the block's own ids
            would be another one), which asks for a weighted collection. A slot's vector is the sum over its features.
        `projections`: the linear maps after pooling: table, features, in_features (its width), out_features (D), bias
            (whether a constant is added per feature; that of a block is added once for each of its ids, times the id's
            weight: `bias_per` is `id`). A table without one gives vectors of D numbers already.
        `constants`: features of width 0: no table; `zero`, or `bias` (their constant vector, of a block per id too).
        `problems`: sentences, empty when torchrec takes everything as it is.
    """
    pooled = {s.name: s.pooling.upper() if s.multi else "SUM" for s in slots}
    spans = spans_of(allocation.entries)
    found: dict[str, Any] = {
        "format": FORMAT,
        "common": allocation.common,
        "tables": [],
        **({"features": []} if spans else {}),
        "projections": [],
        "constants": [],
        "problems": [],
    }
    for entry in allocation.entries:
        name, features = spec_name(allocation, entry), list(entry.slots)
        poolings = sorted({pooled.get(s, "SUM") for s in entry.slots})
        per_id = {"bias_per": "id"} if entry.table in spans and entry.bias else {}
        if entry.table in spans:
            features = [f"{s}__{entry.start}_{entry.stop}" for s in entry.slots]
            for feature, slot in zip(features, entry.slots, strict=True):
                mean = pooled.get(slot, "SUM") == "MEAN"
                weight = "1 / length of the whole bag" if mean else "1"
                rows = {"row_start": entry.start, "row_stop": entry.stop}
                found["features"].append({"feature": feature, "slot": slot, **rows, "weight": weight})
            poolings = ["SUM"]
        if entry.width == 0:
            reads = "bias" if entry.bias else "zero"
            found["constants"].append({"table": name, "features": features, "reads_as": reads, **per_id})
            continue
        accepted = entry.width % MULTIPLE == 0
        found["tables"].append(
            {
                "name": name,
                "num_embeddings": entry.rows,
                "embedding_dim": entry.width,
                "feature_names": features,
                "pooling": poolings[0],
                "row_start": entry.start,
                "row_stop": entry.stop,
                "accepted": accepted,
                "data_type": entry.precision.upper(),
            }
        )
        if entry.projected:
            found["projections"].append(
                {
                    "table": name,
                    "features": features,
                    "in_features": entry.width,
                    "out_features": allocation.common,
                    "bias": entry.bias,
                    **per_id,
                }
            )
        if not accepted:
            found["problems"].append(
                f"table {name}: width {entry.width} is not a multiple of {MULTIPLE}, which FBGEMM and sharded torchrec "
                f"refuse; search again with prune.multiple_of={MULTIPLE} (padding afterwards would break the budget)"
            )
        if len(poolings) > 1:
            found["problems"].append(
                f"table {name}: its slots pool differently ({', '.join(poolings)}), torchrec pools a table one way; "
                "give the slots one pooling, or a table each"
            )
    return found


def spec_name(allocation: Allocation, entry: Entry) -> str:
    """The table's name; with its rows where the table is cut into several blocks."""
    blocks = sum(e.table == entry.table for e in allocation.entries)
    return entry.table if blocks == 1 else f"{entry.table}__{entry.start}_{entry.stop}"


def build_configs(allocation: Allocation, slots: Sequence[Slot] = ()) -> list[Any]:
    """torchrec's own `EmbeddingBagConfig` objects, in the order of the tables.

    Raises:
        ConfigError: torchrec is not installed, or would refuse something; all reasons at once.
    """
    found = specs(allocation, slots)
    if found["problems"]:
        raise ConfigError("torchrec cannot take these widths:\n  " + "\n  ".join(found["problems"]))
    try:
        from torchrec.modules.embedding_configs import EmbeddingBagConfig, PoolingType  # type: ignore[import-not-found]
    except ImportError as error:
        raise ConfigError(
            f"torchrec cannot be imported ({error}); install it and its kernels: "
            "pip install torchrec fbgemm-gpu (or fbgemm-gpu-cpu), or use the JSON of `--format torchrec`"
        ) from error
    return [
        EmbeddingBagConfig(
            name=table["name"],
            num_embeddings=table["num_embeddings"],
            embedding_dim=table["embedding_dim"],
            feature_names=table["feature_names"],
            pooling=PoolingType[table["pooling"]],
        )
        for table in found["tables"]
    ]
