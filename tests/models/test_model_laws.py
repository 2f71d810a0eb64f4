"""Laws that hold for every model, and those that hold for some."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from autodim.config.schema import ModelConfig
from autodim.embedding.vectors import Concatenated, Stacked
from autodim.models import MODELS, build_model
from autodim.models.base import Model
from autodim.models.fm import pair_sum

B, S, D, N = 6, 4, 3, 2
KINDS = [(name, "inner") for name in MODELS] + [("pnn", "outer")]
NAMES = pytest.mark.parametrize(("name", "product"), KINDS)


def config(name: str, product: str = "inner", **options: object) -> ModelConfig:
    return ModelConfig.model_validate({"name": name, "width": D, "hidden": (8, 5), "product": product} | options)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def logits(model: Model, vectors: Tensor, linear: Tensor | None = None, numeric: Tensor | None = None) -> Tensor:
    return model(Stacked(vectors), linear, draw(len(vectors), N, seed=9) if numeric is None else numeric)


@NAMES
def test_folded_projections_give_the_logits_of_the_projected_vectors(name, product):
    model = build_model(config(name, product), S, N, 2, seed=1)
    narrow, wide = draw(B, 2, 1, seed=2), draw(B, 1, D, seed=3)
    projection, bias = draw(2, 1, D, seed=4), draw(S, D, seed=5)
    groups = [(narrow, projection, [3, 1]), (wide, None, [0])]  # slot 2 has no table: its bias alone
    mixed = Concatenated(groups, bias, B, S, D, wide)
    by_hand = torch.zeros(B, S, D)
    by_hand[:, 3] = narrow[:, 0] @ projection[0]
    by_hand[:, 1] = narrow[:, 1] @ projection[1]
    by_hand[:, 0] = wide[:, 0]
    linear, numeric = draw(B, S, seed=6), draw(B, N, seed=7)
    torch.testing.assert_close(
        model(mixed, linear, numeric), model(Stacked(by_hand + bias), linear, numeric), rtol=1e-5, atol=1e-5
    )


@NAMES
def test_identity_projections_equal_stacked_vectors(name, product):
    model = build_model(config(name, product), S, N, 1, seed=1)
    vectors, linear, numeric = draw(B, S, D, seed=2), draw(B, S, seed=3), draw(B, N, seed=4)
    mixed = Concatenated([(vectors, torch.eye(D).repeat(S, 1, 1), list(range(S)))], None, B, S, D, vectors)
    torch.testing.assert_close(model(mixed, linear, numeric), model(Stacked(vectors), linear, numeric))


@NAMES
@pytest.mark.parametrize("hidden", [(8, 5), ()])
@pytest.mark.parametrize(("slots", "numeric"), [(0, N), (S, 0), (0, 0), (1, 1)])
def test_any_number_of_slots_and_numeric_columns_trains(name, product, hidden, slots, numeric):
    model = build_model(config(name, product, hidden=hidden), slots, numeric, 3, seed=1)
    vectors = draw(B, slots, D).requires_grad_()
    linear = draw(B, slots, seed=1) if model.uses_linear else None
    out = logits(model, vectors, linear, draw(B, numeric, seed=2))
    assert out.shape == (B, 3)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert vectors.grad is not None and vectors.grad.shape == vectors.shape
    if slots > 1 or (slots and name != "fm"):  # one slot has no pairs
        assert vectors.grad.abs().sum() > 0


@NAMES
def test_examples_do_not_see_each_other(name, product):
    model = build_model(config(name, product), S, N, 1, seed=1)
    vectors, linear, numeric = draw(B, S, D), draw(B, S, seed=1), draw(B, N, seed=2)
    one = torch.cat([logits(model, vectors[[b]], linear[[b]], numeric[[b]]) for b in range(B)])
    torch.testing.assert_close(one, logits(model, vectors, linear, numeric))


@NAMES
def test_initial_weights_are_a_function_of_the_seed_alone(name, product):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = build_model(config(name, product), S, N, 1, seed=1).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())  # and nobody else's draws move
    torch.manual_seed(6)
    again = build_model(config(name, product), S, N, 1, seed=1).state_dict()
    other = build_model(config(name, product), S, N, 1, seed=2).state_dict()
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


@NAMES
@pytest.mark.parametrize("hidden", [(8, 5), ()])
def test_the_head_is_the_last_layer_of_every_part(name, product, hidden):
    """Logits are affine in it, and where it is zero no other dense parameter matters."""
    model = build_model(config(name, product, hidden=hidden), S, N, 2, seed=1).double()
    head = model.head()
    for k, parameter in enumerate(head):  # biases start at zero
        parameter.data = draw(*parameter.shape, seed=50 + k).double()
    start = [p.detach().clone() for p in head]
    found = {}
    for factor in (0.0, 1.0, 2.0):
        for parameter, value in zip(head, start, strict=True):
            parameter.data = factor * value
        vectors, linear, numeric = (draw(*shape, seed=7).double() for shape in ((B, S, D), (B, S), (B, N)))
        found[factor] = model(Stacked(vectors), linear, numeric)
    torch.testing.assert_close(found[2.0] - found[1.0], found[1.0] - found[0.0])
    assert (found[1.0] != found[0.0]).all()
    others = [p for p in model.parameters() if all(p is not h for h in head)]
    for parameter in head:
        parameter.data = torch.zeros_like(parameter)
    out = model(Stacked(vectors), linear, numeric).sum()
    gradients = torch.autograd.grad(out, others, allow_unused=True) if others and out.requires_grad else []
    assert all(g is None or not g.any() for g in gradients)


@NAMES
def test_reset_first_redraws_the_first_dense_layers_and_nothing_else(name, product):
    model = build_model(config(name, product), S, N, 1, seed=1)
    first = {id(p) for p in model.first_dense()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    model.reset_first(torch.Generator().manual_seed(3))
    drawn = [p.clone() for p in model.first_dense()]
    for parameter in model.parameters():
        assert bool((parameter == 7.0).all()) == (id(parameter) not in first)
    model.reset_first(torch.Generator().manual_seed(3))
    assert all(torch.equal(a, b) for a, b in zip(drawn, model.first_dense(), strict=True))
    assert bool(first) == (name != "fm")


@NAMES
def test_first_order_weights_move_exactly_the_models_that_say_so(name, product):
    model = build_model(config(name, product), S, N, 2, seed=1)
    vectors, linear = draw(B, S, D), draw(B, S, seed=1)
    moved = logits(model, vectors, linear) - logits(model, vectors, None)
    expected = linear.sum(1, keepdim=True).expand(B, 2) if model.uses_linear else torch.zeros(B, 2)
    torch.testing.assert_close(moved, expected, rtol=1e-5, atol=1e-5)
    assert model.uses_linear == (name in {"fm", "deepfm", "widedeep"})


def test_fm_does_not_see_the_order_of_slots():
    model = build_model(config("fm"), S, N, 1, seed=1)
    vectors, linear, order = draw(B, S, D), draw(B, S, seed=1), [2, 0, 3, 1]
    torch.testing.assert_close(
        logits(model, vectors, linear), logits(model, vectors[:, order], linear[:, order]), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", ["dnn", "deepfm", "widedeep", "dcn", "pnn"])
def test_permuting_slots_with_their_weights_changes_nothing(name):
    # pnn: outer, since its products do not depend on the order
    model = build_model(config(name, "outer"), S, N, 1, seed=1)
    vectors, linear, order = draw(B, S, D), draw(B, S, seed=1), [2, 0, 3, 1]
    before = logits(model, vectors, linear)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("slot_weight"):
                parameter.copy_(parameter.view(-1, S, D)[:, order].flatten(1).clone())
    after = logits(model, vectors[:, order], linear[:, order])
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)


def test_dropout_and_batch_norm_sit_after_and_before_each_activation():
    model = build_model(config("dnn", dropout=0.5, batch_norm=True), S, N, 1, seed=1)
    kinds = [type(part).__name__ for part in model.deep.rest]
    block = ["BatchNorm1d", "ReLU", "Dropout"]
    assert kinds == [*block, "Dense", *block, "Dense"]
    model.eval()
    vectors = draw(B, S, D)
    assert torch.equal(logits(model, vectors), logits(model, vectors))
    model.train()
    assert not torch.equal(logits(model, vectors), logits(model, vectors))


def test_first_layer_starts_with_the_spread_of_xavier():
    model = build_model(config("dnn", hidden=(400,)), 50, 10, 1, seed=1)
    first = model.deep.first
    bound = (6 / (50 * D + 10 + 400)) ** 0.5  # numeric and slot weights are one layer of S D + n inputs
    for weight in (first.slot_weight, first.numeric_weight):
        assert weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)


def test_pair_sum_gradients_match_finite_differences_to_the_second_order():
    vectors = draw(3, S, D).double().requires_grad_()
    assert torch.autograd.gradcheck(pair_sum, (vectors,))
    assert torch.autograd.gradgradcheck(pair_sum, (vectors,))


def test_pair_sum_hessian_is_one_between_slots_and_zero_within():
    vectors = draw(1, 3, 2).double()
    hessian = torch.autograd.functional.hessian(lambda v: pair_sum(v).sum(), vectors).view(6, 6)
    expected = torch.kron(torch.ones(3, 3) - torch.eye(3), torch.eye(2)).double()
    torch.testing.assert_close(hessian, expected)


def test_pair_sum_adds_bfloat16_vectors_in_float32():
    vectors = draw(64, 39, 16).bfloat16().requires_grad_()
    out = pair_sum(vectors)
    torch.testing.assert_close(out, pair_sum(vectors.float()), rtol=1e-6, atol=1e-4)
    out.sum().backward()
    assert vectors.grad is not None and vectors.grad.dtype == torch.bfloat16


@NAMES
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_logits_on_the_gpu_equal_those_on_the_cpu(name, product):
    model = build_model(config(name, product), S, N, 2, seed=1)
    vectors, linear, numeric = draw(B, S, D), draw(B, S, seed=1), draw(B, N, seed=2)
    expected = logits(model, vectors, linear, numeric)
    out = logits(model.cuda(), vectors.cuda(), linear.cuda(), numeric.cuda())
    torch.testing.assert_close(out.cpu(), expected, rtol=1e-4, atol=1e-4)
    model.reset_first(torch.Generator().manual_seed(3))
    twin = build_model(config(name, product), S, N, 2, seed=1)
    twin.reset_first(torch.Generator().manual_seed(3))
    assert all(torch.equal(a.cpu(), b) for a, b in zip(model.first_dense(), twin.first_dense(), strict=True))
