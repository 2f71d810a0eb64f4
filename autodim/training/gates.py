"""What the gates of a model with experts do over the rows of a log: mean and spread of each weight, and collapses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from autodim.data.columns import Columns
from autodim.data.tasks import Task
from autodim.models.base import Gate, Model
from autodim.training.evaluation import chunk_rows
from autodim.training.network import Network

ALL = 0.95  # share of a gate's weight that makes one expert the only one


@dataclass(frozen=True)
class GateUse:
    """One gate over N rows.

    Attributes:
        task: name of the task; None: a gate that all tasks share.
        level: of the experts that it mixes, from 1.
        experts: what it chooses among, E names.
        mean: E, of each weight over the rows; of a softmax they sum to 1.
        spread: E, standard deviations over the rows: 0 where all examples are mixed alike.
        warning: empty, or that one expert took all.
    """

    task: str | None
    level: int
    experts: tuple[str, ...]
    mean: tuple[float, ...]
    spread: tuple[float, ...]
    warning: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def gate_use(network: Network, columns: Columns, device: torch.device, tasks: Sequence[Task]) -> list[GateUse]:
    """Every gate of a model over the rows, in evaluation mode; empty for a model without gates.

    Cost: one forward over the rows.
    """
    model = network.model
    if not isinstance(model, Model) or not len(columns):
        return []
    was_training = network.training
    network.eval()
    found: list[Gate] = []
    sums: list[Tensor] = []  # per gate 2 x E: of the weights, of their squares
    with torch.inference_mode():
        chunk = chunk_rows(device)
        for start in range(0, len(columns), chunk):
            batch = columns.batch(slice(start, min(start + chunk, len(columns))), device)
            vectors, _ = network.tables.lookup(batch).inputs()
            found = model.gates(vectors, batch.numeric)
            if not found:
                break
            weights = [gate.weights.double() for gate in found]
            parts = [torch.stack([w.sum(0), w.square().sum(0)]) for w in weights]
            sums = [a + b for a, b in zip(sums, parts, strict=True)] if sums else parts
    network.train(was_training)
    return [_use(gate, total / len(columns), tasks) for gate, total in zip(found, sums, strict=True)]


def _use(gate: Gate, moments: Tensor, tasks: Sequence[Task]) -> GateUse:
    mean, square = moments
    spread = (square - mean.square()).clamp(min=0).sqrt()
    name = None if gate.task is None else tasks[gate.task].name
    warning = ""
    whose = f"{'the shared gate' if name is None else f'the gate of {name}'} (level {gate.level})"
    top, total = float(mean.max()), float(mean.sum())
    if total == 0:
        warning = f"{whose} is shut: nothing gets through"
    elif len(gate.experts) > 1 and top > ALL * total:
        warning = f"{whose} gives {top / total:.0%} of its weight to {gate.experts[int(mean.argmax())]}"
    return GateUse(name, gate.level, gate.experts, tuple(mean.tolist()), tuple(spread.tolist()), warning)
