"""The scoring pass: one forward and backward over held-out rows with frozen weights; the saliency of each slot and the
statistics of its spectral cuts."""

from __future__ import annotations

import torch
from torch import Tensor

from autodim.data.columns import Columns
from autodim.dimension.scores import by_table
from autodim.dimension.spectral import Curvature, Spectral, logit_terms, to_tensors
from autodim.embedding.group import Group
from autodim.stages.session import Session
from autodim.training.loop import CHUNK
from autodim.training.network import Network


def score(
    network: Network,
    columns: Columns,
    session: Session,
    rows: int | None = None,
    curvature: Curvature = "gauss_newton",
) -> dict[str, Tensor]:
    """Score every dimension of every slot of a uniform network.

    The loss is the sum of the cross-entropies of the batch's rows (missing labels left out), so that batches weigh by
    their rows and the signed sums over batches are those of one large batch.

    Args:
        columns: the rows to score on; held out unless the user says otherwise.
        rows: at most so many, evenly spread.
        curvature: that of the spectral statistics.

    Returns:
        Tensors of D float64: `g/TABLE` the signed saliency, `half0/TABLE` and `half1/TABLE` that of two disjoint halves
        of the rows, `magnitude/TABLE` the squared norm of each column; `mean/SLOT`, the mean vector, float32; and what
        `dimension.spectral.from_tensors` reads.

    Cost: one training step's forward and (a task) backward over the rows, without weight gradients and without an
    update; and S products of D x D a row in float64.
    """
    layout = network.tables.layout
    if not layout.slots:
        return {}
    # the leaf holds one-hot slots before bags, whatever the config's order
    group: Group = network.tables.groups[0]  # type: ignore[assignment]
    spectral = Spectral([layout.slots[p].name for p in group.positions], curvature)
    count = len(columns) if rows is None else min(rows, len(columns))
    index = torch.linspace(0, len(columns) - 1, count).long() if count < len(columns) else None
    network.eval()
    frozen = [p.requires_grad for p in network.parameters()]
    network.requires_grad_(False)
    # at least two chunks, so that the two halves of the rows can be compared
    chunk = min(CHUNK // 4, max(1, -(-count // 2)))
    session.progress.start("prune: scoring", count)
    for start in range(0, count, chunk):
        stop = min(start + chunk, count)
        batch = columns.batch(slice(start, stop) if index is None else index[start:stop], session.device)
        lookup = network.tables.lookup(batch, learn=True)
        logits = network.logits(lookup, batch)
        residual, weight = logit_terms(logits, batch.labels, curvature)  # B x T
        vectors = lookup.leaves[0]  # B x S x D: a uniform network has one group
        # the gradient of each logit by its own vectors; that of the cross-entropy is (p - y) times it
        jacobian = [
            torch.autograd.grad(column.sum(), [vectors], retain_graph=task + 1 < logits.shape[1])[0]
            for task, column in enumerate(logits.unbind(1))
        ]  # T of B x S x D
        spectral.add(vectors.detach(), jacobian, residual, weight)
        session.progress.update(stop)
    for parameter, before in zip(network.parameters(), frozen, strict=True):
        parameter.requires_grad_(before)
    tables = {slot.name: slot.table for slot in layout.slots}
    halves = spectral.halves()
    found: dict[str, Tensor] = {}
    first, second = (by_table({name: sums.saliency for name, sums in half.items()}, tables) for half in halves)
    for name in first:
        for prefix, values in (("g", first[name] + second[name]), ("half0", first[name]), ("half1", second[name])):
            found[f"{prefix}/{name}"] = torch.from_numpy(values)
    for table in layout.tables:
        weight = network.tables.read(table.name)["weight"]
        found[f"magnitude/{table.name}"] = weight.double().square().sum(0)
    for name, moments in spectral.moments().items():
        found[f"mean/{name}"] = torch.from_numpy(moments.mean).float()
    return found | to_tensors(spectral)
