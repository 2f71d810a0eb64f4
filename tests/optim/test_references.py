"""Agreement with other libraries on dense problems: timm's AGC, pytorch_optimizer's SAM, torch's Adagrad and Adam."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from autodim.optim.adagrad import Adagrad
from autodim.optim.agc import AGC, agc
from autodim.optim.clippy import ClippyAdagrad, ClippyAdam, ClippyMode
from autodim.optim.lazy_adam import LazyAdam
from autodim.optim.sam import SAM
from autodim.optim.two_pass import TwoPass

LOOSE = ClippyMode(relative=1e6, absolute=1e6)  # limits that never bind


def timm_agc():
    """timm's own function, from its file: the package itself imports torchvision, which nothing here needs."""
    found = importlib.util.find_spec("timm")
    if found is None or found.origin is None:
        pytest.skip("timm is not installed (pip install --no-deps timm; its own dependencies bring torchvision)")
    spec = importlib.util.spec_from_file_location("timm_agc", Path(found.origin).parent / "utils" / "agc.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.adaptive_clip_grad


@pytest.mark.parametrize("shape", [(5, 7), (9,), (4, 3, 2), (1, 6)])
@pytest.mark.parametrize("size", [1e-3, 1.0, 100.0])
def test_agc_is_timms(shape, size):
    torch.manual_seed(0)
    reference = timm_agc()
    parameter = nn.Parameter(torch.randn(shape))
    with torch.no_grad():
        parameter[0] = 0  # weights below eps
    gradient = size * torch.randn(shape)
    ours = agc(gradient, parameter.detach(), clip=0.01, eps=1e-3)
    parameter.grad = gradient.clone()
    reference([parameter], clip_factor=0.01, eps=1e-3)
    torch.testing.assert_close(ours, parameter.grad, rtol=1e-6, atol=1e-9)
    clipper = nn.Parameter(parameter.detach().clone())
    clipper.grad = gradient.clone()
    AGC(0.01, 1e-3).clip([], [clipper])
    torch.testing.assert_close(clipper.grad, parameter.grad, rtol=1e-6, atol=1e-9)


def problem(seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    x, y = torch.randn(40, 6).double(), torch.randn(40, 1).double()
    return net, lambda: nn.functional.mse_loss(net(x), y)


def trained(make, steps=60):
    net, loss = problem()
    optimizer = make(net)
    for _ in range(steps):

        def closure():
            optimizer.zero_grad()
            value = loss()
            value.backward()
            return value

        optimizer.step(closure)
    return torch.cat([p.detach().flatten() for p in net.parameters()])


@pytest.mark.parametrize("rho", [0.05, 0.5])
def test_sam_is_that_of_pytorch_optimizer(rho):
    reference = pytest.importorskip("pytorch_optimizer")
    ours = trained(lambda net: TwoPass(torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9), SAM(rho)))

    net, loss = problem()
    theirs = reference.SAM(net.parameters(), torch.optim.SGD, rho=rho, lr=0.05, momentum=0.9)
    for _ in range(60):
        loss().backward()
        theirs.first_step(zero_grad=True)
        loss().backward()
        theirs.second_step(zero_grad=True)
    expected = torch.cat([p.detach().flatten() for p in net.parameters()])
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-7)  # 60 steps of two roundings
    plain = trained(lambda net: torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9))
    assert (ours - plain).abs().max() > 1e-3  # the second pass matters


PAIRS = {
    "adagrad": (lambda p: Adagrad(p, lr=0.1), lambda p: torch.optim.Adagrad(p, lr=0.1)),
    "adam": (lambda p: LazyAdam(p, lr=0.01), lambda p: torch.optim.Adam(p, lr=0.01)),
    "clippy on adagrad": (
        lambda p: ClippyAdagrad(p, lr=0.1, initial=0.1, mode=LOOSE),
        lambda p: torch.optim.Adagrad(p, lr=0.1, initial_accumulator_value=0.1, eps=0),
    ),
    "clippy on adam": (lambda p: ClippyAdam(p, lr=0.01, mode=LOOSE), lambda p: torch.optim.Adam(p, lr=0.01)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_rules_are_torchs_own_where_every_row_has_a_gradient(name):
    ours, theirs = (trained(lambda net, make=make: make(list(net.parameters()))) for make in PAIRS[name])
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
