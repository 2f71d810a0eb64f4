"""Batches fetched ahead are the batches that would have been read in place, in any order of asking."""

import torch
from conftest import tiny_config

from autodim.stages.prepare import open_log
from autodim.stages.search import search
from autodim.training.feed import Feed, fits
from autodim.training.progress import Progress

CPU = torch.device("cpu")


def test_fetched_ahead_equals_read_in_place(tiny_log, tmp_path):
    run = search(tiny_config(tiny_log, tmp_path / "run"), Progress("quiet"), ("prepare",))
    train = open_log(run).part("train")
    orders = [torch.randperm(len(train), generator=torch.Generator().manual_seed(k))[:7] for k in range(5)]
    plain, ahead = (Feed(train, orders.__getitem__, len(orders), CPU, ahead=how) for how in (False, True))
    assert plain._thread is None and ahead._thread is not None
    for step in (0, 1, 2, 4, 3, 4):  # also after a jump, as a resumed or rolled back training makes
        one, two = plain(step), ahead(step)
        assert torch.equal(one.ids, two.ids) and torch.equal(one.labels, two.labels)
        assert torch.equal(one.numeric, two.numeric) and one.bags.keys() == two.bags.keys()
        for name in one.bags:
            assert torch.equal(one.bags[name].values, two.bags[name].values)
            assert torch.equal(one.bags[name].offsets, two.bags[name].offsets)
    ahead.close()


def test_a_log_lies_on_a_device_only_where_half_of_it_is_left(tiny_log, tmp_path):
    run = search(tiny_config(tiny_log, tmp_path / "run"), Progress("quiet"), ("prepare",))
    train = open_log(run).part("train")
    assert fits(train, torch.device("cuda"), free=2 * train.nbytes)
    assert not fits(train, torch.device("cuda"), free=2 * train.nbytes - 1)
