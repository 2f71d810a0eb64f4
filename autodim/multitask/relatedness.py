"""Whether tasks are related: three measurements, each on its own, for every ordered pair.

1. *Transfer* from A to B: the shared part learns from A alone, and then B's own parameters from B on its features,
   which are detached. `(L_control - L_B^A) / (L_control - L_B^B)`, the control a frozen random trunk, the ceiling a
   shared part that learned from B. 0: nothing of use; 1: as good as B's own training; below 0: worse than a random
   trunk.
2. *Look-ahead affinity* (Fifty et al., NeurIPS 2021, equation 1): `1 - L_j(th_s - lr g_i) / L_j(th_s)`, on the batch
   that g_i is of. Above 0: a step for i lowers j's loss.
3. *Gradient cosine*: `K_ij / sqrt(K_ii K_jj)` of the exact Gramian, over everything shared, over the tables (at the
   batch's unique rows) and over the trunk (every other shared parameter).

Nothing here reads files. Letters: T tasks, B examples, U unique rows, w width, th_s the shared parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autodim.data.batch import Batch
from autodim.data.tasks import Task
from autodim.embedding.lookup import Lookup
from autodim.models.base import Model
from autodim.optim.leaves import Gradients, leaf_offsets
from autodim.training.losses import task_losses
from autodim.training.network import Network
from autodim.training.step import Step
from autodim.weighting.gramian import gramian, rows_of

GROUPS = ("all", "tables", "trunk")


class SharedFrom:
    """A weighting for transfer: everything shared learns from one task, each task's own parameters from its own.

    Args:
        source: the task that the shared part learns from; None: it stays as it is (the control).
        own: T lists of the parameters that no other task's loss reaches.

    Cost: a backward pass through the towers, and one of one task through all.
    """

    def __init__(self, source: int | None, own: Sequence[Sequence[nn.Parameter]]):
        self.source = source
        self.own = {id(p) for mine in own for p in mine}

    def gradients(self, losses: Tensor, targets: Sequence[Tensor], lookup: Lookup, again: bool = False) -> Gradients:
        """See `autodim.training.step.Weighting`; None where nothing is to be learned."""
        out: Gradients = [None] * len(targets)
        mine = [i for i, target in enumerate(targets) if id(target) in self.own]
        rest = [i for i in range(len(targets)) if i not in set(mine)] if self.source is not None else []
        if mine:  # a task's own parameters are reached by its own loss only, so the sum gives each its own gradient
            found = torch.autograd.grad(
                losses.sum(), [targets[i] for i in mine], retain_graph=bool(rest), allow_unused=True
            )
            for i, one in zip(mine, found, strict=True):
                out[i] = one
        if rest and self.source is not None:
            found = torch.autograd.grad(losses[self.source], [targets[i] for i in rest], allow_unused=True)
            for i, one in zip(rest, found, strict=True):
                out[i] = one
        return out


@dataclass(frozen=True)
class Probe:
    """What one batch says of the tasks.

    Attributes:
        step: updates before it.
        cosines: per group of GROUPS T x T; NaN where a gradient is zero (no tables, a task that is absent).
        affinity: T x T, of the step of task i (row) for task j; NaN where a task is absent.
    """

    step: int
    cosines: dict[str, Tensor]
    affinity: Tensor


def probe(
    network: Network, batch: Batch, tasks: Sequence[Task], lr: float, *, missing: bool = False, step: int = 0
) -> Probe:
    """Measure one batch; the network is afterwards what it was, to the bit.

    Args:
        network: its model names the tasks' own parameters; dropout and batch norm are as at evaluation.
        lr: length of the look-ahead, of plain gradient descent; above 0.
        missing: labels may be NaN.

    Cost: T + 1 forward and T backward passes, T gradients at the batch's unique rows.
    """
    training = network.training
    network.eval()
    try:
        lookup = network.tables.lookup(batch, learn=True)
        losses = task_losses(network.logits(lookup, batch), batch.labels, missing, tasks)
        own = {id(p) for mine in own_parameters(network) for p in mine}
        shared = [p for p in network.dense_parameters() if p.requires_grad and id(p) not in own]
        targets = [*lookup.leaves, *shared]
        by_task = []
        for t in range(len(tasks)):
            found = torch.autograd.grad(losses[t], targets, retain_graph=t + 1 < len(tasks), allow_unused=True)
            by_task.append(rows_of(list(found), lookup))
        leaves = len(lookup.leaves)
        products = {
            "tables": gramian([every[:leaves] for every in by_task]).cpu(),
            "trunk": gramian([every[leaves:] for every in by_task]).cpu(),
        }
        products["all"] = products["tables"] + products["trunk"]

        def again(stand_ins: Sequence[Tensor]) -> Tensor:
            return task_losses(network.logits(lookup, batch, stand_ins), batch.labels, missing, tasks)

        affinity = look_ahead(losses.detach(), by_task, shared, lookup, lr, again)
    finally:
        network.train(training)
    return Probe(step, {group: cosine_matrix(products[group]) for group in GROUPS}, affinity)


def look_ahead(
    losses: Tensor,
    by_task: Sequence[Gradients],
    shared: Sequence[nn.Parameter],
    lookup: Lookup,
    lr: float,
    again: Callable[[Sequence[Tensor]], Tensor],
) -> Tensor:
    """Affinities T x T float64 (row: whose step; column: whose loss).

    Tables are not written at all: what a step adds to the batch's rows is added to the vectors that were looked up.
    The shared dense parameters are put back from copies.

    Args:
        losses: T, before a step.
        by_task: T lists of gradients, at the unique rows of the leaves and then at `shared`.
        again: leaves -> T losses, with the dense parameters as they then are.
    """
    before = losses.double()
    rows = []
    leaves = len(lookup.leaves)
    kept = [p.detach().clone() for p in shared]
    for gradients in by_task:
        moves = leaf_offsets([None if g is None else g * -lr for g in gradients[:leaves]], lookup)
        stand_ins = [
            leaf.detach() if move is None else leaf.detach() + move
            for leaf, move in zip(lookup.leaves, moves, strict=True)
        ]
        try:
            with torch.no_grad():
                for parameter, gradient in zip(shared, gradients[leaves:], strict=True):
                    if gradient is not None:
                        parameter.sub_(gradient, alpha=lr)
                after = again(stand_ins).double()
        finally:
            with torch.no_grad():
                for parameter, original in zip(shared, kept, strict=True):
                    parameter.copy_(original)
        rows.append(torch.where(before != 0, 1 - after / before, math.nan))
    found = torch.stack(rows).cpu()
    absent = (before == 0).cpu()
    found[absent] = math.nan  # a task without a label in the batch has no step
    return found


def cosine_matrix(products: Tensor) -> Tensor:
    """Cosines T x T of a Gramian; NaN where a gradient is zero."""
    norms = products.diagonal().clamp(min=0).sqrt()
    scale = norms[:, None] * norms[None, :]
    return torch.where(scale > 0, (products / scale).clamp(-1, 1), math.nan)


def own_parameters(network: Network) -> list[list[nn.Parameter]]:
    """T lists of each task's own parameters; empty where the model has none."""
    return network.model.own_parameters() if isinstance(network.model, Model) else []


class ProbedStep(Step):
    """A step that measures its batch before some of its updates; the updates are those of a plain step.

    Attributes:
        every: updates between two measurements; 0: none (`probing` sets it).
        lr: of the look-ahead.
        probes: what was found.
    """

    every: int = 0
    lr: float = 0.0
    probes: Sequence[Probe] = ()

    def probing(self, every: int, lr: float) -> ProbedStep:
        """Measure from now on; returns itself."""
        self.every, self.lr, self.probes = every, lr, []
        return self

    def __call__(self, batch: Batch, seed: int, absent: Sequence[int] = ()) -> Tensor:
        if self.every and self.steps % self.every == 0:
            found = probe(self.network, batch, self.tasks, self.lr, missing=self.missing, step=self.steps)
            self.probes = [*self.probes, found]
        return super().__call__(batch, seed, absent)
