"""Laws that hold for every architecture: what belongs to whom, folding of cuts, gates, seeds, restarts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from autodim.config.schema import ModelConfig
from autodim.embedding.vectors import Concatenated, Stacked
from autodim.models import build_model
from autodim.models.base import Model
from autodim.multitask import ARCHITECTURES

B, S, D, N = 6, 4, 3, 2
CASES = [
    ("single", {}),
    ("shared_bottom", {}),
    ("omoe", {}),
    ("mmoe", {}),
    ("snr", {"levels": 1, "connection": "aver"}),
    ("snr", {"levels": 3}),
    ("ple", {"levels": 1}),
    ("ple", {"levels": 2}),
    ("ple", {"levels": 3}),
    ("esmm", {}),
]
EACH = pytest.mark.parametrize(("name", "sharing"), CASES, ids=[f"{n}{s.get('levels', '')}" for n, s in CASES])
INTERACTIONS = pytest.mark.parametrize("interaction", ["none", "fm", "cross"])


def make(
    name: str, sharing: dict[str, object], slots: int = S, numeric: int = N, seed: int = 1, **options: object
) -> Model:
    options = {"name": name, "width": D, "hidden": (8, 5), "cross_layers": 2} | options
    small = {"experts": 3, "own_experts": 2, "shared_experts": 2, "expert_hidden": (5, 4), "towers": (3,)}
    config = ModelConfig.model_validate(options | {"sharing": small | sharing})
    return build_model(config, slots, numeric, 2 if name == "esmm" else 3, seed=seed)


def lively(model: Model) -> Model:
    """No parameter is zero, and no ReLU is shut for all examples."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).abs())
    return model.double()


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_every_architecture_is_tested():
    assert {name for name, _ in CASES} == set(ARCHITECTURES)


@EACH
@INTERACTIONS
@pytest.mark.parametrize("training", [True, False])
def test_own_parameters_are_those_that_one_loss_reaches(name, sharing, interaction, training):
    """By autograd, in both directions: own ones are reached by no other loss, and all that is not own by several."""
    model = lively(make(name, sharing | {"interaction": interaction})).train(training)
    vectors, numeric = (0.3 * draw(*shape).abs().double() for shape in ((B, S, D), (B, N)))
    logits = model(Stacked(vectors), None, numeric)
    tasks = logits.shape[1]
    parameters = list(model.parameters())
    reached: list[set[int]] = [set() for _ in parameters]
    torch.manual_seed(0)
    for t in range(tasks):
        gradients = torch.autograd.grad(logits[:, t].sum(), parameters, retain_graph=True, allow_unused=True)
        for found, gradient in zip(reached, gradients, strict=True):
            if gradient is not None and bool((gradient != 0).any()):
                found.add(t)
    own = model.own_parameters()
    assert len(own) == tasks
    owner = {id(p): t for t, group in enumerate(own) for p in group}
    assert len(owner) == sum(map(len, own))  # disjoint
    for parameter, by in zip(parameters, reached, strict=True):
        if id(parameter) in owner:
            assert by <= {owner[id(parameter)]}
        else:
            assert len(by) > 1
    shared = {id(p) for p in parameters} - set(owner)
    assert all(id(p) in shared and p.numel() for p in model.last_shared())
    assert model.last_shared() or name == "single"


@EACH
@INTERACTIONS
def test_folded_projections_give_the_logits_of_the_projected_vectors(name, sharing, interaction):
    model = make(name, sharing | {"interaction": interaction}).eval()
    narrow, wide = draw(B, 2, 1, seed=2), draw(B, 1, D, seed=3)
    projection, bias = draw(2, 1, D, seed=4), draw(S, D, seed=5)
    mixed = Concatenated([(narrow, projection, [3, 1]), (wide, None, [0])], bias, B, S, D, wide)
    by_hand = torch.zeros(B, S, D)
    by_hand[:, 3], by_hand[:, 1], by_hand[:, 0] = narrow[:, 0] @ projection[0], narrow[:, 1] @ projection[1], wide[:, 0]
    numeric = draw(B, N, seed=7)
    expected = model(Stacked(by_hand + bias), None, numeric)
    torch.testing.assert_close(model(mixed, None, numeric), expected, rtol=1e-5, atol=1e-5)


@EACH
@INTERACTIONS
def test_full_widths_equal_the_uniform_model(name, sharing, interaction):
    model = make(name, sharing | {"interaction": interaction}).eval()
    vectors, numeric = draw(B, S, D, seed=2), draw(B, N, seed=4)
    mixed = Concatenated([(vectors, torch.eye(D).repeat(S, 1, 1), list(range(S)))], None, B, S, D, vectors)
    torch.testing.assert_close(model(mixed, None, numeric), model(Stacked(vectors), None, numeric))


@EACH
@INTERACTIONS
@pytest.mark.parametrize(("slots", "numeric"), [(0, N), (S, 0), (1, 1)])
@pytest.mark.parametrize("small", [True, False])
def test_any_number_of_slots_and_numeric_columns_trains(name, sharing, interaction, slots, numeric, small):
    options: dict[str, object] = {"hidden": (5,)} if small else {}
    layers: dict[str, object] = {"expert_hidden": (4,), "towers": ()} if small else {}
    model = make(name, sharing | layers | {"interaction": interaction}, slots, numeric, **options)
    vectors = draw(B, slots, D).requires_grad_()
    out = model(Stacked(vectors), None, draw(B, numeric, seed=2))
    assert out.shape == (B, 2 if name == "esmm" else 3)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert vectors.grad is not None and (slots == 0 or vectors.grad.abs().sum() > 0)


