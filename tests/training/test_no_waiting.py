"""A step whose batch was counted early computes the same bits, and asks the device for nothing.

A wait shows on a CPU too: an operator whose result's shape or value depends on data (`unique`, `nonzero`, `item`) says
so by its tags, and on a GPU the host would wait for it. `READ` is the reading of a group's count: there it lies on the
host already.
"""

from dataclasses import replace

import pytest
import torch
from bag_tables import SLOTS, TABLES, UNIFORM, D
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from autodim.config.schema import DenseOptimizerConfig, ModelConfig, WeightingConfig
from autodim.data.batch import Bag, Batch
from autodim.embedding.grouping import Grouping, begin
from autodim.embedding.layout import Block, Layout, Slot, Table, uniform_layout
from autodim.embedding.rows import in_pieces, unique_rows
from autodim.optim import build_dense_optimizer
from autodim.optim.methods import CLIPPERS, DENSE_OPTIMIZERS, PERTURBATIONS, TABLE_OPTIMIZERS
from autodim.stages.model_folder import build_network
from autodim.training.feed import Feed
from autodim.training.step import Step
from autodim.weighting.build import build_weighting

B = 200
MIXED = Layout(
    D,
    SLOTS,
    TABLES,
    (
        Block("a", 0, 50, 2, projected=True, bias=True),
        Block("b", 0, 30, 2, projected=True),
        Block("tags", 0, 12, D),
        Block("d", 0, 5, 0, bias=True),
    ),
)
BLOCKS = Layout(
    D,
    SLOTS,
    TABLES,
    (
        Block("a", 0, 20, D),
        Block("a", 20, 50, 2, projected=True, bias=True),
        Block("b", 0, 30, D),
        Block("tags", 0, 12, D),
        Block("d", 0, 5, D),
    ),
)
READ = "aten::_local_scalar_dense"
WAITS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


