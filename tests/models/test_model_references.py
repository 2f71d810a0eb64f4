"""Each model's logits equal a slow, obvious reading of its paper, one example at a time, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from autodim.config.schema import ModelConfig
from autodim.embedding.vectors import Stacked
from autodim.models import build_model
from autodim.models.base import Model
from autodim.models.mlp import Mlp, SlotLinear

B, S, D, N, T = 4, 5, 3, 2, 2
HIDDEN = (7, 6)


def make(name: str, tasks: int = T, hidden: tuple[int, ...] = HIDDEN, product: str = "inner") -> Model:
    config = ModelConfig.model_validate(
        {"name": name, "width": D, "hidden": hidden, "cross_layers": 3, "product": product}
    )
    model = build_model(config, S, N, tasks, seed=1).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():  # biases start at zero; a reference must see them
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    shapes = ((B, S, D), (B, S), (B, N))
    vectors, linear, numeric = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
    return vectors, linear, numeric


def whole(layer: SlotLinear) -> Tensor:
    return torch.cat([layer.slot_weight, layer.numeric_weight], dim=1)


def pairs(v: Tensor) -> Tensor:
    return sum((v[i] @ v[j] for i in range(S) for j in range(i + 1, S)), torch.zeros((), dtype=v.dtype))


def layers(model: Mlp, h: Tensor) -> Tensor:
    """Everything after the first layer's product, for one example."""
    for part in model.rest:
        h = part.weight @ h + part.bias if isinstance(part, torch.nn.Linear) else h.clamp(min=0)
    return h


def mlp(model: Mlp, x: Tensor) -> Tensor:
    return layers(model, whole(model.first) @ x + model.first.bias)


def check(model: Model, reference: list[Tensor]) -> None:
    vectors, linear, numeric = inputs()
    torch.testing.assert_close(model(Stacked(vectors), linear, numeric), torch.stack(reference), rtol=1e-10, atol=1e-10)


def test_fm_is_rendle_equation_1():
    model = make("fm")
    part = model.first_order
    check(
        model,
        [part.bias + w.sum() + part.numeric_weight @ x + pairs(v) for v, w, x in zip(*inputs(), strict=True)],
    )


def test_deepfm_is_fm_plus_dense_network():
    model = make("deepfm")
    numeric_weight = model.first_order.numeric_weight
    check(
        model,
        [
            w.sum() + numeric_weight @ x + pairs(v) + mlp(model.deep, torch.cat([v.flatten(), x]))
            for v, w, x in zip(*inputs(), strict=True)
        ],
    )


def test_wide_and_deep_is_first_order_plus_dense_network():
    model = make("widedeep")
    check(
        model,
        [
            w.sum() + model.wide.numeric_weight @ x + mlp(model.deep, torch.cat([v.flatten(), x]))
            for v, w, x in zip(*inputs(), strict=True)
        ],
    )


@pytest.mark.parametrize("hidden", [HIDDEN, ()])
def test_dnn_is_the_dense_network(hidden):
    model = make("dnn", hidden=hidden)
    check(model, [mlp(model.deep, torch.cat([v.flatten(), x])) for v, _, x in zip(*inputs(), strict=True)])


@pytest.mark.parametrize("product", ["inner", "outer"])
def test_pnn_feeds_products_to_the_first_layer(product):
    model = make("pnn", product=product)
    reference = []
    for v, _, x in zip(*inputs(), strict=True):
        if product == "inner":
            products = [v[i] @ v[j] for i in range(S) for j in range(i + 1, S)]
        else:
            # the paper's p = sum over all pairs of v_i v_j^T, of which the upper half is weighed
            p = sum(torch.outer(v[i], v[j]) for i in range(S) for j in range(S))
            products = [p[a, b] for a in range(D) for b in range(a, D)]
        z = whole(model.first) @ torch.cat([v.flatten(), x]) + model.first.bias
        reference.append(layers(model, z + model.product.weight @ torch.stack(products)))
    check(model, reference)


@pytest.mark.parametrize("hidden", [HIDDEN, ()])
def test_dcn_is_the_recursion_of_wang_2017(hidden):
    model = make("dcn", hidden=hidden)
    reference = []
    for v, _, x in zip(*inputs(), strict=True):
        start = torch.cat([v.flatten(), x])
        crossed = start
        for weight, bias in zip(whole(model.cross), model.cross_bias, strict=True):
            crossed = start * (crossed @ weight) + bias + crossed
        logit = whole(model.cross_out) @ crossed + model.bias
        reference.append(logit + model.out.weight @ mlp(model.deep, start) if hidden else logit)
    check(model, reference)


@pytest.mark.parametrize("hidden", [HIDDEN, ()])
def test_dcnv2_is_the_recursion_of_wang_2021(hidden):
    model = make("dcnv2", hidden=hidden)
    reference = []
    for v, _, x in zip(*inputs(), strict=True):
        start = torch.cat([v.flatten(), x])
        crossed = start * (whole(model.cross_first) @ start + model.cross_first.bias) + start
        for layer in model.cross_rest:
            crossed = start * (layer.weight @ crossed + layer.bias) + crossed
        features = torch.cat([crossed, mlp(model.deep, start)]) if hidden else crossed
        reference.append(model.out.weight @ features + model.out.bias)
    check(model, reference)
