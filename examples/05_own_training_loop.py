"""A training loop of your own on autodim's parts: tables of mixed widths, a model that never sees a width, one step.

Shows `Layout`, `Tables`, `Network` and `Step` without configs, stages or files. The model here is a user's own; any
of `autodim.models` fits as well. The log is planted: a generated one whose true widths are known.

    python examples/05_own_training_loop.py
"""

import numpy as np
import torch
from torch import Tensor, nn

from autodim.data.batch import Batch
from autodim.data.logs.planted import draw
from autodim.embedding.layout import Block, CostModel, Layout, Slot, Table, uniform_layout
from autodim.embedding.tables import Tables
from autodim.embedding.vectors import SlotVectors
from autodim.optim.lazy_adam import LazyAdam
from autodim.training.metrics import auc
from autodim.training.network import Network
from autodim.training.step import Step

D = 8  # the common width


class Pairs(nn.Module):
    """Slot vectors B x S x D -> logits B x 1: every pair of slots multiplied, a small network on all of them."""

    def __init__(self, slots: int, numeric: int = 0) -> None:
        super().__init__()
        self.left, self.right = torch.triu_indices(slots, slots, 1)
        self.dense = nn.Sequential(nn.Linear(len(self.left) * D + numeric, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, slots: SlotVectors, linear: Tensor | None, numeric: Tensor) -> Tensor:
        vectors = slots.stack()
        pairs = vectors[:, self.left] * vectors[:, self.right]  # B x S (S - 1) / 2 x D
        return self.dense(torch.cat([pairs.flatten(1), numeric], dim=1))


def batches(ids: Tensor, clicks: Tensor, size: int) -> list[Batch]:
    rows = [slice(k, k + size) for k in range(0, len(ids), size)]
    return [Batch(ids[r], torch.zeros(len(ids[r]), 0), clicks[r]) for r in rows]


def train(layout: Layout, ids: Tensor, clicks: Tensor, epochs: int = 3) -> str:
    torch.manual_seed(0)
    network = Network(Tables(layout), Pairs(len(layout.slots)))
    network.tables.initialise(0.3, torch.Generator().manual_seed(0))
    step = Step(
        network,
        [
            LazyAdam(network.tables.table_parameters(), lr=1e-2),  # touches the rows of the batch only
            torch.optim.Adam(network.dense_parameters(), lr=3e-3),  # projections are dense parameters as well
        ],
    )
    known, held_out = slice(0, 24_000), slice(24_000, None)
    for epoch in range(epochs):
        losses = [step(b, seed=1000 * epoch + k) for k, b in enumerate(batches(ids[known], clicks[known], 512))]
    with torch.no_grad():
        scores = torch.cat([network(b)[:, 0] for b in batches(ids[held_out], clicks[held_out], 4096)])
    loss = float(torch.stack(losses).mean())
    return f"last epoch's loss {loss:.4f}, held-out AUC {float(auc(scores, clicks[held_out, 0])):.4f}"


if __name__ == "__main__":
    table, truth = draw(rows=30_000, slots=5, width=D, seed=5, noise=0.2)
    about = truth["slots"]
    ids = torch.from_numpy(np.stack([table[name].to_numpy() for name in about], axis=1))
    clicks = torch.tensor(table["click"].to_numpy(), dtype=torch.float32)[:, None]
    slots, tables = [Slot(name, name) for name in about], [Table(name, a["ids"]) for name, a in about.items()]
    print(f"{len(ids):,} rows; ids and true widths of the slots:", [(a["ids"], a["width"]) for a in about.values()])
    uniform = uniform_layout(slots, tables, D)
    print(f"uniform, {uniform.parameters:,} parameters:", train(uniform, ids, clicks))
    cost = CostModel("params", D)
    blocks: list[Block] = [cost.block(name, 0, a["ids"], a["width"]) for name, a in about.items()]
    true = uniform.with_blocks(blocks)
    print(f"true widths, {true.parameters:,} parameters:", train(true, ids, clicks))
