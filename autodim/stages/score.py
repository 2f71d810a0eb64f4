"""The scoring pass: one forward and backward over held-out rows with frozen weights; the saliency of each slot and the
statistics of its spectral cuts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from autodim.data.batch import Batch
from autodim.data.columns import Columns
from autodim.data.tasks import Task
from autodim.dimension.block_moments import BlockSums, block_moments, is_own, saliency_of
from autodim.dimension.blocks import Spans, part
from autodim.dimension.scores import by_table
from autodim.dimension.spectral import logit_terms
from autodim.dimension.spectral_sums import Curvature, Spectral
from autodim.dimension.spectral_tensors import task_tensors, to_tensors
from autodim.embedding.group import Group
from autodim.embedding.lookup import Lookup
from autodim.embedding.parts import slot_part
from autodim.stages.edits import spread_rows
from autodim.stages.session import Session
from autodim.stages.task_scores import by_tasks
from autodim.training.evaluation import chunk_rows
from autodim.training.network import Network


def score(
    network: Network,
    columns: Columns,
    session: Session,
    rows: int | None = None,
    curvature: Curvature = "gauss_newton",
    spans: Spans | None = None,
    tasks: Sequence[Task] = (),
    strided: bool = False,
) -> dict[str, Tensor]:
    """Score every dimension of every slot of a uniform network.

    The loss is the one that training minimises: the sum over the main tasks of each one's mean over the rows that have
    its label; here times the number of scored rows, so that without missing labels it is the sum of the rows' losses.
    Auxiliary tasks do not count.

    Args:
        columns: the rows to score on; held out unless the user says otherwise.
        rows: at most so many, evenly spread.
        curvature: that of the spectral statistics.
        spans: tables that are cut into blocks of rows; each block is scored beside its whole table.
        tasks: what the labels ask for; empty: all are binary and main.
        strided: batches of rows at even distances, not of neighbours, so that both halves of the rows have every log
            of several.

    Returns:
        Tensors of D float64: `g/TABLE` the signed saliency, `half0/TABLE` and `half1/TABLE` that of two disjoint halves
        of the rows, `magnitude/TABLE` the squared norm of each column; `mean/SLOT`, the mean vector, float32; and what
        `dimension.spectral_tensors.from_tensors` reads. A block has the same under `TABLE[start:stop]` and
        `SLOT[start:stop]`, and what `dimension.block_moments` reads. Of several main tasks these are the sums, and each
        one's own stand beside them, see `stages.task_scores`.

    Cost: one training step's forward and (a task) backward over the rows, without weight gradients and without an
    update; and S products of D x D a row in float64.
    """
    layout = network.tables.layout
    if not layout.slots:
        return {}
    # the one group's vectors lie in its own order: one-hot slots before bags, whatever the config's
    group: Group = network.tables.groups[0]  # type: ignore[assignment]
    spectral = Spectral([layout.slots[p].name for p in group.positions], curvature)
    parts = Parts(network, spans or {})
    count = len(columns) if rows is None else min(rows, len(columns))
    index = spread_rows(len(columns), count) if count < len(columns) else None
    main = [t for t, task in enumerate(tasks) if task.role == "main"] or list(range(columns.labels.shape[1]))
    network.eval()
    frozen = [p.requires_grad for p in network.parameters()]
    network.requires_grad_(False)
    # pairs of equal chunks, so that the two halves of the rows can be compared
    pairs = max(1, -(-count // (2 * _chunk(len(layout.slots) * layout.common, session.device))))
    chunk = max(1, -(-count // (2 * pairs)))
    if strided:
        every, chunks = torch.arange(count) if index is None else index, -(-count // chunk)
        index = torch.cat([every[k::chunks] for k in range(chunks)])
    session.progress.start("prune: scoring", count)
    for start in range(0, count, chunk):
        stop = min(start + chunk, count)
        batch = columns.batch(slice(start, stop) if index is None else index[start:stop], session.device)
        lookup = network.tables.lookup(batch, learn=True)
        logits, labels = network.logits(lookup, batch)[:, main], batch.labels[:, main]
        residual, weight = task_terms(logits, labels, [tasks[t] for t in main] if tasks else [], curvature)
        vectors = lookup.leaves[0]  # B x S x D, in that order: a uniform network has one group
        # the gradient of each logit by its own vectors; that of the cross-entropy is (p - y) times it
        jacobian = [
            torch.autograd.grad(column.sum(), [vectors], retain_graph=task + 1 < logits.shape[1])[0]
            for task, column in enumerate(logits.unbind(1))
        ]  # T of B x S x D
        spectral.add(vectors.detach(), jacobian, residual, weight, ~labels.isnan())
        parts.add(batch, lookup, jacobian, residual, weight)
        session.progress.update(stop)
    for parameter, before in zip(network.parameters(), frozen, strict=True):
        parameter.requires_grad_(before)
    tables = {slot.name: slot.table for slot in layout.slots}
    found = _saliencies(spectral, tables, None)
    for table in layout.tables:
        weight = network.tables.read(table.name)["weight"]
        found[f"magnitude/{table.name}"] = weight.double().square().sum(0)
    for name, moments in spectral.moments().items():
        found[f"mean/{name}"] = torch.from_numpy(moments.mean).float()
    found |= to_tensors(spectral) | parts.tensors(spectral.scale)
    if spectral.tasks > 1:
        own = [
            _saliencies(spectral, tables, t) | task_tensors(spectral, t) | parts.task_tensors(spectral.scale, t)
            for t in range(spectral.tasks)
        ]
        found |= by_tasks(own)
    return found


def _chunk(numbers: int, device: torch.device) -> int:
    """Rows at a time, for vectors of so many numbers a row: each chunk costs a hundred small calls, so few of them, but
    a chunk's vectors stay within 8 MiB, which a shared cache holds; on a GPU within 256 MiB."""
    at_once = 8 << 18 if device.type == "cpu" else 256 << 18
    return max(1024, min(chunk_rows(device), at_once // max(1, numbers) // 1024 * 1024))


def _saliencies(spectral: Spectral, tables: Mapping[str, str], task: int | None) -> dict[str, Tensor]:
    halves = spectral.halves(task)
    first, second = (by_table({name: sums.saliency for name, sums in half.items()}, tables) for half in halves)
    return {
        f"{prefix}/{name}": torch.from_numpy(values)
        for name in first
        for prefix, values in (("g", first[name] + second[name]), ("half0", first[name]), ("half1", second[name]))
    }


class Parts:
    """Scores of the blocks of cut tables, beside those of whole slots.

    Cost: per block a read of its slot's vectors and the products of `BlockSums`; nothing without blocks.
    """

    def __init__(self, network: Network, spans: Spans):
        layout = network.tables.layout
        self.spans = spans
        order = [layout.slots[p] for p in network.tables.groups[0].positions]  # type: ignore[union-attr]
        self.blocks = [(i, s, a, b) for i, s in enumerate(order) for a, b in spans.get(s.table, ())]
        self.sums = BlockSums([part(s.name, a, b) for _, s, a, b in self.blocks])
        self.places = [(i, layout.slots.index(s), a, b) for i, s, a, b in self.blocks]
        self.weights = {table: network.tables.read(table)["weight"] for table in spans}

    def add(self, batch: Batch, lookup: Lookup, jacobian: list[Tensor], residual: Tensor, weight: Tensor) -> None:
        """One batch; `jacobian` T of B x S x D, the others as for `BlockSums.add`."""
        if not self.blocks:
            return
        found = [slot_part(lookup, batch, p, start, stop) for _, p, start, stop in self.places]
        index = torch.tensor([i for i, *_ in self.blocks], device=weight.device)
        vectors, masses = (torch.stack(values, dim=1) for values in zip(*found, strict=True))
        self.sums.add(vectors, masses, [j.index_select(1, index) for j in jacobian], residual, weight)

    def tensors(self, scale: Tensor) -> dict[str, Tensor]:
        """Everything about the blocks, as `score` names it; `scale` as for `BlockSums.to_tensors`."""
        found = self.sums.to_tensors(scale)
        for name, moments in block_moments(found)[0].items():
            found[f"mean/{name}"] = torch.from_numpy(moments.mean).float()
        found |= self._saliencies(found)
        for table, blocks in self.spans.items():
            for start, stop in blocks:
                squares = self.weights[table][start:stop].double().square().sum(0)
                found[f"magnitude/{part(table, start, stop)}"] = squares
        return found

    def task_tensors(self, scale: Tensor, task: int) -> dict[str, Tensor]:
        """What one task has of its own of them."""
        found = self.sums.to_tensors(scale, task)
        return {name: tensor for name, tensor in found.items() if is_own(name)} | self._saliencies(found)

    def _saliencies(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for _, slot, start, stop in self.blocks:
            table, halves = part(slot.table, start, stop), saliency_of(tensors, part(slot.name, start, stop))
            for key, values in (("g", halves.sum(0)), ("half0", halves[0]), ("half1", halves[1])):
                name = f"{key}/{table}"
                found[name] = found[name] + values if name in found else values.clone()
        return found


def task_terms(logits: Tensor, labels: Tensor, tasks: Sequence[Task], curvature: Curvature) -> tuple[Tensor, Tensor]:
    """Slope of each example's loss by its logits, and the curvature's weight; both B x T, 0 where a label is missing.

    A regression's loss is `(z - t)^2` of the standardised label t: slope `2 (z - t)`, curvature 2.
    """
    residual, weight = logit_terms(logits, labels, curvature)
    if all(task.kind == "binary" for task in tasks):
        return residual, weight
    columns = []
    for t, task in enumerate(tasks):
        if task.kind == "binary":
            columns.append((residual[:, t], weight[:, t]))
            continue
        known = ~labels[:, t].isnan()
        target = (labels[:, t].nan_to_num().to(residual) - task.mean) / task.std
        slope = torch.where(known, 2 * (logits[:, t].detach().to(residual) - target), 0.0)
        columns.append((slope, slope.square() if curvature == "fisher" else 2 * known.to(slope)))
    return torch.stack([r for r, _ in columns], 1), torch.stack([w for _, w in columns], 1)
