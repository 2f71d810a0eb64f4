"""Small tables of a model of one's own: what the factors say, on disk and in a module's place."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import autodim
from autodim.dimension.allocation import Allocation
from autodim.errors import ConfigError


class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.user, self.item, self.tags = nn.Embedding(30, 6), nn.Embedding(20, 6), nn.EmbeddingBag(10, 6, mode="sum")
        self.noise = nn.Embedding(40, 6)
        self.out = nn.Linear(6, 1)

    def forward(self, x):
        user, item, tags, noise = x
        v = self.user(user) * self.item(item) + self.tags(tags)
        return self.out(v).squeeze(1) + 1e-4 * self.noise(noise).sum(1)


@pytest.fixture(scope="module")
def cut():
    torch.manual_seed(0)
    model = Mine()
    sizes = {"user": 30, "item": 20, "tags": 10, "noise": 40}
    batches = []
    for _ in range(6):
        x = [torch.randint(n, (200, 3) if k == "tags" else (200,)) for k, n in sizes.items()]
        batches.append((x, torch.bernoulli(model(x).sigmoid().detach())))
    modules = {k: getattr(model, k) for k in sizes}
    moments = autodim.spectral(model, lambda m, b: m(b[0]), lambda b: b[1], batches, modules)
    return model, modules, moments, sizes, batches[0][0]


@pytest.mark.parametrize("budget", ["60% params", "35% dims", "1.0 params"])
def test_the_model_with_small_tables_is_the_model_with_factored_vectors(cut, budget):
    _, modules, moments, sizes, x = cut
    widths = autodim.allocate(moments, sizes, budget, strategy="spectral")
    small = autodim.cut_tables(widths, {k: m.weight for k, m in modules.items()}, moments)
    for entry in widths.entries:
        name = entry.table
        module = autodim.Factored.of(name, widths, small, modules[name])
        wide = modules[name](x[list(sizes).index(name)]).detach().double()
        if entry.projected:
            f = autodim.factorise({name: moments[name]})
            mean = torch.from_numpy(moments[name].mean)
            matrix = torch.from_numpy(f.encoder(entry.width) @ f.decoder(entry.width))
            wide = mean + (wide - mean) @ matrix
        elif entry.width == 0:
            wide = torch.from_numpy(moments[name].mean).expand_as(wide)
        torch.testing.assert_close(module(x[list(sizes).index(name)]).double(), wide, rtol=1e-4, atol=1e-5)
        numbers = sum(p.numel() for p in module.parameters())
        assert numbers == widths_params(entry, 6)


def widths_params(entry, common):
    projected = entry.width * common if entry.projected else 0
    return entry.rows * entry.width + projected + (common if entry.bias else 0)


def test_what_is_written_reads_back(cut, tmp_path):
    _, modules, moments, sizes, _ = cut
    widths = autodim.allocate(moments, sizes, "50% params", strategy="spectral")
    small = autodim.cut_tables(widths, {k: m.weight for k, m in modules.items()}, moments)
    folder = autodim.save_cut(tmp_path / "small", widths, small)
    found = load_file(folder / "tables.safetensors")
    assert found.keys() == small.keys() and all(torch.equal(found[k], v) for k, v in small.items())
    assert Allocation.from_yaml((folder / "widths.yaml").read_text()) == widths
    assert sum(t.numel() for t in found.values()) == widths.spent


def test_axis_aligned_cuts_keep_columns(cut):
    _, modules, _, sizes, _ = cut
    scores = {k: torch.rand(6, generator=torch.Generator().manual_seed(i)).numpy() for i, k in enumerate(sizes)}
    widths = autodim.allocate(scores, sizes, "50% dims")
    small = autodim.cut_tables(widths, {k: m.weight for k, m in modules.items()})
    for e in widths.entries:
        if e.kept is not None and e.projected:
            assert torch.equal(small[f"tables/{e.table}"], modules[e.table].weight.detach()[:, list(e.kept)])


def test_what_is_missing_is_said(cut):
    _, modules, moments, sizes, _ = cut
    widths = autodim.allocate(moments, sizes, "40% params", strategy="spectral")
    weights = {k: m.weight for k, m in modules.items()}
    with pytest.raises(ConfigError, match="needs the moments of"):
        autodim.cut_tables(widths, weights)
    with pytest.raises(ConfigError, match="no table 'user'"):
        autodim.cut_tables(widths, {"usr": modules["user"].weight}, moments)
    with pytest.raises(ConfigError, match=r"user is \(3, 6\), expected 30 rows"):
        autodim.cut_tables(widths, {**weights, "user": weights["user"][:3]}, moments)
    small = autodim.cut_tables(widths, weights, moments)
    with pytest.raises(ConfigError, match="no slot 'usr'; did you mean"):
        autodim.Factored.of("usr", widths, small, modules["user"])
    with pytest.raises(ConfigError, match="found Linear"):
        autodim.Factored.of("user", widths, small, nn.Linear(2, 2))
