"""A small network with everything that a step can meet: mixed widths, bags, a shared table, dropout, batch norm."""

from __future__ import annotations

import torch
from torch import Tensor

from autodim.data.batch import Bag, Batch
from autodim.embedding.layout import Block, Layout, Slot, Table, uniform_layout
from autodim.embedding.tables import Tables
from autodim.models.deepfm import DeepFM
from autodim.optim.sgd import SGD
from autodim.training.network import Network
from autodim.training.step import Clipper, Perturbation, Step

D, B, NUMERIC = 4, 12, 2
SLOTS = (
    Slot("a", "a"),
    Slot("tags", "tags", multi=True, pooling="mean"),
    Slot("b", "b"),
    Slot("likes", "b", multi=True, pooling="sum"),
    Slot("c", "c"),
)
TABLES = (Table("a", 9), Table("tags", 8), Table("b", 11), Table("c", 6))
WIDTHS = {"a": 2, "tags": 4, "b": 4, "c": 0}


def network(seed: int = 0, dropout: float = 0.3, batch_norm: bool = True, uniform: bool = False) -> Network:
    """DeepFM over mixed widths: one table projected, one without vectors, all with first-order weights."""
    blocks = tuple(Block(t.name, 0, t.rows, WIDTHS[t.name], projected=0 < WIDTHS[t.name] < D) for t in TABLES)
    layout = uniform_layout(SLOTS, TABLES, D) if uniform else Layout(D, SLOTS, TABLES, blocks)
    tables = Tables(layout, linear=True)
    torch.manual_seed(seed)
    model = DeepFM(len(SLOTS), D, NUMERIC, hidden=(6, 5), dropout=dropout, batch_norm=batch_norm, tasks=2)
    with torch.no_grad():
        for parameter in tables.parameters():
            parameter.normal_()
    return Network(tables, model).train()


def batch(seed: int = 0) -> Batch:
    """Rows with duplicates, with row 0, an empty bag, and weights in one of the bags."""
    generator = torch.Generator().manual_seed(1000 + seed)

    def ids(rows: int, count: int) -> Tensor:
        # squared, so that small ids are frequent
        return (torch.rand(count, generator=generator).square() * rows).int()

    lengths = torch.tensor([0, 1, 3, 2] * (B // 4))
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
    count = int(offsets[-1])
    return Batch(
        ids=torch.stack([ids(9, B), ids(11, B), ids(6, B)], dim=1),
        numeric=torch.randn(B, NUMERIC, generator=generator),
        labels=(torch.rand(B, 2, generator=generator) < 0.5).float(),
        bags={
            "tags": Bag(ids(8, count), offsets),
            "likes": Bag(ids(11, count), offsets, torch.rand(count, generator=generator)),
        },
    )


def counts(example: Batch) -> dict[str, list[int]]:
    """How often each id of each table occurs in a batch, by plain counting."""
    out = {t.name: [0] * t.rows for t in TABLES}
    read = {"a": [example.ids[:, 0]], "b": [example.ids[:, 1], example.bags["likes"].values]}
    read |= {"c": [example.ids[:, 2]], "tags": [example.bags["tags"].values]}
    for table, parts in read.items():
        for number in torch.cat(parts).tolist():
            out[table][number] += 1
    return out


def gradients(net: Network, example: Batch, seed: int) -> dict[str, Tensor]:
    """Dense gradients of all parameters by name."""
    torch.manual_seed(seed)
    named = dict(net.named_parameters())
    step = Step(net, [])
    lookup = net.tables.lookup(example, learn=True)
    losses = step._losses(lookup, example, None)
    found = step.weighting.gradients(losses, [*lookup.leaves, *step.dense], lookup)
    lookup.assign(found[: len(lookup.leaves)])
    for parameter, gradient in zip(step.dense, found[len(lookup.leaves) :], strict=True):
        parameter.grad = gradient
    out = {k: torch.zeros_like(p) if p.grad is None else p.grad.to_dense() for k, p in named.items()}
    for parameter in named.values():
        parameter.grad = None
    return {k: v.detach().clone() for k, v in out.items()}


def stepper(
    net: Network, perturbation: Perturbation | None = None, clippers: tuple[Clipper, ...] = (), lr: float = 1.0
) -> Step:
    """A step whose update is the gradient itself."""
    tables = SGD(net.tables.table_parameters(), lr=lr)
    dense = torch.optim.SGD(net.dense_parameters(), lr=lr)
    return Step(net, [tables, dense], perturbation=perturbation, clippers=clippers)


def weights(net: Network) -> dict[str, Tensor]:
    """Copies of all parameters and buffers."""
    return {k: v.clone() for k, v in net.state().items()}
