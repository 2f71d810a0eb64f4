"""A batch in pieces: the same gradients with the dense part's activations of one piece at a time.

Letters: B examples, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from autodim.data.batch import Batch

if TYPE_CHECKING:
    from autodim.embedding.lookup import Lookup
    from autodim.training.step import Step


def pieced(
    step: Step, lookup: Lookup, batch: Batch, leaves: Sequence[Tensor], wanted: Sequence[bool], again: bool = False
) -> tuple[Tensor, list[Tensor | None]]:
    """Losses (T) and gradients of a whole batch, piece by piece.

    A task's loss is a mean over the rows that have its label, so a piece's mean counts as its share of these rows.
    The pieces' gradients at the leaves lie side by side, those of the dense parameters are added.

    Args:
        lookup: of the whole batch. leaves: what the model reads, the whole batch's.
        wanted: per leaf and dense parameter, whether its gradient is asked for; the others are left out of the result.
        again: this is the second pass of a perturbed step.

    Cost: as many forward and backward passes as pieces, each over its share of the rows; one copy of the leaves'
    gradients. No host synchronisation.
    """
    labelled = (~batch.labels.isnan()).sum(0).clamp(min=1) if step.missing else None  # T
    found: list[list[Tensor | None]] = []
    total: Tensor | None = None
    asked_leaves = [i for i in range(len(leaves)) if wanted[i]]
    dense = [p for p, w in zip(step.dense, wanted[len(leaves) :], strict=True) if w]
    sums: list[Tensor | None] = [None] * len(dense)
    for rows in spans(len(batch), step.pieces):
        part = [leaf.detach()[rows].requires_grad_(wanted[i]) for i, leaf in enumerate(leaves)]
        labels = batch.labels[rows]
        piece = replace(batch, ids=batch.ids[rows], numeric=batch.numeric[rows], labels=labels, bags={})
        losses = step._losses(lookup.piece(rows), piece, part)
        share: Tensor | float = len(piece) / len(batch)
        if labelled is not None:
            share = (~labels.isnan()).sum(0) / labelled
        losses = losses * share
        gradients = step.weighting.gradients(losses, [*(part[i] for i in asked_leaves), *dense], lookup, again)
        found.append(gradients[: len(asked_leaves)])
        for k, gradient in enumerate(gradients[len(asked_leaves) :]):
            held = sums[k]
            sums[k] = gradient if held is None else held if gradient is None else held + gradient
        total = losses.detach() if total is None else total + losses.detach()
    assert total is not None
    return total, [*(_joined(parts) for parts in zip(*found, strict=True)), *sums]


def spans(rows: int, pieces: int) -> list[slice]:
    """Cut rows into pieces whose lengths differ by at most 1."""
    ends = [rows * k // pieces for k in range(pieces + 1)]
    return [slice(a, b) for a, b in pairwise(ends)]


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    known = [p for p in parts if p is not None]
    return torch.cat(known) if len(known) == len(parts) else None
