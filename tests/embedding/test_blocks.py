"""Laws of frequency blocks: what a batch reads and how gradients come back, whatever the cut of the rows."""

import pytest
import torch

from autodim.data.batch import Bag, Batch
from autodim.embedding.grow import grow_weights, grown_layout
from autodim.embedding.layout import Block, Layout, Slot, Table, uniform_layout
from autodim.embedding.tables import Tables
from autodim.optim.hessian import row_blocks
from autodim.training.network import Network
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
        ids=torch.tensor([[1, 2, 0], [0, 6, 2], [4, 2, 2], [3, 0, 1]], dtype=torch.int32),
        numeric=torch.zeros(4, 0),
        labels=torch.zeros(4, 1),
        bags={
            "tags": Bag(torch.tensor([1, 1, 5, 0, 2], dtype=torch.int32), torch.tensor([0, 2, 2, 3, 5])),
            "likes": Bag(torch.tensor([2, 3, 2, 6, 6], dtype=torch.int32), torch.tensor([0, 1, 3, 4, 5])),
        },
    )


def cut(widths: dict[str, list[tuple[int, int]]], bias: bool) -> Layout:
    """`widths`: per table its blocks as (stop, width)."""
    blocks = []
    for table in TABLES:
        start = 0
        for stop, width in widths.get(table.name, [(table.rows, D)]):
            narrow = width < D
            blocks.append(Block(table.name, start, stop, width, projected=0 < width < D, bias=bias and narrow))
            start = stop
    return Layout(D, SLOTS, TABLES, tuple(blocks))


def drawn(layout: Layout, linear: bool = True) -> Tables:
    tables = Tables(layout, linear=linear)
    source = generator(0)
    with torch.no_grad():
        for parameter in tables.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=source))
    return tables


def expected(tables: Tables, full: dict[str, torch.Tensor]) -> torch.Tensor:
    """B x S x D with every row widened by hand: row @ projection + offset; differentiable by `full` (per block)."""
    example, out, columns = batch(), [], iter(range(3))
    for position, slot in enumerate(SLOTS):
        rows = []
        for k, block in enumerate(tables.layout.blocks):
            if block.table != slot.table:
                continue
            own = tables.read_block(block)
            wide = full[str(k)] @ own["projection"] if "projection" in own else full[str(k)]
            rows.append(wide if f"offset/{slot.name}" not in own else wide + own[f"offset/{slot.name}"])
        table = torch.cat(rows)
        if slot.multi:
            bag = example.bags[slot.name]
            found = []
            for start, stop in zip(bag.offsets[:-1], bag.offsets[1:], strict=True):
                total = table[bag.values[start:stop].long()].sum(0)
                found.append(total / max(int(stop - start), 1) if slot.pooling == "mean" else total)
            vector = torch.stack(found)
        else:
            vector = table[example.ids[:, next(columns)].long()]
        bias = tables.slot_bias()
        out.append(vector if bias is None else vector + bias[position])
    return torch.stack(out, dim=1)


CUTS = [
    {"a": [(2, 4), (5, 2)]},
    {"a": [(1, 3), (3, 2), (5, 0)], "b": [(3, 4), (7, 1)]},
    {"tags": [(2, 2), (6, 2)], "b": [(1, 2), (4, 0), (7, 2)], "c": [(3, 0)]},
    {"tags": [(1, 0), (6, 0)], "a": [(2, 0), (5, 0)], "b": [(7, 0)], "c": [(3, 0)]},
    {"a": [(2, 4), (5, 4)], "b": [(2, 2), (7, 3)], "c": [(1, 1), (3, 1)]},
]


