"""Helen, SAM and ASAM against published numbers, against really moving the weights, and their laws."""

from __future__ import annotations

import copy

import pytest
import torch
from small_network import batch, counts, gradients, network, stepper, weights
from torch import Tensor, nn

from autodim.data.batch import Batch
from autodim.embedding.layout import Slot, Table, uniform_layout
from autodim.embedding.tables import Tables
from autodim.optim.asam import ASAM, asam_perturbation
from autodim.optim.frequency import EmaFrequency
from autodim.optim.helen import Helen, helen_perturbation
from autodim.optim.methods import PERTURBATIONS
from autodim.optim.sam import SAM, sam_perturbation
from autodim.optim.two_pass import TwoPass
from autodim.training.network import Network
from autodim.training.step import Step

RHO, XI, SEED = 0.4, 0.3, 5


def tensor(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


# ---- published numbers


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("slot", [[0.03, 0], [0, 0.012], [0, 0]]),
        ("row", [[0.05, 0], [0, 0.015], [0, 0]]),
        ("global", [[0.0134164, 0], [0, 0.0053666], [0, 0]]),
    ],
)
def test_helen_moves_rows_as_in_the_worked_case(scope, expected):
    gradient = tensor([[3, 0], [0, 4]])
    norm = tensor([3, 4, 6, 8]).norm() if scope == "global" else None
    moved = helen_perturbation(gradient, torch.tensor([4, 1]), 0.05, 0.3, scope, norm)
    torch.testing.assert_close(moved, tensor(expected)[:2], rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("dense", "scope", "rows", "expected"),
    [
        ("own", "slot", [[0.03, 0], [0, 0.012]], [0.03, 0.04]),
        ("own", "row", [[0.05, 0], [0, 0.015]], [0.03, 0.04]),
        ("global", "global", [[0.0134164, 0], [0, 0.0053666]], [0.0268328, 0.0357771]),
        ("none", "slot", [[0.03, 0], [0, 0.012]], None),
    ],
)
def test_helen_in_the_step_protocol_gives_the_worked_case(dense, scope, rows, expected):
    # the case's ids 0 and 1 are rows 1 and 2 here: row 0 is the out-of-vocabulary id and is never moved
    tables = Tables(uniform_layout((Slot("s", "s"),), (Table("s", 4),), 2))
    example = Batch(torch.tensor([[1], [1], [2], [1], [1]]), torch.zeros(5, 0), torch.zeros(5, 1))
    lookup = tables.lookup(example, learn=True)
    leaf = tensor([[[1, 0]], [[0, 0]], [[0, 4]], [[2, 0]], [[0, 0]]])
    head = nn.Parameter(torch.zeros(2))
    moves = Helen(0.05, 0.3, scope, dense=dense).offsets([leaf, tensor([6, 8])], lookup, [head])
    torch.testing.assert_close(moves[0][[0, 2], 0], tensor(rows), rtol=0, atol=1e-7)
    assert torch.equal(moves[0][1], moves[0][0]) and torch.equal(moves[0][3], moves[0][0])
    if expected is None:
        assert moves[1] is None
    else:
        torch.testing.assert_close(moves[1], tensor(expected), rtol=0, atol=1e-7)


def test_sam_worked_case():
    one, two = sam_perturbation([tensor([3, 0]), tensor(4.0)], 0.05)
    torch.testing.assert_close(one, tensor([0.03, 0]))
    torch.testing.assert_close(two, tensor(0.04))


def test_asam_worked_case():
    arguments = [tensor([1, -2]), tensor(0.5)], [tensor([3, 4]), tensor(1.0)]
    one, two = asam_perturbation(*arguments, biases=[False, True], rho=0.5, eta=0.01)
    torch.testing.assert_close(one, tensor([0.1768959538, 0.9341271676]), rtol=1e-6, atol=0)
    torch.testing.assert_close(two, tensor(0.0578034682), rtol=1e-6, atol=0)


def test_sam_as_an_optimizer_on_a_quadratic():
    point = nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = TwoPass(torch.optim.SGD([point], lr=0.01), SAM(0.1))

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (10 * point[0] ** 2 + point[1] ** 2) / 2
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 5.5
    assert point.tolist() == pytest.approx([0.8900496281, 0.9899004963], abs=1e-10)


# ---- against really moving the weights


