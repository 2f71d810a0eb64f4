"""What a trained network would say if some slots read as something else: one lookup, many evaluations of the model.

An *edit* replaces the vectors of some slots, `v -> v @ matrix + constant`: a masked dimension, a slot's mean, a prefix,
a spectral cut. Of a table that is cut into blocks of rows, what one block gives to the vector is replaced: with v_b
that part and m its mass (`embedding.parts`), `v -> v + v_b @ (matrix - I) + m constant`. Rows are taken in chunks that
stay in the cache; each chunk is looked up once, and every edit changes only its slots in place, so that an edit costs
the model's part and nothing else.

Letters: E edits, B rows of a chunk, S slots, D common width, T tasks, N rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from autodim.data.columns import Columns
from autodim.data.tasks import Task
from autodim.embedding.parts import slot_part
from autodim.embedding.vectors import Stacked
from autodim.errors import RunError
from autodim.stages.session import Session
from autodim.training.losses import row_losses
from autodim.training.metrics import evaluate_logits
from autodim.training.network import Network

Place = int | tuple[int, int, int]  # position of a slot; or with the first row of a block and one past its last
Edit = Mapping[Place, tuple[Tensor, Tensor]]  # matrix D x D, constant D
CHUNK = 2048


def spread_rows(count: int, rows: int | None) -> Tensor:
    """At most `rows` of `count` row numbers, evenly spread, the first and the last among them (None: all)."""
    wanted = min(rows or count, count)
    # in integers: float32 tells no neighbours apart above 2^24 and rounds the last one out of the rows
    return torch.arange(wanted) * (count - 1) // max(wanted - 1, 1)


def masked(mask: Tensor) -> tuple[Tensor, Tensor]:
    """The edit of one slot that multiplies its dimensions by a mask, D."""
    return torch.diag(mask), torch.zeros_like(mask)


def constant(vector: Tensor) -> tuple[Tensor, Tensor]:
    """The edit of one slot that reads as the same vector for every example, D."""
    return vector.new_zeros(len(vector), len(vector)), vector


def edited_logits(
    network: Network, columns: Columns, edits: Sequence[Edit], session: Session, title: str, rows: int | None = None
) -> Iterator[tuple[int, slice, Tensor, Tensor]]:
    """Logits of a uniform network under each edit.

    Args:
        rows: at most so many rows of the columns, evenly spread.
        title: of the progress; the cost is said once the first chunk is measured, before the others start.

    Yields:
        (edit, slice of the N rows, logits B x T, labels B x T), for every edit within a chunk, chunk by chunk.

    Raises:
        Interrupted: a signal came.

    Cost: N lookups and E x N evaluations of the model.
    """
    device = session.device
    edits = [{p: (m.to(device), c.to(device)) for p, (m, c) in edit.items()} for edit in edits]
    blocks = {place for edit in edits for place in edit if not isinstance(place, int)}
    index = spread_rows(len(columns), rows)
    network.eval()
    session.progress.start(title, len(index))
    with torch.inference_mode():
        for start in range(0, len(index), CHUNK):
            began = time.monotonic()
            batch = columns.batch(index[start : start + CHUNK], device)
            lookup = network.tables.lookup(batch)
            slots, linear = lookup.inputs()
            vectors = slots.stack().clone()  # B x S x D
            original = vectors.clone()
            part = slice(start, start + len(batch))
            parts = {place: slot_part(lookup, batch, *place) for place in blocks}
            for number, edit in enumerate(edits):
                for place, (matrix, offset) in edit.items():
                    if isinstance(place, int):
                        vectors[:, place] = original[:, place] @ matrix + offset
                    else:
                        own, mass = parts[place]
                        vectors[:, place[0]] += own @ matrix - own + mass[:, None] * offset
                yield number, part, network.model(Stacked(vectors), linear, batch.numeric).float(), batch.labels
                for place in edit:
                    position = place if isinstance(place, int) else place[0]
                    vectors[:, position] = original[:, position]
            if start == 0 and len(index) > CHUNK:
                seconds = (time.monotonic() - began) * len(index) / len(batch)
                session.progress.line(
                    f"{title}: {len(edits):,} evaluations of {len(index):,} rows, about {seconds:,.0f} s"
                )
            session.progress.update(part.stop)
            session.stop.check()


def edited_losses(
    network: Network,
    columns: Columns,
    edits: Sequence[Edit],
    session: Session,
    title: str,
    rows: int | None = None,
    tasks: Sequence[Task] = (),
    importance: Mapping[str, float] | None = None,
) -> Tensor:
    """E float64: loss under each edit, in nats: summed over the main tasks, of each the mean over the rows that have
    its label times its importance. In the unit of the changes that moments predict.

    Args:
        tasks: what the labels ask for; empty: all are binary and main.
        importance: factor of a task's loss, by name; those not named count once.
    """
    main = main_tasks(tasks, columns)
    factors = task_factors(tasks, main, importance or {}).to(session.device)
    total = torch.zeros(len(edits), len(main), dtype=torch.float64, device=session.device)
    count = torch.zeros(len(main), dtype=torch.float64, device=session.device)
    for number, _, logits, labels in edited_logits(network, columns, edits, session, title, rows):
        values, known = row_losses(logits, labels, tasks)
        total[number] += torch.where(known, values, 0.0)[:, main].sum(0, dtype=torch.float64)
        if number == 0:
            count += known[:, main].sum(0)
    return (total / count.clamp(min=1) * factors).sum(1).cpu()


def edited_aucs(
    network: Network,
    columns: Columns,
    edits: Sequence[Edit],
    session: Session,
    title: str,
    rows: int | None = None,
    tasks: Sequence[Task] = (),
) -> list[float]:
    """AUC (of a regression R2) under each edit, the mean over the main tasks.

    Args:
        tasks: what the labels ask for; empty: all are binary and main.

    Raises:
        RunError: the labels of the rows have one class only.

    Cost: besides the evaluations, E x N x T float32 in memory and a sort each.
    """
    size = len(spread_rows(len(columns), rows))
    main = main_tasks(tasks, columns)
    scores = torch.zeros(len(edits), size, len(main), device=session.device)
    wanted = torch.zeros(size, len(main), device=session.device)
    for number, part, logits, labels in edited_logits(network, columns, edits, session, title, rows):
        scores[number, part] = logits[:, main]
        if number == 0:
            wanted[part] = labels[:, main]
    found = []
    for one in scores:
        judged = evaluate_logits(one, wanted, [tasks[t] for t in main] if tasks else ())
        kept = [m.score for m in judged if not math.isnan(m.score)]
        if not kept:
            raise RunError(
                f"{title}: the {size:,} scored rows have labels of one class only, so there is no AUC; score more rows "
                "(prune.rows) or other ones (prune.on)"
            )
        found.append(sum(kept) / len(kept))
    return found


def main_tasks(tasks: Sequence[Task], columns: Columns) -> list[int]:
    """Positions of the tasks that count; all where nothing is said of them."""
    return [t for t, task in enumerate(tasks) if task.role == "main"] or list(range(columns.labels.shape[1]))


def task_factors(tasks: Sequence[Task], main: Sequence[int], importance: Mapping[str, float]) -> Tensor:
    """What each main task's loss counts, float64; those not named count once."""
    return torch.tensor([importance.get(tasks[t].name, 1.0) if tasks else 1.0 for t in main], dtype=torch.float64)