class Asked(TorchDispatchMode):
    """Names of the operators that ask the device for a number. `repeat_interleave` is always told its size here."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        told = "repeat_interleave" in operator.name() and (kwargs or {}).get("output_size") is not None
        if WAITS & set(operator.tags) and not told:
            self.names.append(operator.name())
        return operator(*args, **(kwargs or {}))


def batch(seed: int = 0) -> Batch:
    g = torch.Generator().manual_seed(seed)
    ids = torch.stack([torch.randint(0, n, (B,), generator=g, dtype=torch.int32) for n in (50, 30, 30, 5)], 1)
    lengths = torch.randint(0, 4, (B,), generator=g)
    values = torch.randint(0, 12, (int(lengths.sum()),), generator=g, dtype=torch.int32)
    bag = Bag(values, torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)]))
    return Batch(ids, torch.randn(B, 3, generator=g), torch.randint(0, 2, (B, 1), generator=g).float(), {"tags": bag})


def trained(layout: Layout, early: bool, table="adagrad", dense="adam", clipper=None, perturbation=None, piece=0):
    """Two steps; the weights afterwards, and what the second step asked for."""
    network = build_network(ModelConfig(name="deepfm", width=D, hidden=(8,), init_std=0.5), layout, 3, 1, seed=1)
    tables = network.tables.table_parameters()
    rules = [
        TABLE_OPTIMIZERS[table](tables, lr=0.01),
        build_dense_optimizer(DenseOptimizerConfig(name=dense), list(network.dense_parameters())),
    ]
    clippers = [] if clipper is None else [CLIPPERS[clipper](*[0.1] * (clipper == "norm"))]
    step = Step(network, rules, perturbation=perturbation and PERTURBATIONS[perturbation](), clippers=clippers)
    for seed in (0, 1):
        given = batch(seed)
        given = begin(network.tables, given, piece) if early else given
        with Asked() as asked:
            step(given, seed)
    return network.state(), asked.names


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in one.items())


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.booleans())
def test_counted_early_is_counted_the_same(rows, small):
    given = torch.tensor(rows, dtype=torch.int32 if small else torch.int64)
    expected, found = unique_rows(given), Grouping(given).finish()
    assert expected.pieces is None and found.pieces is None  # on a CPU
    for name in ("rows", "counts", "order", "starts"):
        one, two = getattr(expected, name), getattr(found, name)
        assert torch.equal(one, two) and one.dtype == two.dtype, name


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(1, 7), st.booleans())
def test_sums_by_pieces_are_the_sums(rows, piece, weighted):
    given = torch.tensor(rows)
    whole, pieces = unique_rows(given), Grouping(given, piece).finish()
    assert whole.pieces is None and pieces.pieces is not None
    starts, first = pieces.pieces
    lengths = torch.cat([starts[1:], torch.tensor([len(rows)])]) - starts
    assert min(lengths.tolist()) >= 1 and max(lengths.tolist()) <= piece  # what one thread of a GPU adds
    assert torch.equal(starts[first], pieces.starts)
    assert all(map(torch.equal, pieces.pieces, in_pieces(whole.counts, whole.starts, piece=piece)))
    values = torch.arange(3.0 * len(rows), dtype=torch.float64).view(-1, 3)  # whole numbers: exact in any order
    factors = torch.arange(1.0, len(rows) + 1, dtype=torch.float64) if weighted else None
    assert torch.equal(pieces.sum(values, weights=factors), whole.sum(values, weights=factors))


@pytest.mark.parametrize("layout", [UNIFORM, MIXED, BLOCKS], ids=["uniform", "mixed", "blocks"])
def test_the_bits_do_not_change(layout):
    (plain, asked), (early, _) = trained(layout, early=False), trained(layout, early=True)
    assert same(plain, early)
    assert any("unique" in name for name in asked)  # else this file would see nothing


@pytest.mark.parametrize("layout", [UNIFORM, MIXED], ids=["uniform", "mixed"])
@pytest.mark.parametrize(
    "rules",
    [
        *({"table": name} for name in TABLE_OPTIMIZERS),
        *({"dense": name} for name in DENSE_OPTIMIZERS),
        *({"clipper": name} for name in CLIPPERS),
        *({"perturbation": name} for name in PERTURBATIONS),
    ],
    ids=lambda rules: "-".join(map(str, *rules.items())),
)
def test_no_step_asks_the_device_for_anything(layout, rules):
    groups = {UNIFORM: 1, MIXED: 3}[layout]  # widths 8; widths 0 (first-order terms alone), 2 and 8
    assert trained(layout, early=True, **rules)[1] == [READ] * groups
    assert trained(layout, early=True, piece=4, **rules)[1] == [READ] * 2 * groups  # as on a GPU


@pytest.mark.parametrize("name", ["uniform", "decayed", "uncertainty", "dwa", "gradnorm"])
def test_weights_of_tasks_stay_on_the_device(name):
    network = build_network(ModelConfig(name="dnn", width=D, hidden=(8,)), UNIFORM, 3, 2, seed=1)
    config = WeightingConfig(name=name, decay={"x": 0.9} if name == "decayed" else {})
    weighting = build_weighting(config, network, ["x", "y"], steps_per_epoch=10)
    rules = [TABLE_OPTIMIZERS["sgd"](network.tables.table_parameters(), lr=0.01)]
    step, given = Step(network, rules, weighting), batch()
    given = replace(given, labels=given.labels.repeat(1, 2))
    step(given, 0)
    given = begin(network.tables, given)
    with Asked() as asked:
        step(given, 1)
    assert asked.names == [READ]


def test_blocks_of_rows_wait_for_the_number_of_held_ids_and_nothing_else():
    assert set(trained(BLOCKS, early=True)[1]) == {"aten::nonzero", "aten::unique_consecutive"}


def test_another_networks_count_is_not_taken():
    mine, other = (build_network(ModelConfig(name="dnn", width=D), UNIFORM, 3, 1, seed=s) for s in (1, 2))
    early = begin(other.tables, batch())
    lookup = mine.tables.lookup(early, learn=True)
    with Asked() as asked:
        assert lookup.groups[0].unique.rows.numel()
    assert asked.names == ["aten::unique_consecutive"]


def test_the_feed_begins_each_batch_one_step_early_and_once():
    from autodim.data.columns import Columns

    columns = Columns.from_arrays(torch.arange(40)[:, None], None, torch.zeros(40, 1))
    begun: list[int] = []

    def prepare(given: Batch) -> Batch:
        begun.append(int(given.ids[0, 0]) // 10)
        return given

    feed = Feed(columns, lambda p: slice(10 * p, 10 * p + 10), 4, torch.device("cpu"), prepare=prepare)
    seen = []
    for step in (0, 1, 2, 1, 2, 3):  # a rollback in between
        seen.append(int(feed(step).ids[0, 0]) // 10)
        assert begun[-1] == min(step + 1, 3)
    assert seen == [0, 1, 2, 1, 2, 3]
    assert begun == [0, 1, 2, 3, 1, 2, 3]


def test_an_empty_group_has_nothing_to_count():
    only = uniform_layout((Slot("tags", "tags", multi=True),), (Table("tags", 12),), D)
    network = build_network(ModelConfig(name="dnn", width=D), only, 0, 1, seed=1)
    none = Bag(torch.zeros(0, dtype=torch.int32), torch.zeros(4, dtype=torch.long))
    empty = Batch(torch.zeros(3, 0, dtype=torch.int32), torch.zeros(3, 0), torch.zeros(3, 1), {"tags": none})
    assert begin(network.tables, empty).grouped == {}
    dense = nn.ParameterList(network.dense_parameters())
    Step(network, [torch.optim.SGD(dense.parameters(), 0.1)])(begin(network.tables, empty), 0)