def slow_moves(net: Network, example: Batch, found: dict[str, Tensor], scope: str, dense: str) -> dict[str, Tensor]:
    """Helen's moves of every parameter, table by table and row by row."""
    number = counts(example)
    rows = {}
    for i, group in enumerate(net.tables.groups):
        for block in group.blocks:
            for kind in ("weight", "linear"):
                name = f"tables.groups.{i}.{kind}"
                if name in found:
                    rows[name, block.table] = group.rows_of(block)
    own = {key: found[key[0]][where].clone() for key, where in rows.items()}
    for gradient in own.values():
        gradient[0] = 0
    tables = {name for name, _ in rows}
    others = {k: v for k, v in found.items() if k not in tables}
    table_square = sum(float(g.square().sum()) for g in own.values())
    dense_square = sum(float(g.square().sum()) for g in others.values())
    everything = (table_square + (0 if dense == "none" else dense_square)) ** 0.5
    moves = {k: torch.zeros_like(v) for k, v in found.items()}
    for (name, table), where in rows.items():
        gradient = own[name, table]
        most = max(number[table][1:])
        for k in range(1, len(gradient)):
            norm = {"slot": float(gradient.norm()), "row": float(gradient[k].norm()), "global": everything}[scope]
            radius = RHO * max(number[table][k] / most, XI)
            moves[name][where][k] = gradient[k] * radius / (norm + 1e-12)
    if dense != "none":
        norm = everything if dense == "global" else dense_square**0.5
        for name, gradient in others.items():
            moves[name] = RHO * gradient / norm
    return moves


def check_against_moved_weights(net: Network, example: Batch, perturbation: object, moves: dict[str, Tensor]) -> None:
    start = weights(net)
    first = gradients(net, example, SEED)
    moved = copy.deepcopy(net)
    with torch.no_grad():
        for name, parameter in moved.named_parameters():
            parameter.add_(moves[name])
    second = gradients(moved, example, SEED)
    stepper(net, perturbation)(example, SEED)
    differ = 0
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(start[name] - parameter.detach(), second[name], rtol=1e-4, atol=2e-5)
        differ += not torch.allclose(first[name], second[name], rtol=1e-2, atol=1e-3)
    assert differ > 5  # the second pass is really another one


@pytest.mark.parametrize("scope", ["slot", "row", "global"])
@pytest.mark.parametrize("dense", ["own", "global"])
@pytest.mark.parametrize("uniform", [True, False], ids=["uniform", "mixed"])
def test_helens_second_gradient_is_that_of_moved_tables(scope, dense, uniform):
    net, example = network(uniform=uniform), batch()
    moves = slow_moves(net, example, gradients(copy.deepcopy(net), example, SEED), scope, dense)
    check_against_moved_weights(net, example, Helen(RHO, XI, scope, dense=dense), moves)


@pytest.mark.parametrize("scope", ["slot", "global"])
def test_unmoved_dense_parameters_keep_their_first_gradient(scope):
    net, example = network(), batch()
    start, first = weights(net), gradients(copy.deepcopy(net), example, SEED)
    moved = copy.deepcopy(net)
    with torch.no_grad():
        for name, parameter in moved.named_parameters():
            parameter.add_(slow_moves(net, example, first, scope, "none")[name])
    second = gradients(moved, example, SEED)
    stepper(net, Helen(RHO, XI, scope, dense="none"))(example, SEED)
    tables = {id(p) for p in net.tables.table_parameters()}
    for name, parameter in net.named_parameters():
        expected = second if id(parameter) in tables else first
        torch.testing.assert_close(start[name] - parameter.detach(), expected[name], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["sam", "asam"])
def test_sam_and_asam_second_gradients_are_those_of_moved_tables(name):
    net, example = network(), batch()
    found = gradients(copy.deepcopy(net), example, SEED)
    parameters = dict(net.named_parameters())
    if name == "sam":
        moves = sam_perturbation(list(found.values()), RHO)
    else:
        biases = [p.dim() < 2 for p in parameters.values()]
        moves = asam_perturbation(list(parameters.values()), list(found.values()), biases, RHO)
    perturbation = {"sam": SAM(RHO), "asam": ASAM(RHO)}[name]
    check_against_moved_weights(net, example, perturbation, dict(zip(found, moves, strict=True)))


def test_helen_with_xi_1_is_sam_on_each_table():
    net, example = network(dropout=0.0), batch()
    found = gradients(copy.deepcopy(net), example, SEED)
    net_moves = slow_moves(net, example, found, "slot", "own")
    slots = 0
    for name, gradient in found.items():
        if ".groups." not in name or "projection" in name:
            continue
        group = net.tables.groups[int(name.split(".")[2])]
        for block in group.blocks:
            own = gradient[group.rows_of(block)].clone()
            own[0] = 0  # the out-of-vocabulary row
            net_moves[name][group.rows_of(block)] = sam_perturbation([own], RHO)[0]
            slots += 1
    assert slots == 7
    check_against_moved_weights(net, example, Helen(RHO, 1.0), net_moves)


