"""Weightings by gradients: T losses -> the Gramian of their shared gradients -> weights -> one update.

`sum w_t g_t` is the update of everything shared; a task's own parameters (`Model.own_parameters`) take their plain
gradient. A method is a `Solver` of a T x T matrix and never sees a gradient.

Letters: T tasks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from autodim.weighting.capture import Captured
from autodim.weighting.gramian import gramian, mix, rows_of
from autodim.weighting.meter import Meter
from autodim.weighting.scalar import below, known_losses
from autodim.weighting.solver import Solver, cosines, equal_weights, solve_present

if TYPE_CHECKING:
    from autodim.embedding.lookup import Lookup
    from autodim.training.step import Gradients

Mode = Literal["exact", "trunk", "representation"]

_DIVIDES = 1e-3  # weights above it are divided out of a gradient without a loss of digits that matters


class GradientWeighting:
    """A weighting whose weights depend on the tasks' gradients.

    Args:
        solver: the method.
        tasks: T names, for the gauges.
        own: per task the parameters that no other task's loss reaches; empty: everything is shared.
        mode: where gradients are compared. `exact`: all shared parameters, tables at the batch's unique rows; `trunk`:
            the shared dense parameters; `representation`: the last shared layer's output (MGDA-UB).
        every: weights are found in every so-manieth step and used again in between.
        scale_own: a task's own parameters are scaled with its weight too (PE-LTR's released code).
        representation: the captured output, for that mode.

    Random orders are drawn from the seed of the step, so a run repeats and resumes to the bit. A second pass of a step
    (sharpness-aware methods) uses the weights of the first. Steps without a solution use equal weights and are
    counted (`fallback`).

    Gauges, means since the last reading: `weight/TASK`, `loss/TASK` (before any weight), `cosine` and `conflict` (mean
    cosine over the pairs, share of pairs below 0), `cosine/A/B` and `conflict/A/B` by pair, `fallback` (share of the
    solved steps that had nothing to solve).

    Cost: T backward passes in a step with a solution, one otherwise (`representation`: always one, and T through the
    towers). Per task the gradients at the batch's unique rows are kept; no tensor of T x tables exists. On CUDA one
    wait for the T x T numbers a solution.
    """

    def __init__(
        self,
        solver: Solver,
        tasks: Sequence[str],
        own: Sequence[Sequence[nn.Parameter]] = (),
        mode: Mode = "exact",
        every: int = 1,
        scale_own: bool = False,
        representation: Captured | None = None,
    ):
        if every < 1 or (mode == "representation") != (representation is not None):
            raise ValueError(
                f"every must be at least 1, and representation given with that mode; found {every}, {mode}"
            )
        self.solver, self.tasks, self.mode, self.every = solver, list(tasks), mode, every
        self.own = {id(p): t for t, mine in enumerate(own) for p in mine}
        self.scale_own, self.representation = scale_own, representation
        self.generator = torch.Generator()
        self.weights = equal_weights(solver, len(self.tasks))
        self.steps = 0
        pairs = [f"{a}/{b}" for i, a in enumerate(tasks) for b in tasks[i + 1 :]]
        self.meter = Meter(
            {
                "weight": [f"weight/{t}" for t in tasks],
                "loss": [f"loss/{t}" for t in tasks],
                "solved": [
                    "fallback",
                    "cosine",
                    "conflict",
                    *(f"cosine/{p}" for p in pairs),
                    *(f"conflict/{p}" for p in pairs),
                ],
            }
        )

    def gradients(self, losses: Tensor, targets: Sequence[Tensor], lookup: Lookup, again: bool = False) -> Gradients:
        """See `autodim.training.step.Weighting`."""
        if not targets:
            return []
        if again:
            return self._weighted(losses, targets)
        solve = self.steps % self.every == 0
        self.steps += 1
        try:
            if not solve:
                return self._weighted(losses, targets)
            if self.representation is not None:
                self._solve(self._at_representation(losses, self.representation.take()))
                return self._weighted(losses, targets)
            return self._by_task(losses, targets, lookup)
        finally:
            if self.representation is not None:
                self.representation.take()
            self.meter.add("weight", self.weights)
            self.meter.add("loss", known_losses(losses.detach()))

    def _solve(self, products: Tensor) -> None:
        products = products.cpu()
        self.generator.manual_seed(torch.initial_seed())  # the step's own seed, whatever dropout has drawn since
        self.weights, fallback = solve_present(self.solver, products, self.weights, self.generator)
        self._note(products, float(fallback))

    def _note(self, products: Tensor, fallback: float) -> None:
        found = cosines(products)
        known = [c for c in found if not math.isnan(c)]
        below_zero = [math.nan if math.isnan(c) else float(c < 0) for c in found]
        mean = sum(known) / len(known) if known else math.nan
        share = sum(c < 0 for c in known) / len(known) if known else math.nan
        numbers = [fallback, mean, share, *found, *below_zero]
        self.meter.add("solved", torch.tensor(numbers, dtype=torch.float64))

    def _by_task(self, losses: Tensor, targets: Sequence[Tensor], lookup: Lookup) -> Gradients:
        """Every task's gradient at every target, compared and mixed."""
        common, mine = self._split(targets)
        shared = [targets[i] for i in common]
        # without a wait for the device a task that is absent can be left out here; its gradients would be zeros
        absent = [t for t, v in enumerate(losses.tolist()) if v == 0] if losses.device.type == "cpu" else []
        order = [t for t in range(len(self.tasks)) if t not in absent] or [0]
        out: Gradients = [None] * len(targets)
        by_task: list[Gradients] = [[None] * len(shared) for _ in self.tasks]
        for t in order:
            places = [i for i, owner in mine.items() if owner == t]
            asked = [*shared, *(targets[i] for i in places)]
            found = torch.autograd.grad(losses[t], asked, retain_graph=t != order[-1], allow_unused=True)
            # summed to rows at once: smaller than at the leaves, and only one task's leaves are held
            by_task[t] = rows_of(list(found[: len(shared)]), lookup)
            for i, one in zip(places, found[len(shared) :], strict=True):
                out[i] = one
        for i in mine:  # as in any other step, an absent task's own parameters have a gradient of zero
            out[i] = torch.zeros_like(targets[i]) if out[i] is None else out[i]
        for i, mixed in zip(common, self._mixed(by_task, shared, lookup), strict=True):
            out[i] = mixed
        if self.scale_own:
            weights = self.weights.tolist()
            for i, owner in mine.items():
                plain = out[i]
                out[i] = None if plain is None else plain * weights[owner]
        return out

    def _mixed(self, by_task: Sequence[Gradients], shared: Sequence[Tensor], lookup: Lookup) -> Gradients:
        """The shared gradients of all tasks (T lists), compared and added up."""
        start = len(lookup.leaves) if self.mode == "trunk" else 0
        self._solve(gramian([every[start:] for every in by_task]))
        return mix(by_task, self.weights.tolist())

    def _at_representation(self, losses: Tensor, outputs: Sequence[Tensor]) -> Tensor:
        found = [
            torch.autograd.grad(losses[t], list(outputs), retain_graph=True, allow_unused=True)
            for t in range(len(self.tasks))
        ]
        return gramian(found)

    def _weighted(self, losses: Tensor, targets: Sequence[Tensor]) -> Gradients:
        """The gradient of the weighted loss with the weights as they are; own parameters plain.

        A task's own parameters are reached by its loss alone, so one backward serves both, and its weight is divided
        out again; a second one is made where a weight is too small for that.
        """
        weighted = (losses * self.weights.to(losses)).sum()
        common, mine = self._split(targets)
        weights = self.weights.tolist()
        if self.scale_own or all(weights[owner] > _DIVIDES for owner in mine.values()):
            both: Gradients = list(torch.autograd.grad(weighted, list(targets), allow_unused=True))
            for i, owner in () if self.scale_own else mine.items():
                one = both[i]
                both[i] = None if one is None else one / weights[owner]
            return both
        out: Gradients = [None] * len(targets)
        places = list(mine)
        own = torch.autograd.grad(
            losses.sum(), [targets[i] for i in places], retain_graph=bool(common), allow_unused=True
        )
        found = torch.autograd.grad(weighted, [targets[i] for i in common], allow_unused=True) if common else ()
        for i, one in (*zip(places, own, strict=True), *zip(common, found, strict=True)):
            out[i] = one
        return out

    def _split(self, targets: Sequence[Tensor]) -> tuple[list[int], dict[int, int]]:
        """Places of the shared targets, and of the tasks' own with their owners."""
        mine = {i: self.own[id(target)] for i, target in enumerate(targets) if id(target) in self.own}
        return [i for i in range(len(targets)) if i not in mine], mine

    def read(self) -> dict[str, float]:
        """The gauges; their means begin anew."""
        return self.meter.read()

    def state(self) -> dict[str, Tensor]:
        """What a restart needs, as tensors by name."""
        return {
            "steps": torch.tensor(self.steps),
            "weights": self.weights,
            **{f"solver/{k}": v for k, v in self.solver.state().items()},
            **{f"meter/{k}": v for k, v in self.meter.state().items()},
        }

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """The reverse of `state`."""
        self.steps, self.weights = int(tensors["steps"]), tensors["weights"].clone()
        self.solver.load_state(below(tensors, "solver/"))
        self.meter.load_state(below(tensors, "meter/"))
