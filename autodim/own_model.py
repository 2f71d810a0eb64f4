"""A torch model of your own, from its statistics to the small tables on disk; no pipeline.

    moments = autodim.spectral(model, logits, labels, held_out_batches, {"user": model.user, "item": model.item})
    widths = autodim.allocate(moments, {"user": 6041, "item": 3707}, "25% params", strategy="spectral")
    small = autodim.cut_tables(widths, {"user": model.user.weight, "item": model.item.weight}, moments)
    autodim.save_cut("small", widths, small)            # small/tables.safetensors, small/widths.yaml
    model.user = autodim.Factored.of("user", widths, small, model.user)

Letters: n rows of a table, D common width, r width after the cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autodim import artifact
from autodim.dimension.allocation import Allocation, Entry
from autodim.dimension.blocks import spans_of
from autodim.dimension.factor import factorise
from autodim.dimension.moments import Moments
from autodim.errors import ConfigError, did_you_mean
from autodim.export.weights import block_key, to_bytes
from autodim.stages.cut import entry_cut


def cut_tables(
    allocation: Allocation,
    tables: Mapping[str, Tensor],
    moments: Mapping[str, Moments] | None = None,
    *,
    counts: Mapping[str, Tensor] | None = None,
    ridge: float = 1e-6,
) -> dict[str, Tensor]:
    """The small tables of an allocation, cut from the trained ones.

    Args:
        allocation: from `allocate`, at the tables' width D.
        tables: per table its trained rows, n x D.
        moments: per slot, from `spectral`: a spectral allocation needs them.
        counts: per table how often each row was trained, n; for allocations that say widths only. Default: alike.
        ridge: see `factorise`.

    Returns:
        `tables/NAME` n x r, `projections/NAME` r x D, `biases/SLOT` D, each where the allocation has it. A slot's
        vector is `row @ projection + bias`; of a bag, pool the rows first.

    Raises:
        ConfigError: a table or statistics are missing, or of another shape; a table is cut into blocks of rows.

    Cost: one product n x D x r a table.
    """
    if spans := spans_of(allocation.entries):
        raise ConfigError(f"cut_tables: knows whole tables, found blocks of rows of {', '.join(sorted(spans))}")
    found: dict[str, Tensor] = {}
    for entry in allocation.entries:
        weight = _table(entry, tables, allocation.common)
        factors = None
        if entry.bias:
            missing = [s for s in entry.slots if s not in (moments or {})]
            if moments is None or missing:
                raise ConfigError(
                    f"cut_tables: the cut of {entry.table} is spectral and needs the moments of {', '.join(missing)}; "
                    "give what `autodim.spectral` returned"
                )
            factors = {entry.table: factorise({s: moments[s] for s in entry.slots}, ridge)}
        means = {s: torch.from_numpy(moments[s].mean) for s in entry.slots} if moments and entry.bias else {}
        count = (counts or {}).get(entry.table, torch.ones(len(weight)))
        cut = entry_cut(entry, {"weight": weight}, means, count.to(weight.device), factors)
        key = block_key(allocation, entry)
        if cut.encoder is None or cut.decoder is None:
            found[f"tables/{key}"] = weight[entry.start : entry.stop].clone()
            continue
        if entry.width:
            rows = weight[entry.start : entry.stop].to(cut.encoder.dtype)
            found[f"tables/{key}"] = (rows @ cut.encoder).to(weight.dtype)
            found[f"projections/{key}"] = cut.decoder.to(weight.dtype)
        found |= {f"biases/{slot}": bias.to(weight) for slot, bias in cut.bias.items()}
    return found


def save_cut(folder: str | Path, allocation: Allocation, tensors: Mapping[str, Tensor]) -> Path:
    """Write FOLDER/tables.safetensors and FOLDER/widths.yaml, atomically and sealed by sha256; returns the folder.

    Raises:
        RunError: the tensors do not fit the widths, or the disk refuses.
    """
    path = Path(folder)
    content = to_bytes(tensors, allocation)
    with artifact.fresh_directory(path) as temporary:
        artifact.write_bytes(temporary / "tables.safetensors", content)
        artifact.write_text(temporary / "widths.yaml", allocation.to_yaml())
    return path


class Factored(nn.Module):
    """A narrow table, its projection and its bias in the place of an `nn.Embedding` or `nn.EmbeddingBag`.

    Args:
        table: the narrow module (r columns), called as the wide one was; None: no dimension was kept.
        projection: r x D, or None: the table is stored whole.
        bias: D, or None.

    Cost: a product r x D a looked-up vector; fold it into a following linear layer where that matters.
    """

    def __init__(self, table: nn.Module | None, projection: Tensor | None, bias: Tensor | None):
        super().__init__()
        self.table = table
        self.projection = None if projection is None else nn.Parameter(projection.clone())
        self.bias = None if bias is None else nn.Parameter(bias.clone())

    @staticmethod
    def of(slot: str, allocation: Allocation, tensors: Mapping[str, Tensor], wide: nn.Module) -> Factored:
        """The module of one slot, from `cut_tables`; `wide` is the module that it replaces (its settings are kept).

        Raises:
            ConfigError: no such slot, or a module without `weight`.
        """
        entries = {s: e for e in allocation.entries for s in e.slots}
        if slot not in entries:
            raise ConfigError(f"Factored: no slot {slot!r}{did_you_mean(slot, list(entries))}")
        if not isinstance(wide, nn.Embedding | nn.EmbeddingBag):
            raise ConfigError(f"Factored: found {type(wide).__name__}, expected nn.Embedding or nn.EmbeddingBag")
        key = block_key(allocation, entries[slot])
        weight = tensors.get(f"tables/{key}")
        table: nn.Module | None = None
        if weight is not None:
            rows, width = weight.shape
            if isinstance(wide, nn.EmbeddingBag):
                table = nn.EmbeddingBag(
                    rows, width, mode=wide.mode, sparse=wide.sparse, padding_idx=wide.padding_idx,
                    include_last_offset=wide.include_last_offset, _weight=weight.clone(),
                )  # fmt: skip
            else:
                table = nn.Embedding(rows, width, sparse=wide.sparse, _weight=weight.clone())
        bias = tensors.get(f"biases/{slot}")
        if table is None and bias is None:  # dropped: reads as zero
            bias = torch.zeros(allocation.common)
        return Factored(table, tensors.get(f"projections/{key}"), bias)

    def forward(self, ids: Tensor, *args: Any) -> Tensor:
        """B ... x D, what the wide module's call with the same arguments gave."""
        if self.table is None:
            assert self.bias is not None
            shape = args[0].shape if args and ids.dim() == 1 else ids.shape  # offsets of a bag
            return self.bias.expand(*shape, len(self.bias))
        found: Tensor = self.table(ids, *args)
        if self.projection is not None:
            found = found @ self.projection
        return found if self.bias is None else found + self.bias


def _table(entry: Entry, tables: Mapping[str, Tensor], common: int) -> Tensor:
    if entry.table not in tables:
        raise ConfigError(f"cut_tables: no table {entry.table!r}{did_you_mean(entry.table, list(tables))}")
    weight = tables[entry.table].detach()
    if weight.dim() != 2 or weight.shape[1] != common or len(weight) < entry.stop:
        raise ConfigError(
            f"cut_tables: table {entry.table} is {tuple(weight.shape)}, expected {entry.stop} rows of width {common}"
        )
    return weight