# ---- laws


def optimizers(net: Network) -> list[torch.optim.Optimizer]:
    from autodim.optim.lazy_adam import LazyAdam

    return [LazyAdam(net.tables.table_parameters(), lr=0.05), torch.optim.Adam(net.dense_parameters(), lr=0.05)]


@pytest.mark.parametrize(
    "perturbation",
    [
        *(Helen(0.0, norm_scope=s, dense=d) for s in ("slot", "row", "global") for d in ("own", "global", "none")),
        Helen(0.0, frequency="ema"),
        SAM(0.0),
        ASAM(0.0),
    ],
)
def test_rho_0_is_the_base_optimizer_to_the_bit(perturbation):
    one, two = network(), network()
    plain, perturbed = Step(one, optimizers(one)), Step(two, optimizers(two), perturbation=perturbation)
    for seed in range(4):
        assert torch.equal(plain(batch(seed), seed), perturbed(batch(seed), seed))
    # the running statistics of batch norm too: the second pass leaves them alone
    mine, theirs = weights(one), weights(two)
    assert any("running_mean" in k for k in mine) and any("num_batches" in k for k in mine)
    assert all(torch.equal(mine[k], theirs[k]) for k in mine)


def test_batch_norm_statistics_move_in_the_first_pass_only():
    one, two = network(), network()
    stepper(one)(batch(), SEED)
    stepper(two, Helen(5.0))(batch(), SEED)
    kept, moved = weights(one), weights(two)
    for name in kept:
        if "running" in name or "num_batches" in name:
            assert torch.equal(kept[name], moved[name])
    assert all(m.track_running_stats for m in two.modules() if isinstance(m, nn.BatchNorm1d))


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_rows_outside_the_batch_stay_to_the_bit(name):
    net = network()
    start = weights(net)
    step = Step(net, optimizers(net), perturbation=PERTURBATIONS[name](rho=0.5))
    step(batch(), SEED)
    number = counts(batch())
    outside = 0
    for i, group in enumerate(net.tables.groups):
        for block in group.blocks:
            absent = torch.tensor(number[block.table]) == 0
            outside += int(absent.sum())
            for kind in ("weight", "linear"):
                if getattr(group, kind) is None:
                    continue
                now = getattr(group, kind).detach()[group.rows_of(block)]
                before = start[f"tables.groups.{i}.{kind}"][group.rows_of(block)]
                assert torch.equal(now[absent].view(torch.int32), before[absent].view(torch.int32))
                assert not torch.equal(now[~absent], before[~absent])
    assert outside > 3


@pytest.mark.parametrize("scope", ["slot", "row", "global"])
def test_row_0_never_moves_and_sets_no_maximum_and_no_norm(scope):
    tables = Tables(uniform_layout((Slot("s", "s"),), (Table("s", 4),), 2))
    ids = torch.tensor([[0], [0], [0], [2], [3], [3]])
    lookup = tables.lookup(Batch(ids, torch.zeros(6, 0), torch.zeros(6, 1)), learn=True)
    leaf = torch.randn(6, 1, 2, generator=torch.Generator().manual_seed(0))
    moves = Helen(1.0, 0.1, scope, dense="none").offsets([leaf], lookup, [])[0]
    assert not moves[:3].any()
    rows = torch.stack([leaf[3, 0], leaf[4, 0] + leaf[5, 0]])  # rows 2 and 3, counted once and twice
    norm = rows.norm() if scope == "global" else None
    expected = helen_perturbation(rows, torch.tensor([1, 2]), 1.0, 0.1, scope, norm)
    torch.testing.assert_close(moves[3:5, 0], expected)


def test_a_batch_of_unknown_ids_only_is_no_division_by_zero():
    tables = Tables(uniform_layout((Slot("s", "s"),), (Table("s", 4),), 2))
    lookup = tables.lookup(
        Batch(torch.zeros(3, 1, dtype=torch.int32), torch.zeros(3, 0), torch.zeros(3, 1)), learn=True
    )
    for frequency in (Helen(), Helen(frequency="ema"), Helen(frequency="global", counts={"s": torch.zeros(4)})):
        assert torch.equal(frequency.offsets([torch.ones(3, 1, 2)], lookup, [])[0], torch.zeros(3, 1, 2))


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_one_lookup_a_step(name, monkeypatch):
    made = []
    original = Tables.lookup
    monkeypatch.setattr(Tables, "lookup", lambda *a, **k: made.append(1) or original(*a, **k))
    net = network()
    stepper(net, PERTURBATIONS[name]())(batch(), 0)
    assert len(made) == 1


