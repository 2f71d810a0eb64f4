"""FM's pairs beside another reader of the same vectors, and sums that narrow vectors answer without being widened."""

import torch

from autodim.embedding.vectors import Concatenated, Stacked
from autodim.models.fm import pair_sum, pairs


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_gradients_of_both_readers_arrive_to_the_second_order():
    weight = draw(4, 3, seed=1)

    def both(vectors: torch.Tensor) -> torch.Tensor:
        value, slots = pairs(Stacked(vectors))
        return value.sin() + (slots.stack().cos() * weight).sum((1, 2))

    vectors = draw(5, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(both, vectors)
    assert torch.autograd.gradgradcheck(both, vectors)


def test_sums_of_narrow_vectors_equal_those_of_the_stack():
    narrow, wide, bias = draw(6, 2, 1), draw(6, 1, 3, seed=1), draw(4, 3, seed=2)
    groups = [(narrow, draw(2, 1, 3, seed=3), [3, 1]), (wide, None, [0])]  # slot 2 is its bias alone
    for constant in (None, bias):
        slots = Concatenated(groups, constant, 6, 4, 3, wide)
        stack = slots.stack()
        torch.testing.assert_close(slots.total(), stack.sum(1))
        torch.testing.assert_close(slots.squares(), stack.square().sum((1, 2)))
        torch.testing.assert_close(pairs(slots)[0], pair_sum(stack))
        start = draw(6, 5, seed=4)
        weight = draw(5, 12, seed=5)
        torch.testing.assert_close(slots.linear(weight, start), stack.flatten(1) @ weight.T + start)
        torch.testing.assert_close(slots.linear(weight, start[0]), stack.flatten(1) @ weight.T + start[0])
