"""A small network with towers on a shared layer, over everything that tables can be: mixed widths with projections,
bags with means and weights, a shared table, first-order weights, repeated ids."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autodim.data.batch import Bag, Batch
from autodim.embedding.layout import Block, Layout, Slot, Table
from autodim.embedding.tables import Tables
from autodim.models.base import Model
from autodim.models.mlp import Mlp
from autodim.optim.sgd import SGD
from autodim.training.network import Network
from autodim.training.step import Step

D, B, NUMERIC = 4, 16, 2
SLOTS = (
    Slot("a", "a"),
    Slot("tags", "tags", multi=True, pooling="mean"),
    Slot("b", "b"),
    Slot("likes", "b", multi=True, pooling="sum"),
    Slot("c", "c"),
)
TABLES = (Table("a", 9), Table("tags", 8), Table("b", 11), Table("c", 6))
WIDTHS = {"a": 2, "tags": 4, "b": 4, "c": 0}


class Towers(Model):
    """A shared layer of 6, and per task a tower of one layer of 3."""

    uses_linear = True

    def __init__(self, tasks: int):
        super().__init__()
        self.bottom = Mlp(len(SLOTS), D, NUMERIC, hidden=(7,), outputs=6)
        self.towers = nn.ModuleList(nn.Sequential(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 1)) for _ in range(tasks))

    def forward(self, slots, linear, numeric):
        shared = torch.tanh(self.bottom(slots, numeric))
        out = torch.cat([tower(shared) for tower in self.towers], dim=1)
        return out if linear is None else out + linear.sum(1, keepdim=True)

    def head(self):
        return [p for t in self.towers for p in t[2].parameters()]

    def own_parameters(self):
        return [list(t.parameters()) for t in self.towers]

    def representation(self):
        return [self.bottom]

    def last_shared(self):
        return [p for p in self.bottom.last() if p.ndim > 1]


def network(tasks: int = 3, seed: int = 0, double: bool = False) -> Network:
    blocks = tuple(Block(t.name, 0, t.rows, WIDTHS[t.name], projected=0 < WIDTHS[t.name] < D) for t in TABLES)
    tables = Tables(Layout(D, SLOTS, TABLES, blocks), linear=True)
    torch.manual_seed(seed)
    net = Network(tables, Towers(tasks))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(std=0.7)
    return (net.double() if double else net).train()


def batch(tasks: int = 3, seed: int = 0, double: bool = False) -> Batch:
    """Rows with duplicates, an empty bag, weights in one of the bags."""
    generator = torch.Generator().manual_seed(1000 + seed)

    def ids(rows: int, count: int) -> Tensor:
        return (torch.rand(count, generator=generator).square() * rows).int()

    lengths = torch.tensor([0, 1, 3, 2] * (B // 4))
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
    count = int(offsets[-1])
    kind = torch.float64 if double else torch.float32
    return Batch(
        ids=torch.stack([ids(9, B), ids(11, B), ids(6, B)], dim=1),
        numeric=torch.randn(B, NUMERIC, generator=generator).to(kind),
        labels=(torch.rand(B, tasks, generator=generator) < 0.5).to(kind),
        bags={
            "tags": Bag(ids(8, count), offsets),
            "likes": Bag(ids(11, count), offsets, torch.rand(count, generator=generator).to(kind)),
        },
    )


def stepper(net: Network, weighting=None, perturbation=None, clippers=(), lr: float = 0.1, missing=False) -> Step:
    tables, dense = SGD(net.tables.table_parameters(), lr=lr), torch.optim.SGD(net.dense_parameters(), lr=lr)
    return Step(net, [tables, dense], weighting, perturbation, clippers, missing=missing)


def task_gradients(net: Network, example: Batch, seed: int = 0) -> list[dict[str, Tensor]]:
    """Per task the dense gradient of every parameter by name, by plain embedding look-ups and one backward a task."""
    found = []
    for task in range(example.labels.shape[1]):
        torch.manual_seed(seed)
        step = Step(net, [])
        lookup = net.tables.lookup(example, learn=True)
        losses = step._losses(lookup, example, None)
        targets = [*lookup.leaves, *step.dense]
        gradients = list(torch.autograd.grad(losses[task], targets, allow_unused=True))
        count = len(lookup.leaves)
        dense = {id(p): g for p, g in zip(step.dense, gradients[count:], strict=True)}
        parts = [(g, "vectors") for g in lookup.groups if g.vectors is not None]
        parts += [(g, "linear") for g in lookup.groups if g.linear is not None]
        for (part, kind), gradient in zip(parts, gradients[:count], strict=True):
            table = part.group.weight if kind == "vectors" else part.group.linear
            full = torch.zeros_like(table)
            # the dense gradient, entry by entry: each looked-up id adds its factor times its vector's gradient
            flat = gradient.reshape(-1, gradient.shape[-1])
            source = range(len(part.rows)) if part.source is None else part.source.tolist()
            factors = [1.0] * len(part.rows) if part.factors is None else part.factors.tolist()
            for row, place, factor in zip(part.rows.tolist(), source, factors, strict=True):
                full[row] += factor * flat[place]
            dense[id(table)] = full
        found.append(
            {
                n: torch.zeros_like(p) if dense.get(id(p)) is None else dense[id(p)].detach().clone()
                for n, p in net.named_parameters()
            }
        )
    return found
