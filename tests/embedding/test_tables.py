"""Laws of the tables: sparse gradients equal autograd's dense ones, and mixed widths equal the masked uniform model."""

import pytest
import torch

from autodim.data.batch import Bag, Batch
from autodim.embedding.layout import Block, Layout, Slot, Table, uniform_layout
from autodim.embedding.rows import unique_rows
from autodim.embedding.tables import Tables
from autodim.training.seeds import generator

D = 4
SLOTS = (
    Slot("a", "a"),
    Slot("tags", "tags", multi=True, pooling="mean"),
    Slot("b", "b"),
    Slot("likes", "b", multi=True, pooling="sum"),
    Slot("c", "c"),
)
TABLES = (Table("a", 5), Table("tags", 6), Table("b", 7), Table("c", 3))


def batch() -> Batch:
    return Batch(
        ids=torch.tensor([[1, 2, 0], [1, 6, 2], [4, 2, 2]], dtype=torch.int32),
        numeric=torch.zeros(3, 0),
        labels=torch.zeros(3, 1),
        bags={
            "tags": Bag(torch.tensor([1, 1, 5], dtype=torch.int32), torch.tensor([0, 2, 2, 3])),
            "likes": Bag(torch.tensor([2, 3, 2, 6], dtype=torch.int32), torch.tensor([0, 1, 3, 4])),
        },
    )


def layout(widths: dict[str, int], bias: bool = False) -> Layout:
    blocks = [
        Block(t.name, 0, t.rows, widths[t.name], projected=0 < widths[t.name] < D, bias=bias and widths[t.name] < D)
        for t in TABLES
    ]
    return Layout(D, SLOTS, TABLES, tuple(blocks))


def reference(tables: Tables, batch: Batch, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """B x S x D by plain indexing, differentiable by the tables' full weights."""
    out = []
    columns = iter(range(3))
    for position, slot in enumerate(SLOTS):
        weight = weights.get(slot.table)
        if weight is None:
            vector = torch.zeros(len(batch), D)
            if not slot.multi:
                next(columns)
        elif slot.multi:
            bag = batch.bags[slot.name]
            rows = []
            for start, stop in zip(bag.offsets[:-1], bag.offsets[1:], strict=True):
                part = weight[bag.values[start:stop].long()]
                total = part.sum(0)
                rows.append(total / max(int(stop - start), 1) if slot.pooling == "mean" else total)
            vector = torch.stack(rows)
        else:
            vector = weight[batch.ids[:, next(columns)].long()]
        projection = tables.read(slot.table).get("projection")
        vector = vector if projection is None else vector @ projection
        bias = tables.slot_bias()
        out.append(vector if bias is None else vector + bias[position])
    return torch.stack(out, dim=1)


@pytest.mark.parametrize("widths", [(4, 4, 4, 4), (2, 4, 3, 2), (0, 2, 2, 1), (0, 0, 4, 0), (1, 0, 1, 0)])
@pytest.mark.parametrize("bias", [False, True])
def test_lookup_and_sparse_gradients_equal_autograd(widths, bias):
    tables = Tables(layout(dict(zip(["a", "tags", "b", "c"], widths, strict=True)), bias), linear=True)
    tables.initialise(1.0, generator(0))
    if tables.bias is not None:
        torch.nn.init.normal_(tables.bias)
    weights = {
        t.name: tables.read(t.name)["weight"].clone().requires_grad_()
        for t in TABLES
        if "weight" in tables.read(t.name)
    }
    example = batch()
    lookup = tables.lookup(example, learn=True)
    vectors, linear = lookup.inputs()
    target = torch.randn(3, len(SLOTS), D, generator=generator(1))
    map_ = torch.randn(2, len(SLOTS) * D, generator=generator(2))
    expected = reference(tables, example, weights)
    torch.testing.assert_close(vectors.stack(), expected)
    torch.testing.assert_close(vectors.linear(map_), expected.flatten(1) @ map_.T, rtol=1e-5, atol=1e-5)
    assert linear is not None and linear.shape == (3, len(SLOTS))

    loss = (vectors.stack() * target).sum() + vectors.linear(map_).square().sum()
    lookup.assign(torch.autograd.grad(loss, lookup.leaves, allow_unused=True))
    wanted = (expected * target).sum() + (expected.flatten(1) @ map_.T).square().sum()
    gradients = torch.autograd.grad(wanted, list(weights.values())) if weights else ()
    for name, gradient in zip(weights, gradients, strict=True):
        block = tables.layout.blocks_of(name)[0]
        group = tables.group_of(block)
        assert group is not None and group.weight is not None and group.weight.grad is not None
        assert group.weight.grad.is_coalesced()
        torch.testing.assert_close(group.weight.grad.to_dense()[group.rows_of(block)], gradient, rtol=1e-4, atol=1e-4)


def test_linear_terms_come_back_in_slot_order():
    tables = Tables(layout({"a": 2, "tags": 4, "b": 0, "c": 3}), linear=True)
    for number, table in enumerate(TABLES):
        group = tables.group_of(tables.layout.blocks_of(table.name)[0])
        with torch.no_grad():
            group.linear[group.rows_of(tables.layout.blocks_of(table.name)[0])] = number + 1.0
    _, linear = tables.lookup(batch()).inputs()
    # a, tags (mean; the second bag is empty), b, likes (sum of 1, 2, 1 ids of table b), c
    assert linear.tolist() == [[1, 2, 3, 3, 4], [1, 0, 3, 6, 4], [1, 2, 3, 3, 4]]


def test_spread_is_the_derivative_of_the_vectors_by_the_rows():
    tables = Tables(layout({"a": 2, "tags": 2, "b": 2, "c": 2}))
    tables.initialise(1.0, generator(3))
    example = batch()
    lookup = tables.lookup(example)
    part = lookup.groups[0]
    move = torch.randn(len(part.unique.rows), 2, generator=generator(4))
    before = part.vectors.clone()
    with torch.no_grad():
        part.group.weight[part.unique.rows] += move
    after = tables.lookup(example).groups[0].vectors
    torch.testing.assert_close(after - before, part.spread(move))


def test_unique_rows_group_sum_and_inverse():
    rows = torch.tensor([7, 2, 7, 7, 0, 2], dtype=torch.int32)
    unique = unique_rows(rows)
    assert unique.rows.tolist() == [0, 2, 7] and unique.counts.tolist() == [1, 2, 3]
    assert unique.rows[unique.inverse()].tolist() == rows.tolist()
    values = torch.arange(12.0).view(6, 2)
    assert unique.sum(values).tolist() == [[8, 9], [12, 14], [10, 13]]


def test_no_slots_at_all():
    tables = Tables(Layout(D, (), (), ()))
    empty = Batch(torch.zeros(3, 0, dtype=torch.int32), torch.ones(3, 2), torch.zeros(3, 1))
    vectors, linear = tables.lookup(empty, learn=True).inputs()
    assert vectors.stack().shape == (3, 0, D) and linear is None
    assert vectors.linear(torch.zeros(5, 0)).shape == (3, 5)


def test_a_uniform_layout_is_read_without_a_copy():
    slots, tables_ = SLOTS[::2][:1] + SLOTS[2:3], TABLES[:1] + TABLES[2:3]
    tables = Tables(uniform_layout(slots, tables_, D))
    lookup = tables.lookup(Batch(torch.tensor([[1, 2]]), torch.zeros(1, 0), torch.zeros(1, 1)))
    assert lookup.inputs()[0].stack() is lookup.leaves[0]
