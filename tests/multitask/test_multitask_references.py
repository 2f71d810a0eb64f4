"""Each architecture's logits equal a slow reading of its paper's formulas, one example at a time, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from autodim.config.schema import ModelConfig
from autodim.embedding.vectors import Stacked
from autodim.models import build_model
from autodim.models.base import Model
from autodim.multitask.esmm import product_logit
from autodim.multitask.experts import Experts, Parallel
from autodim.multitask.snr import Routes, hard_concrete, open_probability

B, S, D, N = 4, 3, 2, 2
SHARING = {"experts": 3, "own_experts": 2, "shared_experts": 3, "expert_hidden": (5, 4), "towers": (3,)}


def make(name: str, tasks: int = 3, **sharing: object) -> Model:
    config = ModelConfig.model_validate(
        {"name": name, "width": D, "hidden": (6, 5), "cross_layers": 2, "sharing": SHARING | sharing}
    )
    model = build_model(config, S, N, tasks, seed=1).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():  # biases start at zero; a reference must see them
        for parameter in model.parameters():
            parameter.add_(0.4 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model.eval()


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    shapes = ((B, S, D), (B, N))
    vectors, numeric = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
    return vectors, numeric


def relu(x: Tensor) -> Tensor:
    return x.clamp(min=0)


def row_of(layer, k: int, height: int) -> tuple[Tensor, Tensor]:
    """Weight and bias of layer k of several that stand one above the other."""
    rows = slice(k * height, (k + 1) * height)
    weight = layer.weight if isinstance(layer, Parallel) else torch.cat([layer.slot_weight, layer.numeric_weight], 1)
    return weight[rows], layer.bias[rows]


def expert(experts: Experts, k: int, x: Tensor) -> Tensor:
    for layer, height in zip((experts.first, *experts.rest), SHARING["expert_hidden"], strict=True):
        weight, bias = row_of(layer, k, height)
        x = relu(weight @ x + bias)
    return x


def all_experts(experts: Experts, x: Tensor) -> list[Tensor]:
    return [expert(experts, k, x) for k in range(experts.count)]


def gate(layer, x: Tensor) -> Tensor:
    weight = layer.weight if hasattr(layer, "weight") else torch.cat([layer.slot_weight, layer.numeric_weight], 1)
    assert layer.bias is None
    scores = weight @ x
    return scores.exp() / scores.exp().sum()


def mixed(weights: Tensor, experts: list[Tensor]) -> Tensor:
    assert len(weights) == len(experts)
    return sum((w * e for w, e in zip(weights, experts, strict=True)), torch.zeros_like(experts[0]))


def dense(parts, x: Tensor) -> Tensor:
    for part in parts:
        x = part.weight @ x + part.bias if isinstance(part, torch.nn.Linear) else relu(x)
    return x


def first(layer, x: Tensor) -> Tensor:
    return row_of(layer, 0, len(layer.bias))[0] @ x + layer.bias


def check(model: Model, logits_of) -> None:
    vectors, numeric = inputs()
    expected = [logits_of(torch.cat([v.flatten(), x])) for v, x in zip(vectors, numeric, strict=True)]
    found = model(Stacked(vectors), None, numeric)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-12, atol=1e-12)


def towers(model, features: list[Tensor]) -> Tensor:
    return torch.cat([dense(tower, f) for tower, f in zip(model.towers, features, strict=True)])


def test_single_is_one_dense_network_a_task():
    model = make("single")
    nets = model.networks
    check(model, lambda x: torch.cat([dense(r, first(f, x)) for f, r in zip(nets.first, nets.rest, strict=True)]))


def test_shared_bottom_is_towers_on_one_network():
    model = make("shared_bottom")
    check(model, lambda x: towers(model, [dense(model.rest, first(model.first, x))] * 3))


def test_omoe_mixes_with_one_gate():
    model = make("omoe")
    assert len(model.gate) == 1
    check(model, lambda x: towers(model, [mixed(gate(model.gate[0], x), all_experts(model.experts, x))] * 3))


def test_mmoe_mixes_with_a_gate_a_task():
    model = make("mmoe")
    check(model, lambda x: towers(model, [mixed(gate(g, x), all_experts(model.experts, x)) for g in model.gate]))


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_ple_is_progressive_layered_extraction(levels):
    model = make("ple", levels=levels)
    assert [len(level.gates) for level in model.levels] == [4] * (levels - 1) + [3]  # no shared gate at the last

    def logits(x: Tensor) -> Tensor:
        states = [x] * 4  # of three tasks, then the shared one
        for level in model.levels:
            outputs = [all_experts(e, state) for e, state in zip(level.experts, states, strict=True)]
            gates = [gate(g, state) for g, state in zip(level.gates, states, strict=False)]  # from the old inputs
            states = [mixed(g, outputs[t] + outputs[-1]) for t, g in enumerate(gates[:3])]
            states += [mixed(g, [e for group in outputs for e in group]) for g in gates[3:]]
        return towers(model, states[:3])

    check(model, logits)


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("connection", ["trans", "aver"])
def test_snr_routes_by_the_fixed_gates(connection, levels):
    model = make("snr", levels=levels, connection=connection)
    width = SHARING["expert_hidden"][-1]

    def routed(routes: Routes, j: int, sources: list[Tensor]) -> Tensor:
        total = torch.zeros(width, dtype=torch.float64)
        for i, source in enumerate(sources):
            s = 1 / (1 + math.exp(-routes.log_alpha[j, i].item()))
            z = min(1.0, max(0.0, s * 1.2 - 0.1))
            block = torch.eye(width, dtype=torch.float64)
            if connection == "trans":
                block = routes.weight[j * width : (j + 1) * width, i * width : (i + 1) * width]
            total = total + z * (block @ source)
        return total

    def logits(x: Tensor) -> Tensor:
        values = all_experts(model.networks[0], x)
        for routes, network in zip(model.routes, model.networks[1:], strict=True):
            values = [expert(network, j, routed(routes, j, values)) for j in range(3)]
        return towers(model, [routed(routes, 0, values) for routes in model.task_routes])

    check(model, logits)
    counted = [r.log_alpha for r in (*model.routes, *model.task_routes)]
    assert sum(a.numel() for a in counted) == 9 * (levels - 1) + 9
    expected = 1e-4 * sum(
        1 / (1 + math.exp(-(a.item() - 2 / 3 * math.log(0.1 / 1.1)))) for c in counted for a in c.flatten()
    )
    assert model.penalty().item() == pytest.approx(expected, rel=1e-12)


def test_esmm_multiplies_probabilities():
    model = make("esmm", tasks=2)
    nets = model.networks

    def logits(x: Tensor) -> Tensor:
        click, conversion = (dense(r, first(f, x)).sigmoid() for f, r in zip(nets.first, nets.rest, strict=True))
        product = click * conversion
        return torch.cat([click.logit(), (product / (1 - product)).log()])

    check(model, logits)


def test_the_product_of_probabilities_is_exact_in_both_tails():
    a = torch.tensor([-80.0, -80.0, 80.0, 80.0, 0.0, 700.0], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([-80.0, 80.0, -80.0, 80.0, 0.0, 700.0], dtype=torch.float64, requires_grad=True)
    found = product_logit(a, b)
    # logit(pq): -160; -80; -80; -ln(2 e^-80); ln(1/3); -ln(2 e^-700)
    expected = torch.tensor([-160, -80, -80, 80 - math.log(2), -math.log(3), 700 - math.log(2)], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    gradients = torch.autograd.grad(found.sum(), (a, b))
    assert all(g.isfinite().all() for g in gradients)
    assert torch.autograd.gradcheck(product_logit, (a[4:5].detach().requires_grad_(), b[4:5].detach().requires_grad_()))


@pytest.mark.parametrize("name", ["mmoe", "shared_bottom"])
def test_fm_interaction_appends_products_of_slot_pairs(name):
    model = make(name, interaction="fm")
    plain = make(name)
    vectors, numeric = inputs()
    pairs = torch.stack(
        [sum(v[i] * v[j] for i in range(S) for j in range(i + 1, S)) for v in vectors]  # type: ignore[misc]
    )
    # an architecture without interactions on the longer numeric input, with the same weights
    plain = build_model(
        ModelConfig.model_validate({"name": name, "width": D, "hidden": (6, 5), "sharing": SHARING}),
        S,
        N + D,
        3,
        seed=1,
    ).double()
    plain.load_state_dict(model.state_dict())
    expected = plain(Stacked(vectors), None, torch.cat([numeric, pairs], 1))
    torch.testing.assert_close(model(Stacked(vectors), None, numeric), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["mmoe", "ple", "single"])
def test_cross_interaction_is_the_recursion_of_wang_2017(name):
    model = make(name, interaction="cross", levels=2) if name == "ple" else make(name, interaction="cross")
    front = model.networks.front if name == "single" else model.front
    state = {k: v for k, v in model.state_dict().items() if ".cross" not in k and "front.cross" not in k}
    plain = make(name)
    plain.load_state_dict(state)
    vectors, numeric = inputs()
    weights = torch.cat([front.cross.slot_weight, front.cross.numeric_weight], 1)
    crossed = []
    for v, x in zip(vectors, numeric, strict=True):
        start = torch.cat([v.flatten(), x])
        here = start
        for weight, bias in zip(weights, front.cross_bias, strict=True):
            here = start * (here @ weight) + bias + here
        crossed.append(here)
    joint = torch.stack(crossed)
    expected = plain(Stacked(joint[:, : S * D].view(B, S, D)), None, joint[:, S * D :])
    torch.testing.assert_close(model(Stacked(vectors), None, numeric), expected, rtol=1e-10, atol=1e-10)


def test_hard_concrete_is_the_stretched_and_clipped_sigmoid():
    u = torch.tensor([0.02, 0.3, 0.9, 0.999], dtype=torch.float64)
    log_alpha = torch.tensor([-1.0, 0.5, 0.0, 2.0], dtype=torch.float64)
    expected = []
    for v, a in zip(u.tolist(), log_alpha.tolist(), strict=True):
        s = 1 / (1 + math.exp(-(math.log(v) - math.log(1 - v) + a) / (2 / 3)))
        expected.append(min(1.0, max(0.0, s * 1.2 - 0.1)))
    assert hard_concrete(log_alpha, u).tolist() == pytest.approx(expected, rel=1e-12)
    assert expected[0] == 0.0 and expected[3] == 1.0  # the ends are reached


def test_the_penalty_is_the_share_of_open_gates():
    """sigmoid(ln a - beta ln(-gamma / zeta)) against 200,000 draws."""
    generator = torch.Generator().manual_seed(0)
    for a in (-3.0, 0.0, 1.5):
        u = torch.rand(200_000, generator=generator, dtype=torch.float64)
        drawn = (hard_concrete(torch.full_like(u, a), u) > 0).double().mean()
        assert float(open_probability(torch.tensor(a))) == pytest.approx(float(drawn), abs=4e-3)
