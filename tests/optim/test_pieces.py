"""A batch in pieces is the whole batch: gradients, counts of second passes, clippers, rows; dropout replayed."""

import pytest
import small_network as small
import torch

from autodim.optim.agc import AGC
from autodim.optim.asam import ASAM
from autodim.optim.cowclip import CowClip
from autodim.optim.helen import Helen
from autodim.optim.norm_clip import NormClip
from autodim.optim.sam import SAM
from autodim.training.pieces import spans
from autodim.training.step import Step

METHODS = {
    "plain": lambda: (None, ()),
    "sam": lambda: (SAM(0.3), ()),
    "asam": lambda: (ASAM(0.3), ()),
    "helen": lambda: (Helen(0.3), ()),
    "helen_none": lambda: (Helen(0.3, dense="none"), ()),
    "helen_ema": lambda: (Helen(0.3, frequency="ema"), ()),
    "clippers": lambda: (None, (CowClip(ratio=0.1), AGC(), NormClip(0.5))),
    "all": lambda: (Helen(0.3, norm_scope="global", dense="global"), (AGC(0.1), NormClip(0.1))),
}


def after(pieces, method, missing=False, steps=2, bf16=False):
    net = small.network(dropout=0.0, batch_norm=False)
    step = small.stepper(net, *METHODS[method](), lr=0.1)
    step = Step(net, step.optimizers, None, step.perturbation, step.clippers, missing, bf16, pieces)
    found = []
    for number in range(steps):
        example = small.batch(number)
        if missing:
            example.labels[::3, 0] = torch.nan
        found.append(step(example, number))
    return small.weights(net), torch.stack(found)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pieces", [2, 5])
def test_pieces_make_the_same_update_as_the_whole_batch(method, pieces):
    whole, losses = after(1, method)
    cut, cut_losses = after(pieces, method)
    torch.testing.assert_close(cut_losses, losses, rtol=1e-5, atol=1e-6)
    for name, tensor in whole.items():
        torch.testing.assert_close(cut[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("method", ["plain", "helen"])
def test_labels_that_are_missing_weigh_as_in_the_whole_batch(method):
    whole, losses = after(1, method, missing=True)
    cut, cut_losses = after(3, method, missing=True)
    torch.testing.assert_close(cut_losses, losses, rtol=1e-5, atol=1e-6)
    for name, tensor in whole.items():
        torch.testing.assert_close(cut[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("method", ["plain", "sam", "helen"])
def test_exactly_the_same_rows_are_touched(method):
    start = small.weights(small.network(dropout=0.0, batch_norm=False))
    whole, cut = after(1, method, steps=1)[0], after(4, method, steps=1)[0]
    untouched = 0
    for name in (k for k in start if k.startswith("tables.groups") and k.endswith(("weight", "linear"))):
        touched = [(w != start[name]).any(1) for w in (whole[name], cut[name])]
        assert torch.equal(*touched), name
        untouched += int((~touched[0]).sum())
    assert untouched


def test_both_passes_draw_the_same_dropout():
    # with rho 0 the second pass stands where the first stood, so only another mask could change the update
    def run(perturbation):
        net = small.network(dropout=0.5, batch_norm=False)
        step = small.stepper(net, perturbation)
        Step(net, step.optimizers, perturbation=perturbation, pieces=3)(small.batch(), 5)
        return small.weights(net)

    plain, second = run(None), run(Helen(0.0))
    assert all(torch.equal(tensor, second[name]) for name, tensor in plain.items())


@pytest.mark.parametrize("method", ["plain", "sam", "helen"])
def test_pieces_agree_with_the_whole_batch_in_bfloat16_as_well_as_it_does_with_float32(method):
    exact = after(1, method, steps=1)[0]
    whole, cut = after(1, method, steps=1, bf16=True)[0], after(3, method, steps=1, bf16=True)[0]
    for name, tensor in exact.items():
        scale = tensor.float().abs().max().clamp(min=1)
        assert (whole[name] - tensor).abs().max() / scale < 0.03, name
        assert (cut[name] - whole[name]).abs().max() / scale < 0.03, name
    assert any(not torch.equal(whole[k], exact[k]) for k in exact)  # bfloat16 was really on


def test_a_weighting_that_is_not_a_sum_of_pieces_is_refused():
    class Largest:
        def gradients(self, losses, targets, lookup):
            return list(torch.autograd.grad(losses.max(), targets))

    net = small.network()
    with pytest.raises(ValueError, match="Largest"):
        Step(net, [], weighting=Largest(), pieces=2)
    with pytest.raises(ValueError, match="at least 1"):
        Step(net, [], pieces=0)


def test_spans_cover_every_row_once_with_lengths_that_differ_by_one():
    for rows, pieces in ((12, 5), (7, 3), (8, 8)):
        found = spans(rows, pieces)
        assert [r for s in found for r in range(s.start, s.stop)] == list(range(rows))
        sizes = {s.stop - s.start for s in found}
        assert max(sizes) - min(sizes) <= 1 and len(found) == pieces
