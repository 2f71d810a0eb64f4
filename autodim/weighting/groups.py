"""Weights by group of parameters: the tables as one, and each layer of the shared part as one.

Letters: T tasks, G groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from autodim.weighting.gradients import GradientWeighting
from autodim.weighting.gramian import gramian, mix
from autodim.weighting.scalar import below
from autodim.weighting.solver import Solver, solve_present

if TYPE_CHECKING:
    from autodim.embedding.lookup import Lookup
    from autodim.training.step import Gradients


def shared_layers(model: nn.Module, own: Sequence[Sequence[nn.Parameter]]) -> list[list[nn.Parameter]]:
    """The trained parameters of each module, without those that are a task's own; modules in the model's order."""
    apart = {id(p) for mine in own for p in mine}
    layers: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.numel() and id(parameter) not in apart:
            layers.setdefault(name.rpartition(".")[0], []).append(parameter)
    return list(layers.values())


class GroupedWeighting(GradientWeighting):
    """A weighting that compares the tasks' gradients, and weighs them, in each group of shared parameters for itself.

    Args:
        solvers: G of them, each with a state of its own: of the tables (with whatever is in no layer, such as the
            projections of cut tables), then of each layer.
        layers: G - 1, the shared dense parameters of each layer.
        tasks: T names, for the gauges.
        own: per task the parameters that no other task's loss reaches.

    Gauges: as `GradientWeighting`; `weight/TASK` is the mean over groups, cosines and conflicts are of everything
    shared, and `fallback` is the share of groups that had nothing to solve.

    Cost: as `GradientWeighting` in every step; a second pass of a step costs T backward passes too, because one
    weighted loss cannot have G weights.
    """

    def __init__(
        self,
        solvers: Sequence[Solver],
        layers: Sequence[Sequence[nn.Parameter]],
        tasks: Sequence[str],
        own: Sequence[Sequence[nn.Parameter]] = (),
    ):
        if len(solvers) != 1 + len(layers):
            raise ValueError(
                f"expected a solver for the tables and for each of {len(layers)} layers; found {len(solvers)}"
            )
        super().__init__(solvers[0], tasks, own)
        self.solvers = list(solvers)
        self.group = {id(p): g for g, layer in enumerate(layers, start=1) for p in layer}
        self.by_group = self.weights.repeat(len(self.solvers), 1)  # G x T

    def _places(self, targets: Sequence[Tensor]) -> list[list[int]]:
        """G lists of the places of a group's targets."""
        places: list[list[int]] = [[] for _ in self.solvers]
        for i, target in enumerate(targets):
            places[self.group.get(id(target), 0)].append(i)
        return places

    def _mixed(self, by_task: Sequence[Gradients], shared: Sequence[Tensor], lookup: Lookup) -> Gradients:
        places = self._places(shared)
        products = torch.stack([gramian([[one[i] for i in at] for one in by_task]) for at in places]).cpu()
        self.generator.manual_seed(torch.initial_seed())  # the step's own seed, whatever dropout has drawn since
        idle = 0
        for g, solver in enumerate(self.solvers):
            self.by_group[g], fallback = solve_present(solver, products[g], self.by_group[g], self.generator)
            idle += fallback
        self.weights = self.by_group.mean(0)
        self._note(products.sum(0), idle / len(self.solvers))
        return self._by_group(by_task, places)

    def _by_group(self, by_task: Sequence[Gradients], places: Sequence[Sequence[int]]) -> Gradients:
        out: Gradients = [None] * len(by_task[0])
        for at, weights in zip(places, self.by_group.tolist(), strict=True):
            for i, one in zip(at, mix([[every[i] for i in at] for every in by_task], weights), strict=True):
                out[i] = one
        return out

    def _weighted(self, losses: Tensor, targets: Sequence[Tensor]) -> Gradients:
        common, mine = self._split(targets)
        out: Gradients = [None] * len(targets)
        every = [
            torch.autograd.grad(loss, list(targets), retain_graph=t + 1 < len(losses), allow_unused=True)
            for t, loss in enumerate(losses)
        ]
        for i, owner in mine.items():
            out[i] = every[owner][i]
        shared = self._by_group([[one[i] for i in common] for one in every], self._places([targets[i] for i in common]))
        for i, one in zip(common, shared, strict=True):
            out[i] = one
        return out

    def state(self) -> dict[str, Tensor]:
        """What a restart needs, as tensors by name."""
        groups = {f"group{g}/{k}": v for g, solver in enumerate(self.solvers) for k, v in solver.state().items()}
        return {**super().state(), **groups, "by_group": self.by_group.clone()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """The reverse of `state`."""
        super().load_state(tensors)
        self.by_group = tensors["by_group"].clone()
        for g, solver in enumerate(self.solvers):
            solver.load_state(below(tensors, f"group{g}/"))
