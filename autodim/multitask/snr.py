"""Sub-network routing (Ma et al., AAAI 2019)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autodim.embedding.vectors import SlotVectors
from autodim.models.base import Gate
from autodim.models.mlp import SlotLinear, xavier_
from autodim.multitask.base import Sharing
from autodim.multitask.experts import Experts, Parallel, names
from autodim.multitask.front import Front
from autodim.multitask.towers import Towers

if TYPE_CHECKING:
    from autodim.config.schema import ModelConfig

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1  # temperature and ends of the stretched interval (Louizos et al. 2018)


def hard_concrete(log_alpha: Tensor, uniform: Tensor | None) -> Tensor:
    """Gates in [0, 1] that are often exactly 0 or 1 (Louizos et al., ICLR 2018, equation 10).

    `s = sigmoid((ln u - ln(1 - u) + ln a) / beta)`, `z = clip(s (zeta - gamma) + gamma, 0, 1)`; without `uniform` the
    gate of evaluation, `clip(sigmoid(ln a) (zeta - gamma) + gamma, 0, 1)`.

    Args:
        log_alpha: any shape. uniform: the same shape, in (0, 1), or None.
    """
    if uniform is None:
        s = log_alpha.sigmoid()
    else:
        s = ((uniform.log() - torch.log1p(-uniform) + log_alpha) / BETA).sigmoid()
    return (s * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def open_probability(log_alpha: Tensor) -> Tensor:
    """P(z > 0) = `sigmoid(ln a - beta ln(-gamma / zeta))`."""
    return (log_alpha - BETA * math.log(-GAMMA / ZETA)).sigmoid()


class Routes(nn.Module):
    """Connections from every of I sources to every of J targets: `target_j = sum_i z_ji W_ji u_i`, or without W.

    Args:
        sources: I. targets: J. width: H, of both.
        transform: each connection has a matrix of its own (Trans); False: it only weighs (Aver).

    Attributes:
        log_alpha: J x I, one ln a a connection.
        weight: (J H) x (I H), the matrices W_ji as blocks, or None.
    """

    def __init__(self, sources: int, targets: int, width: int, transform: bool):
        super().__init__()
        self.shape = (targets, width, sources, width)
        self.log_alpha = nn.Parameter(torch.zeros(targets, sources))
        self.weight = nn.Parameter(torch.empty(targets * width, sources * width)) if transform else None
        if self.weight is not None:
            xavier_(self.weight, sources * width, width)  # a target adds up all its sources

    def gates(self) -> Tensor:
        """z, J x I: a fresh draw from torch's random state in training mode, the fixed gate otherwise."""
        if not self.training:
            return hard_concrete(self.log_alpha, None)
        tiny = torch.finfo(self.log_alpha.dtype).eps
        return hard_concrete(self.log_alpha, torch.rand_like(self.log_alpha).clamp(tiny, 1 - tiny))

    def forward(self, values: Tensor, gates: Tensor) -> Tensor:
        """B x I x H -> B x J x H."""
        if self.weight is None:
            return torch.matmul(gates, values)
        routed = self.weight.view(self.shape) * gates[:, None, :, None]
        return F.linear(values.flatten(1), routed.view(self.weight.shape)).view(len(values), *self.shape[:2])


class SNR(Sharing):
    """Levels of sub-networks whose connections are learnt, kept or cut.

    Sub-networks of level 1 read the input; a sub-network j of a later level reads `sum_i z_ji W_ji u_i` of the level
    below (Trans) or `sum_i z_ji u_i` (Aver), and so does each tower of the last level. z is hard
    concrete, drawn anew for every batch and shared by its examples; evaluation uses the fixed gate. To the losses comes
    `lambda sum P(z > 0)` over all connections.

    Args:
        front: what the first sub-networks read.
        tasks: T.
        experts: sub-networks a level.
        expert_hidden: widths of every sub-network's layers; Aver needs no more than that all are alike.
        towers: widths of each tower's hidden layers.
        levels: at least 1.
        connection: trans or aver.
        strength: lambda, of the penalty.
        dropout: after each hidden layer, [0, 1).

    Differs from the paper: ln a starts at 0 (gates open half way); the draw comes from the step's random state, so both
    passes of a perturbed step route alike.

    Cost: of level 1 as MMoE's experts; a level of Trans is one product of (E H) x (E H).
    """

    def __init__(
        self,
        front: Front,
        tasks: int,
        experts: int,
        expert_hidden: Sequence[int],
        towers: Sequence[int],
        *,
        levels: int = 2,
        connection: Literal["trans", "aver"] = "trans",
        strength: float = 1e-4,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.front, self.strength = front, strength
        width, transform = expert_hidden[-1], connection == "trans"
        first = front.layer(experts * expert_hidden[0], parts=experts)
        firsts: list[SlotLinear | Parallel] = [first]
        firsts += [Parallel(experts, width, expert_hidden[0]) for _ in range(levels - 1)]
        self.networks = nn.ModuleList(Experts(f, experts, expert_hidden, dropout) for f in firsts)
        self.routes = nn.ModuleList(Routes(experts, experts, width, transform) for _ in range(levels - 1))
        self.task_routes = nn.ModuleList(Routes(experts, 1, width, transform) for _ in range(tasks))
        self.towers = Towers(tasks, width, towers, dropout)

    @classmethod
    def from_config(cls, config: ModelConfig, slots: int, numeric: int, tasks: int) -> SNR:
        sharing = config.sharing
        return cls(
            Front.from_config(config, slots, numeric),
            tasks,
            sharing.experts,
            sharing.expert_hidden,
            sharing.towers,
            levels=sharing.levels,
            connection=sharing.connection,
            strength=sharing.penalty,
            dropout=config.dropout,
        )

    def route(self, slots: SlotVectors, numeric: Tensor) -> tuple[list[Tensor], list[Gate]]:
        first: Experts = self.networks[0]  # type: ignore[assignment]
        values = first(self.front([first.first], slots, numeric)[0])  # B x E x H
        labels, told = names(first.count, "sub-network"), []
        for level, (routes, network) in enumerate(zip(self.routes, self.networks[1:], strict=True), start=1):
            gates = routes.gates()  # type: ignore[operator]
            told += [Gate(None, level, labels, row.expand(len(values), -1)) for row in gates]
            values = network(network.first(routes(values, gates)))  # type: ignore[operator]
        features = []
        for task, routes in enumerate(self.task_routes):
            gates = routes.gates()  # type: ignore[operator]
            told.append(Gate(task, len(self.networks), labels, gates.expand(len(values), -1)))
            features.append(routes(values, gates).squeeze(1))
        return features, told

    def penalty(self) -> Tensor | None:
        """`lambda sum P(z > 0)` over all connections."""
        if not self.strength:
            return None
        every = [r.log_alpha.flatten() for r in (*self.routes, *self.task_routes)]
        return self.strength * open_probability(torch.cat(every)).sum()

    def first_layers(self) -> Sequence[SlotLinear]:
        return (*self.front.first_layers(), self.networks[0].first)  # type: ignore[arg-type]

    def own_parameters(self) -> list[list[nn.Parameter]]:
        own = super().own_parameters()
        return [[*routes.parameters(), *tower] for routes, tower in zip(self.task_routes, own, strict=True)]

    def representation(self) -> list[nn.Module]:
        """The sub-networks of the last level."""
        return [self.networks[-1]]

    def last_shared(self) -> list[nn.Parameter]:
        return self.networks[-1].last_weights()  # type: ignore[operator]
