"""Widths for a torch model of your own, with its own loop and its own data; no pipeline.

Shows `autodim.saliency` (one forward and backward over held-out batches), `autodim.allocate` (scores and a budget
become widths) and how the small embeddings are built from the allocation, warm: kept columns and a projection.

    python examples/02_own_torch_model.py
"""

import torch
from torch import nn

import autodim

USERS, TAGS, D = 400, 200, 8
torch.manual_seed(0)
TASTE, KIND = torch.randn(USERS, 2), torch.randn(TAGS, 2)  # two dimensions are all that there is to learn


class Mine(nn.Module):
    """A user (`nn.Embedding`), a bag of tags (`nn.EmbeddingBag`), and a dense part that autodim never looks at."""

    def __init__(self) -> None:
        super().__init__()
        self.user = nn.Embedding(USERS, D)
        self.tags = nn.EmbeddingBag(TAGS, D)
        self.dense = nn.Sequential(nn.Linear(3 * D, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, user: torch.Tensor, tags: torch.Tensor) -> torch.Tensor:
        u, t = self.user(user), self.tags(tags)  # B x D each
        return self.dense(torch.cat([u, t, u * t], dim=1)).squeeze(1)


class Small(nn.Module):
    """A narrow table and its projection in the place of a wide one: the model around it stays as it is."""

    def __init__(self, wide: nn.Module, kept: tuple[int, ...]) -> None:
        super().__init__()
        rows, width = len(wide.weight), len(kept)
        self.table = type(wide)(rows, width)  # an EmbeddingBag's mean is its default
        self.projection = nn.Parameter(torch.eye(D)[list(kept)])  # d x D: puts the kept columns where they were
        with torch.no_grad():
            self.table.weight.copy_(wide.weight[:, list(kept)])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.table(ids) @ self.projection


def draw(rows: int) -> tuple[torch.Tensor, ...]:
    user, tags = torch.randint(USERS, (rows,)), torch.randint(TAGS, (rows, 3))
    return user, tags, torch.bernoulli(torch.sigmoid(2 * (TASTE[user] * KIND[tags].mean(1)).sum(1)))


def loss(model: nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return nn.functional.binary_cross_entropy_with_logits(model(batch[0], batch[1]), batch[2])


def train(model: nn.Module, log: tuple[torch.Tensor, ...], steps: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(steps):
        rows = torch.arange(step * 256, (step + 1) * 256) % len(log[0])
        optimizer.zero_grad()
        loss(model, tuple(c[rows] for c in log)).backward()
        optimizer.step()


if __name__ == "__main__":
    log, held_out, model = draw(60_000), draw(4_000), Mine()
    train(model, log, 700)
    print(f"uniform, width {D}: held-out loss {loss(model, held_out):.4f}")
    batches = [tuple(c[k : k + 500] for c in held_out) for k in range(0, 4_000, 500)]
    scores = autodim.saliency(model, loss, batches, {"user": model.user, "tags": model.tags})
    widths = autodim.allocate(scores, {"user": USERS, "tags": TAGS}, "50% params")
    print(f"widths {widths.widths}, {widths.spent:,} of {widths.uniform:,} {widths.unit}")
    for entry in widths.entries:
        if entry.width < D:  # a slot at full width keeps its own module
            setattr(model, entry.table, Small(getattr(model, entry.table), entry.kept))
    print(f"cut: held-out loss {loss(model, held_out):.4f}")
    train(model, log, 300)
    print(f"trained again: held-out loss {loss(model, held_out):.4f}")
