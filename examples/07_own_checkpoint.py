"""A trained torch model of your own, cut without training anything, and its small tables written to disk.

Shows `autodim.spectral` (statistics through hooks on the slots' modules, from held-out batches), `autodim.allocate`
with the strategy `spectral`, `autodim.cut_tables` and `autodim.save_cut` (tables n x r, projections r x D, biases as
safetensors beside widths.yaml), and `autodim.Factored`, which takes a wide module's place.

    python examples/07_own_checkpoint.py
"""

import tempfile
from pathlib import Path

import torch
from torch import nn

import autodim

USERS, ITEMS, TAGS, D = 500, 300, 100, 16
torch.manual_seed(0)
TASTE, KIND, MOOD = torch.randn(USERS, 2), torch.randn(ITEMS, 2), torch.randn(TAGS, 1)


class Mine(nn.Module):
    """Users, items and a bag of tags; autodim needs the three modules and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(USERS, D), nn.Embedding(ITEMS, D)
        self.tags = nn.EmbeddingBag(TAGS, D)
        self.dense = nn.Sequential(nn.Linear(4 * D, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, user: torch.Tensor, item: torch.Tensor, tags: torch.Tensor) -> torch.Tensor:
        u, i, t = self.user(user), self.item(item), self.tags(tags)  # B x D each
        return self.dense(torch.cat([u, i, t, u * i], dim=1)).squeeze(1)


def draw(rows: int) -> tuple[torch.Tensor, ...]:
    user, item, tags = torch.randint(USERS, (rows,)), torch.randint(ITEMS, (rows,)), torch.randint(TAGS, (rows, 3))
    logit = 1.5 * (TASTE[user] * KIND[item]).sum(1) + MOOD[tags].mean(1)[:, 0]
    return user, item, tags, torch.bernoulli(torch.sigmoid(logit))


def loss(model: nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return nn.functional.binary_cross_entropy_with_logits(model(*batch[:3]), batch[3])


def trained() -> Mine:
    """Stands for the model that you have: `model.load_state_dict(torch.load(path, weights_only=True))`."""
    model, log = Mine(), draw(120_000)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for start in range(0, 3 * 120_000, 500):
        batch = tuple(column[start % 120_000 : start % 120_000 + 500] for column in log)
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
    return model


if __name__ == "__main__":
    model, held_out, test = trained(), draw(8_000), draw(8_000)
    print(f"uncut, width {D}: test loss {loss(model, test):.4f}")
    batches = [tuple(column[k : k + 500] for column in held_out) for k in range(0, 8_000, 500)]
    modules = {"user": model.user, "item": model.item, "tags": model.tags}
    moments = autodim.spectral(model, lambda m, b: m(*b[:3]), lambda b: b[3], batches, modules)
    rows = {name: module.num_embeddings for name, module in modules.items()}
    widths = autodim.allocate(moments, rows, "25% params", strategy="spectral")
    print(f"widths {widths.widths}, {widths.spent:,} of {widths.uniform:,} {widths.unit}")
    small = autodim.cut_tables(widths, {name: m.weight for name, m in modules.items()}, moments)
    with tempfile.TemporaryDirectory() as folder:
        written = autodim.save_cut(Path(folder) / "small", widths, small)
        print("written:", ", ".join(sorted(p.name for p in written.iterdir() if p.suffix in (".safetensors", ".yaml"))))
    for name, module in modules.items():
        setattr(model, name, autodim.Factored.of(name, widths, small, module))
    print(f"cut, nothing trained: test loss {loss(model, test):.4f}")