# ---- frequencies


def test_global_frequencies_replace_the_batchs_counts():
    net, example = network(dropout=0.0), batch()
    # counts in proportion to the batch's: the same radii, whatever row 0 and the scale say
    known = {k: torch.tensor([10**6, *(7 * c for c in v[1:])]) for k, v in counts(example).items()}
    twin = copy.deepcopy(net)
    stepper(net, Helen(RHO, XI))(example, SEED)
    stepper(twin, Helen(RHO, XI, frequency="global", counts=known))(example, SEED)
    for one, two in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, two)


def test_the_average_equals_one_that_decays_every_row_at_every_step():
    decay, net = 0.8, network()
    rule = EmaFrequency(decay)
    slow = {t: torch.zeros(len(c)) for t, c in counts(batch()).items()}
    for seed in range(6):
        example = batch(seed)
        helen = Helen(RHO, XI, frequency="ema", decay=decay)
        helen.frequency = rule
        stepper(net, helen, lr=1e-3)(example, seed)
        for table, number in counts(example).items():
            slow[table] = decay * slow[table] + (1 - decay) * torch.tensor(number)
    for i, group in enumerate(net.tables.groups):
        state = rule.state()
        lag = rule.steps - state[f"ema/{i}/met"]
        fast = state[f"ema/{i}/average"] * decay**lag
        for block in group.blocks:
            torch.testing.assert_close(fast[group.rows_of(block)], slow[block.table])


def test_a_restored_average_continues_to_the_bit():
    net = network()
    helen = Helen(RHO, XI, frequency="ema")
    step = Step(net, optimizers(net), perturbation=helen)
    for seed in range(3):
        step(batch(seed), seed)
    twin = network()
    twin.load_state(weights(net))
    restored = Helen(RHO, XI, frequency="ema")
    restored.load_state({k: v.clone() for k, v in helen.state().items()})
    other = Step(twin, optimizers(twin), perturbation=restored)
    for mine, theirs in zip(step.optimizers, other.optimizers, strict=True):
        theirs.load_state_dict(copy.deepcopy(mine.state_dict()))
    for seed in range(3, 6):
        step(batch(seed), seed)
        other(batch(seed), seed)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters(), strict=True))
    assert all(torch.equal(v, restored.state()[k]) for k, v in helen.state().items())


def test_missing_counts_and_impossible_options_are_refused():
    with pytest.raises(ValueError, match="counts"):
        Helen(frequency="global")
    with pytest.raises(ValueError, match="xi"):
        Helen(xi=1.5)
    with pytest.raises(ValueError, match="norm_scope"):
        Helen(norm_scope="table")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="frequency"):
        Helen(frequency="log")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="table 'c'"):
        stepper(network(), Helen(frequency="global", counts={"b": torch.ones(11)}))(batch(), 0)


# ---- outside autodim


def test_two_pass_on_a_sparse_embedding_equals_a_dense_one():
    start = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([1, 4, 4, 9])
    ends = []
    for sparse in (True, False):
        embedding = nn.Embedding(20, 3, sparse=sparse, _weight=start.clone())
        optimizer = TwoPass(torch.optim.SGD(embedding.parameters(), lr=0.1), SAM(0.5))

        def closure(embedding: nn.Embedding = embedding, optimizer: TwoPass = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = embedding(ids).pow(4).sum()
            loss.backward()
            return loss

        for _ in range(3):
            optimizer.step(closure)
        ends.append(embedding.weight.detach())
    torch.testing.assert_close(*ends)
    assert torch.equal(ends[0][10:], start[10:])


def test_two_pass_keeps_batch_norm_and_hands_its_state_to_the_base():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    twin = copy.deepcopy(model)
    inputs = torch.randn(8, 3)
    twin(inputs)
    base = torch.optim.Adam(model.parameters(), lr=0.1)
    optimizer = TwoPass(base, ASAM(), module=model)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(inputs).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert torch.equal(model[1].running_var, twin[1].running_var) and int(model[1].num_batches_tracked) == 1
    saved = copy.deepcopy(optimizer.state_dict())
    assert saved["state"][0]["exp_avg"].any()
    optimizer.load_state_dict(saved)
    assert optimizer.state is base.state and optimizer.param_groups is base.param_groups
    with pytest.raises(ValueError, match="closure"):
        optimizer.step()
