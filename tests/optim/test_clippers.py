"""CowClip, AGC and norm clipping against published numbers, plain loops, and their laws."""

from __future__ import annotations

import copy

import pytest
import torch
from small_network import batch, counts, gradients, network, stepper, weights
from torch import nn

from autodim.optim.agc import AGC, agc
from autodim.optim.cowclip import CowClip, Scaled, cowclip, scale_for_batch
from autodim.optim.helen import Helen
from autodim.optim.norm_clip import NormClip, clip_global_norm_

SEED = 3


def test_cowclip_worked_cases():
    one = cowclip(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.3, 0.4]]), torch.tensor([2]), form="released")
    torch.testing.assert_close(one, torch.tensor([[0.6, 0.8]]))
    two = cowclip(torch.tensor([[0.003, 0.004]]), torch.zeros(1, 2), torch.tensor([1]), form="released")
    torch.testing.assert_close(two, torch.tensor([[8.485281e-6, 1.1313709e-5]]), rtol=1e-6, atol=0)


def test_the_papers_floor_is_zeta_itself():
    out = cowclip(torch.tensor([[0.003, 0.004]]), torch.zeros(1, 2), torch.tensor([3]), form="paper")
    torch.testing.assert_close(out, torch.tensor([[1.8e-5, 2.4e-5]]), rtol=1e-6, atol=0)


