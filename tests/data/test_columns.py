"""Batches of columns, and the order of rows."""

import numpy as np
import pytest
import torch

from autodim.data import batches
from autodim.data.batches import Order, sequential
from autodim.data.columns import Columns


def columns(rows: int = 50) -> Columns:
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 4, rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Columns.from_arrays(
        rng.integers(0, 9, (rows, 3)),
        rng.normal(size=(rows, 2)),
        rng.integers(0, 2, (rows, 1)),
        {"bag": (rng.integers(0, 9, offsets[-1]), offsets)},
        ("a", "b", "c"),
    )


def test_a_batch_holds_the_rows_asked_for():
    data = columns()
    values, offsets = data.bags["bag"]
    rows = torch.tensor([7, 3, 3, 49, 0])
    batch = data.batch(rows)
    assert torch.equal(batch.ids, data.ids[rows])
    assert torch.equal(batch.numeric, data.numeric[rows])
    assert torch.equal(batch.labels, data.labels[rows])
    bag = batch.bags["bag"]
    for i, row in enumerate(rows):
        expected = values[offsets[row] : offsets[row + 1]]
        assert torch.equal(bag.values[bag.offsets[i] : bag.offsets[i + 1]], expected)
    assert int(bag.offsets[-1]) == len(bag.values)


@pytest.mark.parametrize("rows", [slice(0, 50), slice(10, 20), slice(40, 999), slice(5, 5)])
def test_a_slice_is_the_same_as_its_rows(rows):
    data = columns()
    cut, gathered = data.batch(rows), data.batch(torch.arange(50)[rows])
    assert torch.equal(cut.ids, gathered.ids)
    assert torch.equal(cut.bags["bag"].values, gathered.bags["bag"].values)
    assert torch.equal(cut.bags["bag"].offsets, gathered.bags["bag"].offsets)


def test_absent_arrays_are_empty_columns():
    data = Columns.from_arrays(np.zeros((4, 2), int))
    assert data.numeric.shape == (4, 0)
    assert data.labels.isnan().all()
    assert len(data) == 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_batches_on_the_gpu_equal_those_on_the_cpu():
    data, rows = columns(), torch.tensor([4, 4, 0, 31])
    plain = data.batch(rows)
    for batch in (data.batch(rows, "cuda"), data.to("cuda").batch(rows), data.to("cuda").batch(rows.cuda())):
        assert batch.ids.device.type == "cuda"
        assert torch.equal(batch.ids.cpu(), plain.ids)
        assert torch.equal(batch.bags["bag"].values.cpu(), plain.bags["bag"].values)
        assert torch.equal(batch.bags["bag"].offsets.cpu(), plain.bags["bag"].offsets)


@pytest.fixture(params=["full", "blocks"])
def kind(request, monkeypatch):
    if request.param == "blocks":
        monkeypatch.setattr(batches, "FULL", 10)
        monkeypatch.setattr(batches, "BLOCK", 8)
        monkeypatch.setattr(batches, "GROUP", 4)
    return request.param


@pytest.mark.parametrize(("rows", "batch"), [(1000, 64), (1003, 64), (97, 1000), (256, 32), (101, 1)])
def test_an_epoch_visits_every_row_once(kind, rows, batch):
    order = Order(rows, batch, seed=1)
    steps = [order.rows(0, step) for step in range(order.steps_per_epoch)]
    assert [len(s) for s in steps[:-1]] == [batch] * (len(steps) - 1)
    assert torch.equal(torch.cat(steps).sort().values, torch.arange(rows))
    assert not torch.equal(torch.cat(steps), torch.arange(rows))


def test_order_is_a_pure_function_of_seed_epoch_and_step(kind):
    rows = 1003
    walked = Order(rows, 50, seed=1)
    seen = {(e, s): walked.rows(e, s).clone() for e in range(3) for s in range(walked.steps_per_epoch)}
    asked = Order(rows, 50, seed=1)
    for e, s in np.random.default_rng(0).permutation(list(seen)):
        assert torch.equal(asked.rows(int(e), int(s)), seen[int(e), int(s)])
    assert not torch.equal(seen[0, 0], seen[1, 0])
    assert not torch.equal(Order(rows, 50, seed=2).rows(0, 0), seen[0, 0])


def test_block_shuffling_reads_few_blocks_at_a_time(monkeypatch):
    monkeypatch.setattr(batches, "FULL", 10)
    monkeypatch.setattr(batches, "BLOCK", 8)
    monkeypatch.setattr(batches, "GROUP", 4)
    rows = Order(10_000, 32, seed=0).rows(0, 0)
    assert len((rows // 8).unique()) == 4
    assert not torch.equal(rows, rows.sort().values)


def test_steps_out_of_range_and_sequential():
    with pytest.raises(IndexError):
        Order(10, 4, 0).rows(0, 3)
    assert list(sequential(10, 4)) == [slice(0, 4), slice(4, 8), slice(8, 10)]


def test_no_batch_of_one_row_and_every_row_once():
    order = Order(33, 8, seed=0)
    sizes = [len(order.rows(0, s)) for s in range(order.steps_per_epoch)]
    assert sizes == [8, 8, 8, 9]
    assert sorted(torch.cat([order.rows(0, s) for s in range(4)]).tolist()) == list(range(33))
    assert Order(1, 8, seed=0).steps_per_epoch == 1