@EACH
def test_examples_do_not_see_each_other(name, sharing):
    model = make(name, sharing).eval()
    vectors, numeric = draw(B, S, D), draw(B, N, seed=2)
    one = torch.cat([model(Stacked(vectors[[b]]), None, numeric[[b]]) for b in range(B)])
    torch.testing.assert_close(one, model(Stacked(vectors), None, numeric))


@EACH
def test_gates_are_weights_of_a_mixture(name, sharing):
    model = make(name, sharing).eval()
    gates = model.gates(Stacked(draw(B, S, D)), draw(B, N, seed=1))
    levels = int(sharing.get("levels", 1))
    expected = {
        "single": [], "shared_bottom": [], "esmm": [], "omoe": [(None, 1)], "mmoe": [(t, 1) for t in range(3)],
        "snr": [(None, level) for level in range(1, levels) for _ in range(3)] + [(t, levels) for t in range(3)],
        "ple": [(t, k) for k in range(1, levels + 1) for t in (0, 1, 2, None) if k < levels or t is not None],
    }[name]  # fmt: skip
    assert [(g.task, g.level) for g in gates] == expected
    for gate in gates:
        assert gate.weights.shape == (B, len(gate.experts))
        assert (gate.weights >= 0).all() and (gate.weights <= 1).all()
        if name != "snr":
            torch.testing.assert_close(gate.weights.sum(1), torch.ones(B))
        if name == "ple":
            assert len(gate.experts) == (4 if gate.task is not None else 8)


@EACH
@INTERACTIONS
def test_the_head_is_the_last_layer_of_every_task(name, sharing, interaction):
    """Where it is zero the features do not matter; of a tower the logit is linear in it."""
    model = make(name, sharing | {"interaction": interaction}).eval()
    with torch.no_grad():
        for parameter in model.head():
            parameter.zero_()
    out = model(Stacked(draw(B, S, D)), None, draw(B, N, seed=1))
    expected = out.new_zeros(out.shape)
    if name == "esmm":
        expected[:, 1] = -torch.tensor(3.0).log()  # 1/2 x 1/2
    torch.testing.assert_close(out, expected)


@EACH
@INTERACTIONS
def test_a_cold_first_layer_is_what_reads_the_slots(name, sharing, interaction):
    """Fresh first layers change; all else stays; and no other layer reads the slot vectors."""
    model = make(name, sharing | {"interaction": interaction}).eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.reset_first(torch.Generator().manual_seed(3))
    first = {id(p) for p in model.first_dense()}
    for key, value in model.state_dict(keep_vars=True).items():
        assert key.endswith("bias") or torch.equal(value, before[key]) == (id(value) not in first), key
    with torch.no_grad():
        for layer in model.first_layers():
            layer.slot_weight.zero_()
    numeric = draw(B, N, seed=1)
    one, other = (model(Stacked(draw(B, S, D, seed=s)), None, numeric) for s in (1, 2))
    assert interaction == "fm" or torch.equal(one, other)


@EACH
def test_initial_weights_are_a_function_of_the_seed_alone(name, sharing):
    torch.manual_seed(5)
    first = make(name, sharing).state_dict()
    torch.manual_seed(6)
    again, other = make(name, sharing).state_dict(), make(name, sharing, seed=2).state_dict()
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


def test_each_expert_starts_as_a_layer_of_its_own():
    model = make("mmoe", {"experts": 20, "expert_hidden": (40, 30)}, slots=50)
    bound = (6 / (50 * D + N + 40)) ** 0.5  # Xavier with 40 outputs, not 20 x 40
    assert bound * 0.98 < model.experts.first.slot_weight.detach().abs().max().item() <= bound
    bound = (6 / 70) ** 0.5
    assert bound * 0.98 < model.experts.rest[0].weight.detach().abs().max().item() <= bound


def test_routing_is_drawn_from_the_random_state_in_training_only():
    model = make("snr", {"levels": 2})
    vectors, numeric = Stacked(draw(B, S, D)), draw(B, N, seed=1)

    def logits(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return model(vectors, None, numeric)

    assert torch.equal(logits(1), logits(1))  # both passes of a perturbed step route alike
    assert not torch.equal(logits(1), logits(2))
    model.eval()
    assert torch.equal(logits(1), logits(2))


@EACH
def test_dropout_works_in_training_only(name, sharing):
    model = make(name, sharing, dropout=0.5).eval()
    vectors, numeric = Stacked(draw(B, S, D)), draw(B, N, seed=1)
    assert torch.equal(model(vectors, None, numeric), model(vectors, None, numeric))
    model.train()
    assert not torch.equal(model(vectors, None, numeric), model(vectors, None, numeric))


@EACH
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_logits_on_the_gpu_equal_those_on_the_cpu(name, sharing):
    model = make(name, sharing).eval()
    vectors, numeric = draw(B, S, D), draw(B, N, seed=2)
    expected = model(Stacked(vectors), None, numeric)
    found = model.cuda()(Stacked(vectors.cuda()), None, numeric.cuda())
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-4)
