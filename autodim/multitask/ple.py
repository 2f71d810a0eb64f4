"""Progressive layered extraction (Tang et al., RecSys 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from autodim.embedding.vectors import SlotVectors
from autodim.models.base import Gate
from autodim.models.mlp import Dense, SlotLinear
from autodim.multitask.base import Sharing
from autodim.multitask.experts import Experts, Parallel, mix, names
from autodim.multitask.front import Front
from autodim.multitask.towers import Towers

if TYPE_CHECKING:
    from autodim.config.schema import ModelConfig


class Level(nn.Module):
    """One level: own experts of each task, shared experts, a gate a task, and the shared gate but at the last level.

    Args:
        own: per task, then of all tasks: the experts.
        gates: per task, then (not at the last level) the shared one; each a linear layer without bias.
    """

    def __init__(self, experts: Sequence[Experts], gates: Sequence[SlotLinear | Dense]):
        super().__init__()
        self.experts = nn.ModuleList(experts)
        self.gates = nn.ModuleList(gates)

    @property
    def tasks(self) -> int:
        return len(self.experts) - 1

    def layers(self) -> list[nn.Module]:
        """The first layers of the experts, then the gates."""
        return [*(e.first for e in self.experts), *self.gates]

    def forward(self, products: Sequence[Tensor], level: int) -> tuple[list[Tensor], list[Gate]]:
        """From the products of `layers()` to the next inputs: T features, then (not at the last level) the shared."""
        count = len(self.experts)
        values = [experts(p) for experts, p in zip(self.experts, products[:count], strict=True)]  # B x E_k x H
        shared, outputs, told = values[-1], [], []
        common = names(shared.shape[1], "shared")
        for place, scores in enumerate(products[count:]):
            weights = scores.softmax(-1)
            if place < self.tasks:
                among, labels = [values[place], shared], (*names(values[place].shape[1], "own"), *common)
            else:
                among = values
                own = [f"own {k} of task {t + 1}" for t in range(self.tasks) for k in range(1, values[t].shape[1] + 1)]
                labels = (*own, *common)
            outputs.append(mix(weights[:, None], torch.cat(among, dim=1)).squeeze(1))
            told.append(Gate(place if place < self.tasks else None, level, labels, weights))
        return outputs, told


class PLE(Sharing):
    """Levels of own and shared experts; with one level CGC (customised gate control).

    At each level task t has own experts and a gate that chooses among them and the shared ones; the shared experts'
    gate chooses among all and feeds the next level (Tang 2020, sections 4.1 and 4.2). A gate is a softmax of one linear
    layer, without a bias, of its group's input; all gates of a level read the inputs of that level. The last level has
    no shared gate, as nothing would read it.

    Args:
        front: what the first level reads.
        tasks: T, at least 2.
        own_experts: of each task, at each level. shared_experts: at each level.
        expert_hidden: widths of every expert's layers, at every level.
        towers: widths of each tower's hidden layers.
        levels: at least 1.
        dropout: after each hidden layer of experts and towers, [0, 1).

    Differs from the paper: ReLU throughout. Its loss weights that decay are a weighting, not a part of the model.

    Cost: the first level is one product with the slot vectors; a later one T + 1 products for experts and as many for
    gates.
    """

    def __init__(
        self,
        front: Front,
        tasks: int,
        own_experts: int,
        shared_experts: int,
        expert_hidden: Sequence[int],
        towers: Sequence[int],
        *,
        levels: int = 2,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.front = front
        counts = [own_experts] * tasks + [shared_experts]
        chosen = [own_experts + shared_experts] * tasks
        width = expert_hidden[-1]
        built = []
        for level in range(levels):
            among = chosen if level == levels - 1 else [*chosen, sum(counts)]
            if level == 0:
                firsts: list[SlotLinear | Parallel] = [front.layer(c * expert_hidden[0], parts=c) for c in counts]
                gates: list[SlotLinear | Dense] = [front.layer(c, bias=False) for c in among]
            else:
                firsts = [Parallel(c, width, expert_hidden[0]) for c in counts]
                gates = [Dense(width, c, bias=False) for c in among]
            experts = [Experts(f, c, expert_hidden, dropout) for f, c in zip(firsts, counts, strict=True)]
            built.append(Level(experts, gates))
        self.levels = nn.ModuleList(built)
        self.towers = Towers(tasks, width, towers, dropout)

    @classmethod
    def from_config(cls, config: ModelConfig, slots: int, numeric: int, tasks: int) -> PLE:
        sharing = config.sharing
        return cls(
            Front.from_config(config, slots, numeric),
            tasks,
            sharing.own_experts,
            sharing.shared_experts,
            sharing.expert_hidden,
            sharing.towers,
            levels=sharing.levels,
            dropout=config.dropout,
        )

    def route(self, slots: SlotVectors, numeric: Tensor) -> tuple[list[Tensor], list[Gate]]:
        first: Level = self.levels[0]  # type: ignore[assignment]
        inputs, told = first(self.front(first.layers(), slots, numeric), 1)
        for place in range(2, len(self.levels) + 1):
            level: Level = self.levels[place - 1]  # type: ignore[assignment]
            products = [experts.first.same(x) for experts, x in zip(level.experts, inputs, strict=True)]  # type: ignore[operator, union-attr]
            products += [gate(x) for gate, x in zip(level.gates, inputs, strict=False)]  # the last level has no shared
            inputs, more = level(products, place)
            told += more
        return inputs, told

    def first_layers(self) -> Sequence[SlotLinear]:
        return (*self.front.first_layers(), *self.levels[0].layers())  # type: ignore[operator]

    def own_parameters(self) -> list[list[nn.Parameter]]:
        """Towers; own experts and gates of the last level; the gates of the level before, which feed only those.

        Own experts of earlier levels reach every task through the shared gate.
        """
        own = super().own_parameters()
        levels: list[Level] = list(self.levels[-2:])  # type: ignore[arg-type]
        for t, found in enumerate(own):
            modules = [levels[-1].experts[t], *(level.gates[t] for level in levels)]
            found[:0] = [p for module in modules for p in module.parameters()]
        return own

    def representation(self) -> list[nn.Module]:
        """The shared experts of the last level; what reaches it from the level before by own experts is left out."""
        return [self.levels[-1].experts[-1]]  # type: ignore[index, list-item]

    def last_shared(self) -> list[nn.Parameter]:
        return self.levels[-1].experts[-1].last_weights()  # type: ignore[index, union-attr]
