"""Projections and biases of a cut network, fitted again in closed form: one Gauss-Newton step over held-out rows.

A spectral cut is the best for each slot while the others stay whole. Once all are cut, their errors add up or cancel.
With the narrow tables and the model as they are, the logits are linear in every projection P and bias b to first
order: slot i adds `J_i . (u_i dP_i + db_i)`, u its stored vector, J the logit's gradient by the wide one. The step
solves the damped normal equations of all of them together, towards labels `(1 - m) y + m sigmoid(uncut logit)`. It
takes no learning rate, no order of rows and no seed. Every fifth row judges: the damping is the one whose step serves
those rows best, and where none lowers their loss nothing is changed (few rows, or a model far from its optimum). A
task's loss is the mean over the rows that have its label, in the equations and to the judge.

Letters: B rows of a chunk, U numbers of all projections and biases, T tasks, D common width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from autodim.data.columns import Columns
from autodim.data.tasks import Task
from autodim.embedding.lookup import Lookup
from autodim.embedding.vectors import Stacked
from autodim.errors import ConfigError
from autodim.stages.edits import CHUNK, main_tasks, spread_rows, task_factors
from autodim.stages.memory import available
from autodim.stages.score import task_terms
from autodim.stages.session import Session
from autodim.training.distill import mixed_labels
from autodim.training.losses import row_losses
from autodim.training.network import Network

MIX = 0.5  # share of the uncut model in the labels: alone it keeps the uncut model's own noise, labels alone over-fit
DAMPINGS = (1e-2, 1e-1, 1.0, 10.0)  # of each number's own curvature


def refit(
    network: Network,
    teacher: Network,
    columns: Columns,
    session: Session,
    rows: int | None = None,
    tasks: Sequence[Task] = (),
    importance: Mapping[str, float] | None = None,
) -> float | None:
    """One step for the projections and biases, in place.

    Args:
        network: a cut network. teacher: the uncut one.
        columns: held-out rows; those of the scoring pass.
        rows: at most so many, evenly spread.
        tasks: what the labels ask for; auxiliary ones do not count. Empty: all are binary and main.
        importance: factor of a task's loss, by name; those not named count once.

    Returns:
        The damping of the step; None where no step was taken.

    Raises:
        Interrupted: a signal came. ConfigError: the equations would not fit the memory.

    Cost: a forward of both networks and T backwards a row, U^2 products a row in float64, and for each damping one
    solution of U equations and a forward over a fifth of the rows.
    """
    numbers = network.tables.dense_parameters()
    index = spread_rows(len(columns), rows)
    judges = torch.arange(len(index)) % 5 == 0
    if not numbers or len(index) < 10:
        return None
    check_room(sum(p.numel() for p in numbers), session.device)
    network.eval()
    teacher.eval()
    count = _Count(tasks, columns, importance or {})
    products, pull = _equations(network, teacher, columns, session, index[~judges], count)
    curvature = products.diagonal()
    before = [p.detach().clone() for p in numbers]
    best: tuple[float, float | None] = (_loss(network, columns, session, index[judges], count), None)
    steps: dict[float | None, Tensor] = {None: torch.zeros_like(pull)}
    for damping in DAMPINGS:
        ridge = damping * curvature + 1e-9 * curvature.mean() + torch.finfo(torch.float64).tiny
        steps[damping] = torch.linalg.solve(products + torch.diag(ridge), pull)
        _move(numbers, before, steps[damping])
        best = min(best, (_loss(network, columns, session, index[judges], count), damping), key=lambda pair: pair[0])
    _move(numbers, before, steps[best[1]])
    return best[1]


def check_room(size: int, device: torch.device) -> None:
    """Raises ConfigError where the equations of U numbers, in four copies of float64, need more memory than is free."""
    need, free = 4 * 8 * size**2, available(device)
    if free is not None and need > free:
        raise ConfigError(
            f"prune.strategy: spectral_refit solves for the {size:,} numbers of all projections and biases at once: "
            f"{need / 2**30:,.1f} GiB; {free / 2**30:,.1f} GiB are free; take spectral, a smaller budget, fewer "
            "blocks (prune.blocks), or a machine with more memory"
        )


def _move(numbers: Sequence[Tensor], before: Sequence[Tensor], step: Tensor) -> None:
    with torch.no_grad():
        for number, old, part in zip(numbers, before, step.split([p.numel() for p in numbers]), strict=True):
            number.copy_(old + part.view_as(old).to(old))


class _Count:
    """Which tasks count, and for how much: each one's loss is the mean over the rows that have its label, times its
    importance."""

    def __init__(self, tasks: Sequence[Task], columns: Columns, importance: Mapping[str, float]):
        self.tasks = tasks
        self.main = main_tasks(tasks, columns)
        self.factors = task_factors(tasks, self.main, importance)

    def of_rows(self, columns: Columns, index: Tensor) -> list[float]:
        """What the loss of one labelled row counts in the sum over some rows, per main task: 1 times its importance
        where none of the labels is missing."""
        labels = columns.labels.index_select(0, index.to(columns.device))[:, self.main]
        labelled = (~labels.isnan()).sum(0).clamp(min=1).cpu().double()
        return (self.factors * (torch.full_like(labelled, len(index)) / labelled)).tolist()


def _loss(network: Network, columns: Columns, session: Session, index: Tensor, count: _Count) -> float:
    """Sum over main tasks of the mean loss of the labels, weighted; NaN and infinities become infinite."""
    total = torch.zeros(len(count.main), dtype=torch.float64, device=session.device)
    with torch.inference_mode():
        for rows in index.split(CHUNK):
            batch = columns.batch(rows, session.device)
            values, known = row_losses(network(batch), batch.labels, count.tasks)
            total += torch.where(known, values, 0.0)[:, count.main].sum(0, dtype=torch.float64)
    each = torch.tensor(count.of_rows(columns, index), dtype=torch.float64)
    value = float((total.cpu() * each).sum()) / max(len(index), 1)
    return value if math.isfinite(value) else math.inf


def _equations(
    network: Network,
    teacher: Network,
    columns: Columns,
    session: Session,
    index: Tensor,
    count: _Count,
) -> tuple[Tensor, Tensor]:
    """The normal equations of the loss that `_loss` judges by, times the rows: U x U and U, float64."""
    tables, factors = network.tables, count.of_rows(columns, index)
    size = sum(p.numel() for p in tables.dense_parameters())
    products = torch.zeros(size, size, dtype=torch.float64, device=session.device)
    pull = torch.zeros(size, dtype=torch.float64, device=session.device)
    session.progress.start("refit", len(index))
    for start in range(0, len(index), CHUNK):
        batch = columns.batch(index[start : start + CHUNK], session.device)
        with torch.no_grad():
            wanted = mixed_labels(batch.labels, teacher(batch), MIX, count.tasks)
            lookup = tables.lookup(batch)
            slots, linear = lookup.inputs()
            vectors = slots.stack()
        vectors.requires_grad_()
        logits = network.model(Stacked(vectors), linear, batch.numeric).float()
        slopes, weights = task_terms(logits.detach(), wanted, count.tasks, "gauss_newton")
        residual, weight = -slopes.double(), weights.double()
        for task, factor in zip(count.main, factors, strict=True):
            (slope,) = torch.autograd.grad(logits[:, task].sum(), [vectors], retain_graph=task != count.main[-1])
            features = _features(network, lookup, slope)
            scaled = features * (factor * weight[:, task, None]).sqrt()
            products.addmm_(scaled.T, scaled)
            pull.addmv_(features.T, factor * residual[:, task])
        session.progress.update(start + len(batch))
        session.stop.check()
    return products, pull


def _features(network: Network, lookup: Lookup, slope: Tensor) -> Tensor:
    """B x U float64: the derivative of one logit by every projection and bias, in the order of `dense_parameters`.

    Args:
        slope: B x S x D, its derivative by the slot vectors.
    """
    slope = slope.double()
    parts = []
    for looked_up in lookup.groups:
        group, vectors = looked_up.group, looked_up.vectors
        if group.projection is not None and vectors is not None:
            found = slope.new_zeros(len(slope), *group.projection.shape)  # B x blocks x w x D
            for k, position in enumerate(group.positions):
                # slots that share a table share its projection: their derivatives add up
                found[:, group.block_of[k]] += vectors[:, k, :, None].double() * slope[:, position, None]
            parts.append(found.flatten(1))
        if group.offset is not None:
            parts.append((looked_up.masses.double() * slope[:, group.positions]).flatten(1))
    if network.tables.bias is not None:
        parts.append(slope[:, network.tables.biased].flatten(1))
    return torch.cat(parts, 1)
