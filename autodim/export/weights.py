"""`safetensors`: the trained embeddings in one file that any framework reads without autodim.

    tables/<table>         rows x width; row 0 is the out-of-vocabulary id. float32, or as the widths file says float16
                           or uint8 codes, of which a row means `code * scale + offset`:
    scales/<table>         rows, float16
    offsets/<table>        rows, float16
    projections/<table>    width x D: the slot's vector is (pooled row) @ projection
    biases/<slot>          D: added to it, also where the bag is empty
    linear/<table>         rows: the width-1 table of FM and Wide parts
    dense/...              every other parameter, as the model names it

The file's metadata holds one JSON text under `autodim`: which tensors belong to which slot, how bags are pooled, the
common width. Where a table is cut into blocks of rows, `<table>` is `<table>[start:stop]`: ids are shifted by start and
those of other blocks left out; the vectors of the blocks add up. Its bias, `biases/<slot>[start:stop]`, is added only
where the block holds the id (in a bag: times the sum of the pooling factors of the ids that it holds).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autodim import artifact
from autodim.dimension.allocation import Allocation, Entry
from autodim.embedding.layout import Slot
from autodim.embedding.quantise import decode, encode, rounded
from autodim.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1  # 2: with tables in fewer bits
KINDS = {"weight": "tables", "projection": "projections", "linear": "linear"}  # `Tables.read`'s words -> ours
_GROUPS = ("tables", "projections", "biases", "linear", "dense")


def block_key(allocation: Allocation, entry: Entry) -> str:
    """`<table>` in the tensors' names."""
    blocks = sum(e.table == entry.table for e in allocation.entries)
    return entry.table if blocks == 1 else f"{entry.table}[{entry.start}:{entry.stop}]"


def bias_key(allocation: Allocation, entry: Entry, slot: str) -> str:
    """`<slot>` in the names of biases."""
    blocks = sum(e.table == entry.table for e in allocation.entries)
    return slot if blocks == 1 else f"{slot}[{entry.start}:{entry.stop}]"


def expected_shapes(allocation: Allocation) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that the allocation needs (linear and dense ones are not its business)."""
    shapes: dict[str, tuple[int, ...]] = {}
    for e in allocation.entries:
        key = block_key(allocation, e)
        if e.width:
            shapes[f"tables/{key}"] = (e.rows, e.width)
        if e.width and e.projected:
            shapes[f"projections/{key}"] = (e.width, allocation.common)
        if e.bias:
            shapes.update({f"biases/{bias_key(allocation, e, slot)}": (allocation.common,) for slot in e.slots})
    return shapes


def metadata(
    allocation: Allocation, slots: Sequence[Slot] = (), extra: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What a reader needs beside the tensors; `extra` (e.g. model, labels) must be JSON."""
    pooling = {s.name: s.pooling for s in slots if s.multi}
    blocks = []
    for e in allocation.entries:
        key = block_key(allocation, e)
        blocks.append(
            {
                "slots": list(e.slots),
                "start": e.start,
                "stop": e.stop,
                "width": e.width,
                "table": f"tables/{key}" if e.width else None,
                "projection": f"projections/{key}" if e.width and e.projected else None,
                "biases": {slot: f"biases/{bias_key(allocation, e, slot)}" for slot in e.slots} if e.bias else {},
            }
        )
        if e.width and e.precision != "fp32":
            blocks[-1]["precision"] = e.precision
        if e.width and e.precision == "int8":
            blocks[-1] |= {"scales": f"scales/{key}", "offsets": f"offsets/{key}"}
    return {
        "format": 2 if allocation.served_rounded else FORMAT,
        "common": allocation.common,
        "strategy": allocation.strategy,
        "source": allocation.source,
        "pooling": pooling,
        "blocks": blocks,
        "extra": dict(extra or {}),
    }


def to_bytes(
    tensors: Mapping[str, Tensor],
    allocation: Allocation,
    slots: Sequence[Slot] = (),
    extra: Mapping[str, Any] | None = None,
) -> bytes:
    """The file's content; equal tensors and widths give equal bytes. Cost: one copy of the weights.

    Tables are rounded to their entries' precision (row-wise for int8, see `embedding.quantise`).

    Args:
        tensors: by the names of this file's head; any device and floating type.
        allocation: the widths that they were trained at.
        slots: how bags are pooled.
        extra: JSON for the reader, e.g. the model's name.

    Raises:
        RunError: a tensor is missing, is not expected, or has another shape; all of them at once.
        TrainingError: a number that float16 cannot hold.
    """
    import torch
    from safetensors.torch import save

    wrong = _wrong({name: tuple(t.shape) for name, t in tensors.items()}, expected_shapes(allocation))
    if wrong:
        raise RunError("these weights do not fit these widths:\n  " + "\n  ".join(wrong))
    # A copy each: safetensors refuses views that share memory, and a table may be a slice of a larger buffer.
    stored = {n: t.detach().to("cpu", torch.float32).contiguous().clone() for n, t in sorted(tensors.items())}
    for e in allocation.entries:
        key = block_key(allocation, e)
        if not e.width or e.precision == "fp32":
            continue
        table = stored[f"tables/{key}"].numpy()
        if e.precision == "int8":
            names = (f"tables/{key}", f"scales/{key}", f"offsets/{key}")
            stored |= {name: torch.from_numpy(part) for name, part in zip(names, encode(table), strict=True)}
        else:
            rounded(table, e.precision)  # refuses what float16 cannot hold
            stored[f"tables/{key}"] = stored[f"tables/{key}"].half()
    about = json.dumps(metadata(allocation, slots, extra), sort_keys=True, allow_nan=False)
    return save(stored, metadata={"autodim": about})


def write(
    path: Path,
    tensors: Mapping[str, Tensor],
    allocation: Allocation,
    slots: Sequence[Slot] = (),
    *,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """`to_bytes` into a file, atomically and durably."""
    artifact.write_bytes(path, to_bytes(tensors, allocation, slots, extra))


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An exported file as float32 tensors by name (tables in fewer bits are read back), and its metadata.

    Raises:
        RunError: no such file, or not one that this module wrote.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["autodim"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise RunError(
            f"{path}: cannot be read as exported weights ({error}); expected a file of "
            "`autodim export RUN --format safetensors`"
        ) from None
    if about.get("format") not in (FORMAT, 2):
        raise RunError(f"{path}: format {about.get('format')!r}; this version reads 1 and 2; upgrade autodim")
    for block in about["blocks"]:
        if "scales" in block:
            parts = [tensors.pop(block[k]) for k in ("table", "scales", "offsets")]
            tensors[block["table"]] = torch.from_numpy(decode(*(p.numpy() for p in parts)))
    return {name: t.float() for name, t in tensors.items()}, about


def _wrong(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    wrong = [f"{name}: missing, expected shape {shape}" for name, shape in expected.items() if name not in found]
    for name, shape in found.items():
        group = name.split("/", 1)[0]
        if name in expected:
            if shape != expected[name]:
                wrong.append(f"{name}: shape {shape}, expected {expected[name]}")
        elif group not in _GROUPS:
            wrong.append(f"{name}: names begin with one of {', '.join(g + '/' for g in _GROUPS)}")
        elif group in ("tables", "projections", "biases"):
            wrong.append(f"{name}: not expected by these widths")
    return wrong