@pytest.mark.parametrize("widths", CUTS)
@pytest.mark.parametrize("bias", [False, True])
def test_blocks_read_and_learn_as_one_widened_table(widths, bias):
    tables = drawn(cut(widths, bias))
    full = {}
    for k, block in enumerate(tables.layout.blocks):
        weight = tables.read_block(block).get("weight", torch.zeros(block.rows, D))
        full[str(k)] = weight.clone().requires_grad_()
    example = batch()
    lookup = tables.lookup(example, learn=True)
    vectors, _ = lookup.inputs()
    wanted = expected(tables, full)
    torch.testing.assert_close(vectors.stack(), wanted, rtol=1e-5, atol=1e-5)
    map_ = torch.randn(2, len(SLOTS) * D, generator=generator(2))
    torch.testing.assert_close(vectors.linear(map_), wanted.flatten(1) @ map_.T, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(vectors.total(), wanted.sum(1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(vectors.squares(), wanted.square().sum((1, 2)), rtol=1e-4, atol=1e-4)

    if not any(b.width for b in tables.layout.blocks):
        return  # nothing to learn
    target = torch.randn(wanted.shape, generator=generator(1))
    loss = (vectors.stack() * target).sum() + vectors.linear(map_).square().sum()
    lookup.assign(torch.autograd.grad(loss, lookup.leaves, allow_unused=True))
    loss = (wanted * target).sum() + (wanted.flatten(1) @ map_.T).square().sum()
    gradients = torch.autograd.grad(loss, list(full.values()), allow_unused=True)
    for block, gradient in zip(tables.layout.blocks, gradients, strict=True):
        if block.width == 0:
            continue
        group = tables.group_of(block)
        assert group.weight.grad.is_coalesced()
        found = group.weight.grad.to_dense()[group.rows_of(block)]
        torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("widths", CUTS)
def test_first_order_terms_do_not_feel_the_cut(widths):
    whole, parts = drawn(uniform_layout(SLOTS, TABLES, D)), Tables(cut(widths, True), linear=True)
    with torch.no_grad():
        for block in parts.layout.blocks:
            group = parts.group_of(block)
            group.linear[group.rows_of(block), 0] = whole.read(block.table)["linear"][block.start : block.stop]
    one, other = (t.lookup(batch(), learn=True) for t in (whole, parts))
    torch.testing.assert_close(other.inputs()[1], one.inputs()[1])
    for lookup in (one, other):
        (lookup.inputs()[1] * torch.arange(20.0).view(4, 5)).sum().backward()
        lookup.assign([leaf.grad for leaf in lookup.leaves])
    for block in parts.layout.blocks:
        group = parts.group_of(block)
        base = whole.groups[0]
        at = base.rows_of(whole.layout.blocks_of(block.table)[0]).start
        wanted = base.linear.grad.to_dense()[at + block.start : at + block.stop]
        torch.testing.assert_close(group.linear.grad.to_dense()[group.rows_of(block)], wanted)


def test_blocks_at_full_width_are_the_uniform_tables():
    whole = drawn(uniform_layout(SLOTS, TABLES, D))
    parts = Tables(cut({"a": [(2, 4), (5, 4)], "tags": [(3, 4), (6, 4)], "b": [(1, 4), (7, 4)]}, False), linear=True)
    with torch.no_grad():  # blocks lie one after the other, so the tensors are the same
        parts.groups[0].weight.copy_(whole.groups[0].weight)
        parts.groups[0].linear.copy_(whole.groups[0].linear)
    one, other = whole.lookup(batch()).inputs(), parts.lookup(batch()).inputs()
    assert torch.equal(one[0].stack()[:, [0, 2, 4]], other[0].stack()[:, [0, 2, 4]])  # one id each: to the bit
    torch.testing.assert_close(one[0].stack(), other[0].stack())
    torch.testing.assert_close(one[1], other[1])


def test_spread_moves_only_the_vectors_of_held_ids():
    tables = drawn(cut({"a": [(2, 2), (5, 2)], "tags": [(3, 2), (6, 2)], "b": [(7, 0)], "c": [(3, 0)]}, False), False)
    lookup = tables.lookup(batch())
    (part,) = lookup.groups
    move = torch.randn(len(part.unique.rows), 2, generator=generator(4))
    before = part.vectors.clone()
    with torch.no_grad():
        part.group.weight[part.unique.rows] += move
    torch.testing.assert_close(tables.lookup(batch()).groups[0].vectors - before, part.spread(move))


def test_only_held_ids_are_rows_of_a_batch():
    tables = drawn(cut({"a": [(2, 2), (5, 1)]}, False), False)
    rows = {g.group.width: g.unique.rows.tolist() for g in tables.lookup(batch()).groups}
    assert rows[2] == [0, 1] and rows[1] == [1, 2]  # ids 0, 1 and ids 3, 4


def test_a_batch_that_a_block_does_not_hold_at_all():
    tables = drawn(cut({"a": [(4, 2), (5, 1)], "tags": [(5, 2), (6, 1)]}, True))
    example = batch()
    some = Batch(
        torch.tensor([[1, 2, 0]], dtype=torch.int32),
        example.numeric[:1],
        example.labels[:1],
        {n: Bag(torch.zeros(0, dtype=torch.int32), torch.zeros(2, dtype=torch.int64)) for n in example.bags},
    )
    lookup = tables.lookup(some, learn=True)
    vectors, linear = lookup.inputs()
    lookup.assign(torch.autograd.grad(vectors.stack().sum() + linear.sum(), lookup.leaves))
    assert not vectors.stack()[0, 1].any()  # an empty bag reads as zero: offsets count by ids
    for part in lookup.groups:
        if part.group.width == 1:
            assert part.group.weight.grad._nnz() == 0


def test_the_hessian_view_refuses_tables_in_blocks():
    network = Network(drawn(cut({"a": [(2, 2), (5, 1)]}, False), False), torch.nn.Identity())
    with pytest.raises(ValueError, match="blocks of rows"):
        row_blocks(network, [batch()], "a")


@pytest.mark.parametrize("spans", [[(0, 2)], [(0, 2), (3, 5)], [(2, 5), (0, 2)]])
def test_blocks_cover_their_table(spans):
    blocks = tuple(Block("a", start, stop, D) for start, stop in spans)
    with pytest.raises(ValueError, match="table a"):
        Tables(Layout(D, SLOTS[:1], TABLES[:1], blocks))


def test_the_offset_of_a_block_counts_where_all_that_is_stored_is_one_plain_tensor():
    """Every slot stands in one group, in order and unprojected; the ids of a dropped block read its constant."""
    slots, tables = (Slot("a", "a"), Slot("b", "b")), (Table("a", 5), Table("b", 3))
    blocks = (Block("a", 0, 2, D), Block("a", 2, 5, 0, bias=True), Block("b", 0, 3, D))
    made = drawn(Layout(D, slots, tables, blocks), linear=False)
    found = Batch(torch.tensor([[1, 2], [4, 1]], dtype=torch.int32), torch.zeros(2, 0), torch.zeros(2, 1), {})
    vectors = made.lookup(found).inputs()[0].stack()
    assert torch.equal(vectors[0, 0], made.read_block(blocks[0])["weight"][1])
    assert torch.equal(vectors[1, 0], made.read_block(blocks[1])["offset/a"])


CUT = {"a": [(2, D), (5, 2)], "tags": [(3, 3), (6, 0)], "b": [(2, 2), (5, 3), (7, 1)]}


def test_the_last_block_grows_and_old_ids_read_what_they_read():
    old = drawn(cut(CUT, bias=True))
    longer = tuple(Table(t.name, t.rows + 2) for t in TABLES)
    layout = grown_layout(old.layout, longer)
    new = Tables(layout, linear=True)
    new.load_state_dict({**new.state_dict(), **grow_weights(old, new)})
    one, other = (t.lookup(batch()).inputs() for t in (old, new))
    assert torch.equal(one[0].stack(), other[0].stack()) and torch.equal(one[1], other[1])
    edges = {t.name: [(b.start, b.stop) for b in layout.blocks_of(t.name)] for t in longer}
    assert edges["b"] == [(0, 2), (2, 5), (5, 9)] and edges["c"] == [(0, 5)]


def test_a_new_row_of_a_block_is_the_nearest_to_the_unknown_id():
    """No other row of the block reads nearer to what row 0 gives; where the table is one block it is row 0."""
    old = drawn(cut(CUT, bias=True))
    layout = grown_layout(old.layout, tuple(Table(t.name, t.rows + 2) for t in TABLES))
    new = Tables(layout, linear=True)
    new.load_state_dict({**new.state_dict(), **grow_weights(old, new)})
    example = batch()

    def read(tables, column, value):
        ids = torch.zeros(1, 3, dtype=torch.int32)
        ids[0, column] = value
        one = Batch(ids, example.numeric[:1], example.labels[:1], {k: empty for k in example.bags})
        vectors, linear = tables.lookup(one).inputs()
        position = [s.name for s in SLOTS].index("abc"[column])
        return vectors.stack()[0, position], linear[0, position]

    empty = Bag(torch.zeros(0, dtype=torch.int32), torch.tensor([0, 0]))
    for column, table in enumerate(("a", "b", "c")):
        block = layout.blocks_of(table)[-1]
        (wanted, first), (found, own) = read(new, column, 0), read(new, column, block.stop - 1)
        assert own == first  # the first-order weight is row 0's
        if table == "c":
            assert torch.equal(found, wanted)
            continue
        if table == "a":  # one reader: the rest is orthogonal to all that the block can say
            projection = new.read_block(block)["projection"]
            torch.testing.assert_close(projection @ (wanted - found), torch.zeros(block.width), atol=1e-4, rtol=0)
            assert float((wanted - found).detach().norm()) > 0.1
