"""How sharply the loss bends by each id's vector: what Helen is for (Zhu et al., WWW 2024, section 3).

For a one-hot slot with a table of its own, an example reads one row, so the Hessian between two rows of that slot is
zero. One Hessian-vector product with a vector that fills coordinate j of *every* row therefore gives column j of every
row's own block, exactly: w products for all ids of a slot.

Letters: n rows of the slot's table, w its width, B examples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from autodim.data.batch import Batch
from autodim.data.tasks import Task
from autodim.embedding.group import Group
from autodim.training.losses import task_losses
from autodim.training.network import Network


@dataclass(frozen=True)
class Curvature:
    """One slot's ids.

    Attributes:
        counts: n int64, examples that read each id.
        top: n float64, the largest eigenvalue of each id's w x w block (0 for an id without examples).
        gradient_norm: n float64, the norm of the gradient by each id's row.
    """

    counts: Tensor
    top: Tensor
    gradient_norm: Tensor


def row_blocks(
    network: Network, batches: Iterable[Batch], slot: str, missing: bool = False, tasks: Sequence[Task] = ()
) -> tuple[Tensor, ...]:
    """Exact diagonal blocks of the Hessian of the mean loss (summed over tasks) by a slot's rows.

    Args:
        network: any widths; read in evaluation mode (no dropout, batch norm by its running statistics).
        slot: a one-hot slot that shares its table with no other.
        missing: labels may be NaN.
        tasks: what the labels ask for; empty: all are binary.

    Returns:
        blocks n x w x w and gradients n x w in float64, and counts n int64.

    Raises:
        ValueError: the slot is multi-valued, shares its table, is cut into blocks, or has no vectors: the identity does
            not hold.

    Cost: w + 1 backward passes through the model a batch; n w^2 float64 of memory.

    With missing labels every batch weighs as its examples, though the tasks' means are over the rows that have labels.
    """
    number, position, width, rows = _place(network, slot)
    column = [s.name for s in network.tables.layout.slots if not s.multi].index(slot)
    device = network.tables.restore.device
    blocks = torch.zeros(rows, width, width, dtype=torch.float64, device=device)
    gradients = torch.zeros(rows, width, dtype=torch.float64, device=device)
    counts = torch.zeros(rows, dtype=torch.int64, device=device)
    was_training = network.training
    network.eval()
    for batch in batches:
        lookup = network.tables.lookup(batch, learn=True)
        leaf = lookup.leaves[number]
        loss = task_losses(network.logits(lookup, batch), batch.labels, missing, tasks).sum() * len(batch)
        (first,) = torch.autograd.grad(loss, leaf, create_graph=True)
        ids = batch.ids[:, column].long()
        counts += torch.bincount(ids, minlength=rows)
        gradients.index_add_(0, ids, first[:, position].detach().double())
        if not first.requires_grad:  # the logits are linear in this slot and the loss is flat in them
            continue
        for j in range(width):
            (second,) = torch.autograd.grad(first[:, position, j].sum(), leaf, retain_graph=True)  # B x S_g x w
            blocks[:, :, j].index_add_(0, ids, second[:, position].double())
    network.train(was_training)
    total = counts.sum().clamp_min(1)
    return blocks / total, gradients / total, counts


def slot_curvature(
    network: Network, batches: Iterable[Batch], slot: str, missing: bool = False, tasks: Sequence[Task] = ()
) -> Curvature:
    """Top eigenvalue, gradient norm and frequency of every id of a slot; see `row_blocks`."""
    blocks, gradients, counts = row_blocks(network, batches, slot, missing, tasks)
    # symmetric up to rounding; eigvalsh reads one triangle, so the other is averaged in
    top = torch.linalg.eigvalsh((blocks + blocks.mT) / 2)[:, -1]
    return Curvature(counts, top, gradients.norm(dim=1))


def pearson(x: Tensor, y: Tensor) -> float:
    """Linear correlation in [-1, 1]; NaN where one of them is constant or shorter than 2."""
    if len(x) < 2:
        return float("nan")
    x, y = x.double() - x.double().mean(), y.double() - y.double().mean()
    return float((x * y).sum() / (x.norm() * y.norm()))


def spearman(x: Tensor, y: Tensor) -> float:
    """Rank correlation in [-1, 1], ties sharing their mean rank; NaN as `pearson`."""
    return pearson(_ranks(x), _ranks(y))


def _ranks(values: Tensor) -> Tensor:
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[inverse]


def _place(network: Network, slot: str) -> tuple[int, int, int, int]:
    """The leaf's number, the slot's position in it, its width and its rows."""
    tables = network.tables
    found = next((s for s in tables.layout.slots if s.name == slot), None)
    if found is None:
        raise ValueError(f"no slot {slot!r}; expected one of {', '.join(s.name for s in tables.layout.slots)}")
    if any(s.multi for s in tables.layout.slots_of(found.table)) or len(tables.layout.slots_of(found.table)) > 1:
        raise ValueError(
            f"slot {slot!r} is multi-valued or shares table {found.table!r}: its ids' blocks are not separate; "
            "leave it out"
        )
    if len(tables.layout.blocks_of(found.table)) > 1:
        raise ValueError(f"slot {slot!r}: its table is cut into blocks of rows; ask the uniform model, or leave it out")
    index = [s.name for s in tables.layout.slots].index(slot)
    groups: list[Group] = list(tables.groups)  # type: ignore[arg-type]
    for number, group in enumerate(g for g in groups if g.weight is not None):
        if index in group.positions:
            return number, group.positions.index(index), group.width, tables.layout.table(found.table).rows
    raise ValueError(f"slot {slot!r} has width 0: no vectors, no curvature; leave it out")
