"""PAPERec (Xie et al., WWW 2021), approximated: weights of the tasks by example, or by a group of examples.

Letters: B examples, T tasks, H numbers of the last shared representation, G groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from autodim.weighting.adam import SmallAdam
from autodim.weighting.capture import Captured
from autodim.weighting.meter import Meter
from autodim.weighting.scalar import below, known_losses

if TYPE_CHECKING:
    from autodim.embedding.lookup import Lookup
    from autodim.training.step import Gradients


def paperec_weights(scores: Tensor, floors: Tensor, present: Tensor) -> Tensor:
    """`w = c + (1 - sum c) softmax(scores)` over the tasks that an example has; 0 for the others.

    Args:
        scores: B x T. floors: T numbers c_t >= 0, their sum below 1. present: B x T bool.

    Returns:
        B x T; each row with a task sums to 1.
    """
    floor = torch.where(present, floors, 0.0)
    # a row without any task has no softmax: it gets zeros
    share = torch.softmax(scores.masked_fill(~present, -1e30), dim=1) * present
    return floor + (1 - floor.sum(1, keepdim=True)) * share


def slot_ids(lookup: Lookup, slot: int) -> Tensor:
    """B ids of a one-hot slot, by its position in the layout.

    Where blocks of its rows are read, those of a block without any number left count as id 0.
    """
    found: Tensor | None = None
    for part in lookup.groups:
        group, kept = part.group, part.kept
        for place, position in enumerate(group.positions[: group.one_hot]):
            if position != slot:
                continue
            rows = part.one_hot_rows[:, None]
            if kept is not None:  # only the held ids have a row
                rows = kept.spread(rows, part.batch * group.one_hot)
            ids = rows.view(part.batch, group.one_hot)[:, place] - group.bases[place]
            if kept is not None:
                ids = torch.where(kept.held[:, place], ids, 0)
            found = ids if found is None else found + ids  # an id is held by one block
    if found is None:
        raise ValueError(f"slot {slot} has no table in this lookup; expected a one-hot slot that is kept")
    return found.long()


class PAPERec:
    """PAPERec's weights, learned to make each example's weighted gradient at the shared representation short.

    Args:
        tasks: T names, for the gauges.
        representation: the captured output of the last shared layer, B x H in all.
        logits: the captured output of the model.
        floors: T numbers c_t >= 0, their sum below 1.
        own: per task the parameters that no other task's loss reaches; they take their plain gradient.
        lr: of what finds the weights, by Adam, > 0.
        slot: position of the one-hot slot whose ids are the groups, and how many it has; None: by example, a linear map
            of the representation.

    The weights start equal. An example that lacks a task's label gives that task no weight.

    Differs from the paper: approximate. Its policy is a network on the user's representation that is trained for the
    norm of a preference-shaped gradient; here the scores are linear in the representation, or one per group and task,
    and are trained by Adam on the norm at the representation, taken per example.

    Gauges: `weight/TASK` (mean over examples), `loss/TASK`; by group `weight/TASK/ID`.

    Cost: T backward passes through the towers and one through the rest.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        representation: Captured,
        logits: Captured,
        floors: Sequence[float],
        own: Sequence[Sequence[nn.Parameter]],
        lr: float = 1e-3,
        slot: tuple[int, int] | None = None,
    ):
        if min(floors) < 0 or not sum(floors) < 1:
            raise ValueError(f"floors must not be negative and must sum to less than 1; found {list(floors)}")
        self.tasks, self.representation, self.logits, self.slot = list(tasks), representation, logits, slot
        self.floors = torch.tensor(list(floors), dtype=torch.float32)
        self.own = {id(p) for mine in own for p in mine}
        # by example the first step tells how large the representation is
        self.adam = SmallAdam(torch.zeros(0 if slot is None else slot[1], len(self.tasks)), lr)
        self.weights = torch.zeros(0)  # B x T, of the last first pass
        self.meter = Meter({k: [f"{k}/{t}" for t in tasks] for k in ("weight", "loss")})

    def gradients(self, losses: Tensor, targets: Sequence[Tensor], lookup: Lookup, again: bool = False) -> Gradients:
        """See `autodim.training.step.Weighting`."""
        (logits,), outputs = self.logits.take(), self.representation.take()
        if not targets:
            return []
        at_logits = [_grad(loss, [logits])[0] for loss in losses]  # T of B x T
        if not again:
            with torch.no_grad():
                present = torch.stack([(u != 0).any(1) for u in at_logits], dim=1)
            self._learn(losses, outputs, present, lookup)
            self.meter.add("weight", self.weights.sum(0) / present.any(1).sum().clamp(min=1))
            self.meter.add("loss", known_losses(losses.detach()))
        weighted = torch.stack([self.weights[:, t : t + 1].to(u) * u for t, u in enumerate(at_logits)]).sum(0)
        places = [i for i, target in enumerate(targets) if id(target) in self.own]
        common = [i for i in range(len(targets)) if i not in set(places)]
        out: Gradients = [None] * len(targets)
        if places:  # a second pass may ask at the leaves alone
            own = [targets[i] for i in places]
            for i, one in zip(places, _grad_or_none(losses.sum(), own, None, retain=True), strict=True):
                out[i] = one
        if common:
            for i, one in zip(common, _grad_or_none(logits, [targets[i] for i in common], weighted), strict=True):
                out[i] = one
        return out

    def _learn(self, losses: Tensor, outputs: Sequence[Tensor], present: Tensor, lookup: Lookup) -> None:
        by_task = [_by_example(_grad(loss, outputs), lookup.size) for loss in losses]
        context = _by_example([o.detach() for o in outputs], lookup.size)
        self._to(losses.device, context.shape[1])
        scores = self.adam.value.requires_grad_()
        with torch.enable_grad():
            found = context @ scores if self.slot is None else scores.index_select(0, slot_ids(lookup, self.slot[0]))
            weights = paperec_weights(found, self.floors, present)
            mixed = torch.stack([weights[:, t : t + 1] * g for t, g in enumerate(by_task)]).sum(0)
            gradient = torch.autograd.grad(mixed.square().sum() * len(context), scores)[0]
        self.adam.value = scores.detach()
        self.weights = weights.detach()
        self.adam.step(gradient)

    def _to(self, device: torch.device, size: int) -> None:
        if not len(self.adam.value):
            self.adam = SmallAdam(torch.zeros(size, len(self.tasks), device=device), self.adam.lr)
        if self.adam.value.device != device or self.floors.device != device:
            state = {k: v.to(device) for k, v in self.adam.state().items()}
            self.adam = SmallAdam(torch.zeros_like(state["value"]), self.adam.lr)
            self.adam.load_state(state)
            self.floors = self.floors.to(device)

    def by_group(self) -> Tensor:
        """G x T, the weights of each group for an example that has all tasks."""
        scores = self.adam.value.detach()
        return paperec_weights(scores, self.floors, torch.ones_like(scores, dtype=torch.bool))

    def read(self) -> dict[str, float]:
        """The gauges; their means begin anew."""
        found = self.meter.read()
        if self.slot is not None:
            for number, row in enumerate(self.by_group().tolist()):
                found |= {f"weight/{t}/{number}": w for t, w in zip(self.tasks, row, strict=True)}
        return found

    def state(self) -> dict[str, Tensor]:
        """What a restart needs, as tensors by name."""
        adam = {f"adam/{k}": v.detach() for k, v in self.adam.state().items()}
        return {**adam, **{f"meter/{k}": v for k, v in self.meter.state().items()}}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """The reverse of `state`."""
        adam = below(tensors, "adam/")
        self.adam = SmallAdam(torch.zeros_like(adam["value"]), self.adam.lr)
        self.adam.load_state(adam)
        self.meter.load_state(below(tensors, "meter/"))


def _grad_or_none(output: Tensor, inputs: Sequence[Tensor], at: Tensor | None, retain: bool = False) -> Gradients:
    return list(torch.autograd.grad(output, list(inputs), at, retain_graph=retain, allow_unused=True))


def _grad(loss: Tensor, outputs: Sequence[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(loss, list(outputs), retain_graph=True, allow_unused=True)
    return [torch.zeros_like(o) if g is None else g for g, o in zip(found, outputs, strict=True)]


def _by_example(tensors: Sequence[Tensor], batch: int) -> Tensor:
    """B x H from outputs that hold the examples in any one dimension (experts may come first)."""
    found = [t if t.shape[0] == batch else t.movedim(list(t.shape).index(batch), 0) for t in tensors]
    return torch.cat([t.flatten(1).float() for t in found], dim=1)
