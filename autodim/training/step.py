"""The one step protocol: every method that trains is a filling of it.

    lookup -> forward from the leaves -> losses (T) -> task weights -> gradients at the leaves and the dense parameters
    -> optional perturbation and second pass -> one gradient through the tables -> clippers -> update

A *weighting* turns T losses into the gradients of one update; a *perturbation* moves the leaves and the dense
parameters before a second pass; a *clipper* bounds gradients that are about to be applied. All three are plain objects
with one method, and each knows nothing of the others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from autodim.data.batch import Batch
from autodim.data.tasks import Task
from autodim.embedding.lookup import Lookup
from autodim.models.base import Model
from autodim.optim.batch_norm import batch_norms, statistics_kept
from autodim.training.losses import task_losses
from autodim.training.memory import trim
from autodim.training.network import Network
from autodim.training.penalty import with_penalty
from autodim.training.pieces import pieced

Gradients = list[Tensor | None]


class Weighting(Protocol):
    """T losses -> the gradients of one update."""

    def gradients(self, losses: Tensor, targets: Sequence[Tensor], lookup: Lookup, again: bool = False) -> Gradients:
        """Gradients of the weighted losses (T) at the targets: leaves (in a second pass, their stand-ins) and dense
        parameters. The lookup gives the unique rows, over which gradients at leaves are compared exactly; a leaf's
        gradient may be given as its sum over them (U x w, `GroupLookup.row_gradient`).

        `again` tells the second pass of the same step, whose targets may be fewer: the weights that the first pass
        found count, and nothing is learned from its losses.
        """
        ...


class Perturbation(Protocol):
    """Where a second pass is evaluated (sharpness-aware methods)."""

    def offsets(self, gradients: Gradients, lookup: Lookup, dense: Sequence[nn.Parameter]) -> Gradients:
        """What to add to the leaves and then to the dense parameters.

        None leaves a tensor where it is, and its first gradient is the one that counts. The others are fresh tensors
        that the step uses up.
        """
        ...


@runtime_checkable
class Stateful(Protocol):
    """A perturbation or weighting that remembers earlier steps; checkpoints keep what it remembers."""

    def state(self) -> dict[str, Tensor]:
        """What a restart needs, as tensors by name."""
        ...

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """The reverse of `state`."""
        ...


class Clipper(Protocol):
    """Bounds the `.grad` of tables (sparse, unique rows) and dense parameters in place.

    The lookup tells how often each row occurs in the batch (`lookup.groups[i].unique`, the rows of the sparse `.grad`).
    """

    def clip(self, tables: Sequence[nn.Parameter], dense: Sequence[nn.Parameter], lookup: Lookup) -> None: ...


class Sum:
    """The plain sum of the losses: the weighting of single-task models and the reference of all others."""

    additive = True  # the gradients of a batch are the sums of those of its pieces

    def gradients(self, losses: Tensor, targets: Sequence[Tensor], lookup: Lookup, again: bool = False) -> Gradients:
        return list(torch.autograd.grad(losses.sum(), list(targets), allow_unused=True)) if targets else []


class Step:
    """One update of a network.

    Args:
        network: tables and model.
        optimizers: the tables' and the dense parameters' update rules; each is a `torch.optim.Optimizer`.
        weighting: how T losses become one update; default the sum.
        perturbation: the second pass, or None.
        clippers: applied in order.
        missing: labels may be NaN.
        bf16: run the dense part under bfloat16 autocast.
        pieces: the dense part goes through each batch in so many pieces, whose gradients are added up: the same update
            to rounding (batch norm sees pieces; dropout draws other masks) with the dense part's activations of one
            piece at a time. There is one lookup and one set of unique rows of the whole batch, so second passes and
            clippers see the counts and the gradients of the whole batch.
        tasks: what each label asks for; empty: all are binary.

    Raises:
        ValueError: pieces with a weighting whose gradients are not the sum of its pieces' gradients.

    Cost: one lookup per step whatever the fillings. No host synchronisation where the batch's unique rows are counted
    early (`embedding.grouping`), but for blocks of rows, whose held ids are counted, and for weightings that solve for
    T numbers on the host (PCGrad and its kin), one each.
    """

    def __init__(
        self,
        network: Network,
        optimizers: Sequence[torch.optim.Optimizer],
        weighting: Weighting | None = None,
        perturbation: Perturbation | None = None,
        clippers: Sequence[Clipper] = (),
        missing: bool = False,
        bf16: bool = False,
        pieces: int = 1,
        tasks: Sequence[Task] = (),
    ):
        self.network = network
        self.optimizers = list(optimizers)
        self.weighting = weighting or Sum()
        self.perturbation = perturbation
        self.clippers = list(clippers)
        self.missing = missing
        self.bf16 = bf16
        self.pieces = pieces
        self.tasks = tuple(tasks)
        if pieces < 1 or (pieces > 1 and not getattr(self.weighting, "additive", False)):
            raise ValueError(
                f"pieces must be at least 1, and 1 with {type(self.weighting).__name__}, whose gradients are not the "
                f"sum of the pieces'; found {pieces}"
            )
        self.batch_norms = batch_norms(network)
        self.tables = network.tables.table_parameters()
        self.dense = [p for p in network.dense_parameters() if p.requires_grad]
        self.own = network.model.own_parameters() if isinstance(network.model, Model) else []
        self.steps = 0  # of this process

    def __call__(self, batch: Batch, seed: int, absent: Sequence[int] = ()) -> Tensor:
        """Train on one batch.

        Args:
            seed: of this step's dropout; both passes of a perturbed step use it.
            absent: tasks that the batch's log does not have: their own parameters are not updated, so that their
                optimizers' averages are of their own batches alone.

        Returns:
            The T losses before the update, still on the device.
        """
        torch.manual_seed(seed)
        lookup = self.network.tables.lookup(batch, learn=True)
        losses, gradients = self._pass(lookup, batch, lookup.leaves, [True] * (len(lookup.leaves) + len(self.dense)))
        if self.perturbation is not None:
            torch.manual_seed(seed)
            gradients = self._second_pass(gradients, lookup, batch)
        leaves = len(lookup.leaves)
        lookup.assign(gradients[:leaves])
        for parameter, gradient in zip(self.dense, gradients[leaves:], strict=True):
            parameter.grad = gradient
        for parameter in (p for t in absent if self.own for p in self.own[t]):
            parameter.grad = None
        for clipper in self.clippers:
            clipper.clip(self.tables, self.dense, lookup)
        for optimizer in self.optimizers:
            optimizer.step()
        for parameter in (*self.tables, *self.dense):
            parameter.grad = None
        self.steps += 1
        trim(self.steps)
        return losses.detach()

    def _pass(
        self, lookup: Lookup, batch: Batch, leaves: Sequence[Tensor], wanted: Sequence[bool], again: bool = False
    ) -> tuple[Tensor, Gradients]:
        """The losses of a batch, and their weighted gradients at those leaves and dense parameters that are wanted."""
        targets = [t for t, w in zip([*leaves, *self.dense], wanted, strict=True) if w]
        if self.pieces == 1 or len(batch) < 2 * self.pieces or not leaves:  # batch norm needs two rows
            losses = self._losses(lookup, batch, None if leaves is lookup.leaves else leaves)
            gradients = self.weighting.gradients(losses, targets, lookup, again=again)
        else:
            losses, gradients = pieced(self, lookup, batch, leaves, wanted, again)
        return losses, with_penalty(gradients, targets, self.network.model)

    def _losses(self, lookup: Lookup, batch: Batch, leaves: Sequence[Tensor] | None) -> Tensor:
        device = batch.labels.device.type
        context = torch.autocast(device, torch.bfloat16) if self.bf16 else contextlib.nullcontext()
        with context:
            logits = self.network.logits(lookup, batch, leaves)
        return task_losses(logits, batch.labels, self.missing, self.tasks)

    def _second_pass(self, gradients: Gradients, lookup: Lookup, batch: Batch) -> Gradients:
        assert self.perturbation is not None
        offsets = self.perturbation.offsets(gradients, lookup, self.dense)
        count = len(lookup.leaves)
        moved = [(p, o) for p, o in zip(self.dense, offsets[count:], strict=True) if o is not None]
        kept = [p.detach().clone() for p, _ in moved]
        with torch.no_grad():
            for parameter, offset in moved:
                parameter.add_(offset)
            # the sum is a new leaf, so the second pass's gradient arrives at the perturbed vectors
            leaves = [
                leaf if o is None else o.add_(leaf.detach()).requires_grad_()
                for leaf, o in zip(lookup.leaves, offsets[:count], strict=True)
            ]
        with statistics_kept(self.batch_norms):
            wanted = [o is not None for o in offsets]
            second = iter(self._pass(lookup, batch, leaves, wanted, again=True)[1])
        # a tensor that stayed where it was keeps its first gradient, and the second pass saves the work of its own
        gradients = [g if o is None else next(second) for g, o in zip(gradients, offsets, strict=True)]
        with torch.no_grad():
            # restored from a copy and not by subtraction: the update starts from the very bits it had
            for (parameter, _), original in zip(moved, kept, strict=True):
                parameter.copy_(original)
        return gradients