def test_agc_worked_case():
    out = agc(torch.tensor([[0.3, 0.4], [0.03, 0.04]]), torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    torch.testing.assert_close(out, torch.tensor([[0.03, 0.04], [6e-6, 8e-6]]), rtol=1e-6, atol=0)


def test_agc_takes_the_whole_norm_of_one_dimension():
    out = agc(torch.tensor([0.3, 0.4]), torch.tensor([3.0, 4.0]))
    torch.testing.assert_close(out, torch.tensor([0.03, 0.04]))
    assert agc(torch.tensor(2.0), torch.tensor(3.0)).item() == pytest.approx(0.03)


def test_norm_clip_worked_case():
    found = [torch.tensor([2.0, 4.0]), torch.tensor([4.0, 8.0])]
    norm = clip_global_norm_(found, 2.0)
    assert norm.item() == pytest.approx(10.0)
    torch.testing.assert_close(found[0], torch.tensor([0.4, 0.8]), rtol=1e-6, atol=0)
    torch.testing.assert_close(found[1], torch.tensor([0.8, 1.6]), rtol=1e-6, atol=0)
    assert clip_global_norm_([], 1.0).item() == 0


@pytest.mark.parametrize("form", ["paper", "released"])
@pytest.mark.parametrize("l2", [0.0, 0.03])
def test_cowclip_in_a_step_equals_a_loop_over_rows(form, l2):
    net, example = network(dropout=0.0), batch()
    start, found = weights(net), gradients(copy.deepcopy(net), example, SEED)
    clipper = CowClip(ratio=0.05, zeta=1e-3, form=form, l2=l2)
    stepper(net, clippers=(clipper,))(example, SEED)
    number, clipped, rows = counts(example), 0, 0
    tables = set()
    for i, group in enumerate(net.tables.groups):
        for kind in ("weight", "linear"):
            name = f"tables.groups.{i}.{kind}"
            if name not in found:
                continue
            tables.add(name)
            for block in group.blocks:
                where = group.rows_of(block)
                for k in range(block.rows):
                    g, w = found[name][where][k], start[name][where][k]
                    if number[block.table][k]:
                        g = g + l2 * w
                    floor = 1e-3 if form == "paper" else 0.05 * len(w) ** 0.5 * 1e-3
                    limit = number[block.table][k] * max(0.05 * float(w.norm()), floor)
                    factor = min(1.0, limit / max(float(g.norm()), 1e-30))
                    moved = start[name][where][k] - dict(net.named_parameters())[name].detach()[where][k]
                    torch.testing.assert_close(moved, g * factor, rtol=1e-4, atol=1e-6)
                    rows += number[block.table][k] > 0
                    clipped += number[block.table][k] > 0 and factor < 1
    assert 0 < clipped < rows and clipper.clipped.item() == pytest.approx(clipped / rows)
    for name, parameter in net.named_parameters():  # dense parameters are none of its business
        if name not in tables:
            torch.testing.assert_close(start[name] - parameter.detach(), found[name], rtol=1e-4, atol=1e-6)


def test_cowclips_l2_scale_is_per_row():
    # a constant scale of 3 is three times the penalty, and so is a scale that differs only outside the batch
    net, example = network(dropout=0.0), batch()
    twin = copy.deepcopy(net)
    scales = {}
    for group in twin.tables.groups:
        absent = torch.ones(sum(b.rows for b in group.blocks), dtype=torch.bool)
        for block in group.blocks:
            absent[group.rows_of(block)] = torch.tensor(counts(example)[block.table]) == 0
        for table in (group.weight, group.linear):
            if table is not None:
                scales[table] = torch.where(absent, 99.0, 3.0)
    stepper(net, clippers=(CowClip(0.05, 1e-3, l2=0.03),))(example, SEED)
    stepper(twin, clippers=(CowClip(0.05, 1e-3, l2=0.01, l2_scale=scales),))(example, SEED)
    for one, two in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_cowclip_scaling_rule():
    assert scale_for_batch(1, 1e-3, 1e-5, 2e-3) == Scaled(1e-3, 1e-5, 2e-3, 0.0)
    found = scale_for_batch(16, 1e-3, 1e-5, 2e-3)
    assert found == Scaled(1e-3, pytest.approx(1.6e-4), pytest.approx(8e-3), 1.0)
    with pytest.raises(ValueError, match="positive"):
        scale_for_batch(0, 1e-3, 1e-5, 2e-3)


def test_agc_in_a_step_equals_the_function_and_leaves_the_head_alone():
    net, example = network(dropout=0.0), batch()
    start, found = weights(net), gradients(copy.deepcopy(net), example, SEED)
    named = dict(net.named_parameters())
    head = [k for k in named if k.startswith("model.deep.rest")][-2:]
    clipper = AGC(0.05, exclude=[named[k] for k in head])
    stepper(net, clippers=(clipper,))(example, SEED)
    changed = 0
    for name, parameter in named.items():
        expected = found[name] if name in head else agc(found[name], start[name], 0.05)
        torch.testing.assert_close(start[name] - parameter.detach(), expected, rtol=1e-4, atol=1e-6)
        changed += name not in head and not torch.allclose(expected, found[name])
    assert changed > 5 and 0 < clipper.clipped.item() < 1


@pytest.mark.parametrize("most", [0.01, 1e6])
def test_norm_clip_in_a_step_takes_tables_and_dense_together(most):
    net, example = network(dropout=0.0), batch()
    start, found = weights(net), gradients(copy.deepcopy(net), example, SEED)
    clipper = NormClip(most)
    stepper(net, clippers=(clipper,))(example, SEED)
    norm = torch.cat([g.flatten() for g in found.values()]).norm()
    assert clipper.norm.item() == pytest.approx(norm.item(), rel=1e-5)
    for name, parameter in net.named_parameters():
        expected = found[name] * min(1.0, most / (float(norm) + 1e-6))
        torch.testing.assert_close(start[name] - parameter.detach(), expected, rtol=1e-3, atol=2e-7)


def test_norm_clip_equals_torch():
    one = [nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(5))]
    for p in one:
        p.grad = torch.randn_like(p)
    two = [copy.deepcopy(p) for p in one]
    for p, q in zip(one, two, strict=True):
        q.grad = p.grad.clone()
    NormClip(0.3).clip([], one)
    torch.nn.utils.clip_grad_norm_(two, 0.3)
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(one, two, strict=True))


@pytest.mark.parametrize("clipper", [AGC(1e-3), NormClip(0.01)])
def test_repeated_rows_of_torchs_own_embedding_are_summed_first(clipper):
    embedding = nn.Embedding(9, 3, sparse=True)
    other = nn.Embedding(9, 3, _weight=embedding.weight.detach().clone())
    for e in (embedding, other):
        e(torch.tensor([1, 4, 4, 8, 4])).square().sum().backward()
        clipper.clip([e.weight], [])
    torch.testing.assert_close(embedding.weight.grad.to_dense(), other.weight.grad)


def test_clippers_and_perturbation_compose_in_order():
    net, example = network(), batch()
    start = weights(net)
    norm = NormClip(1e-3)
    stepper(net, Helen(0.1), (CowClip(), AGC(), norm))(example, SEED)
    moved = torch.cat([(start[k] - p.detach()).flatten() for k, p in net.named_parameters()]).norm()
    assert moved.item() == pytest.approx(1e-3, rel=1e-2)


def test_impossible_options_are_refused():
    for make in (lambda: CowClip(ratio=0), lambda: CowClip(form="x"), lambda: AGC(clip=0), lambda: NormClip(0)):
        with pytest.raises(ValueError, match="positive"):
            make()
