"""hessian: how sharply a trained model's loss bends by each id's vector, against how frequent the id is.

The largest eigenvalue of every id's own block of the Hessian, exactly (see `autodim.optim.hessian`), for one run or
for two that were trained on the same log, side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from autodim import artifact
from autodim.config.catalogue import config_file, is_there
from autodim.data.batch import Batch
from autodim.data.batches import sequential
from autodim.data.columns import Columns
from autodim.data.encoded import EncodedLog
from autodim.embedding.layout import Layout
from autodim.errors import RunError
from autodim.files import finite
from autodim.optim.hessian import Curvature, pearson, slot_curvature, spearman
from autodim.stages.model_folder import load_network
from autodim.stages.predict import MODELS
from autodim.stages.session import Session
from autodim.training.network import Network

BATCH = 2048
MOST_BYTES = 2 << 30  # of one slot's blocks in float64; wider or longer slots are left out and named
TOP = 0.1  # share of the ids, by frequency, that count as the frequent ones


@dataclass(frozen=True)
class Trained:
    """A trained model to look at: its name, network, log, and its folder's rows."""

    name: str
    network: Network
    log: EncodedLog


@dataclass(frozen=True)
class Plan:
    """What is to be computed.

    Attributes:
        slots: the one-hot slots with tables of their own. left_out: the others, with the reason.
        rows: of the part that are read. passes: backward passes in all.
    """

    slots: tuple[str, ...]
    left_out: dict[str, str]
    rows: int
    passes: int


def open_trained(folder: Path, which: str, device: torch.device, name: str = "") -> Trained:
    """The model of a run folder, or of a cell of `autodim recipes`.

    Args:
        which: `uniform`, `small` or `cut`. name: what tables call it; default: the folder.

    Raises:
        NoSuchRun: the folder is neither. RunError: no such model, or no log beside it.
    """
    if not is_there(folder / "log.json"):
        config_file(folder)
    stage = folder / MODELS[which]
    if not (stage / "model" / "model.json").is_file():
        raise RunError(f"{folder}: no {which} model ({stage / 'model'}); expected a finished run, or a cell of recipes")
    log = folder / "data" / "log"
    if (folder / "log.json").is_file():
        log = Path(artifact.read_json(folder / "log.json")["log"])
    if not log.is_dir():
        raise RunError(f"{log}: the encoded log is not here; run prepare again")
    return Trained(name or str(folder), load_network(stage / "model", device)[0], EncodedLog.open(log))


def short_names(folders: Sequence[Path]) -> list[str]:
    """Names that tell folders apart: the last part of each path, or (where these agree) the last that differs."""
    parts = [f.resolve().parts for f in folders]
    for back in range(1, min(map(len, parts)) + 1):
        names = [p[-back] for p in parts]
        if len(set(names)) == len(names):
            return names
    return [str(f) for f in folders]


def same_log(first: Trained, second: Trained) -> None:
    """Two models can be compared id by id only on one log.

    Raises:
        RunError: the logs' ids differ.
    """
    a, b = first.log.manifest, second.log.manifest
    if (a.config_hash, a.source_hash, a.tables) != (b.config_hash, b.source_hash, b.tables):
        raise RunError(
            f"{first.name} and {second.name} were trained on different logs ({a.source_hash[:12]}, "
            f"{b.source_hash[:12]}), so their ids differ; compare two runs of one log, split and data section"
        )


def plan(models: Sequence[Trained], part: str, rows: int) -> Plan:
    """Which slots can be computed, and what it costs."""
    layouts = [m.network.tables.layout for m in models]
    left_out: dict[str, str] = {}
    slots = []
    for slot in layouts[0].slots:
        reason = next(filter(None, (excluded(layout, slot.name) for layout in layouts)), None)
        if reason is None:
            slots.append(slot.name)
        else:
            left_out[slot.name] = reason
    count = min(rows, len(models[0].log.part(part)))
    batches = -(-count // BATCH)
    passes = sum(batches * (_width(layout, s) + 1) for layout in layouts for s in slots)
    return Plan(tuple(slots), left_out, count, passes)


def excluded(layout: Layout, slot: str) -> str | None:
    """Why a slot's blocks cannot be computed; None where they can."""
    table = next(s.table for s in layout.slots if s.name == slot)
    readers = layout.slots_of(table)
    if any(s.multi for s in readers):
        return "multi-valued: its ids' blocks are not separate"
    if len(readers) > 1:
        return f"shares table {table} with {', '.join(s.name for s in readers if s.name != slot)}"
    if len(layout.blocks_of(table)) > 1:
        return "cut into blocks of rows; look at the uniform model"
    width, rows = _width(layout, slot), layout.table(table).rows
    if not width:
        return "width 0: no vectors"
    if rows * width**2 * 8 > MOST_BYTES:
        return f"{rows:,} ids of width {width} need {rows * width**2 * 8 / 2**30:.0f} GiB"
    return None


def hessian(models: Sequence[Trained], found: Plan, part: str, session: Session) -> list[dict[str, Any]]:
    """One entry a model and slot.

    Returns:
        `run`, `slot`, `ids` (met in the rows), `counts`, `top`, `gradient_norm` (lists over these ids, by id),
        `id` (their numbers), `pearson_count`, `spearman_count`, `pearson_gradient`, `spearman_gradient` (of the top
        eigenvalue against the count and against the gradient's norm), `top_frequent` and `top_rare` (mean top
        eigenvalue of the most frequent tenth of the ids and of the others).
    """
    entries = []
    for model in models:
        columns = model.log.part(part)
        missing = bool(torch.isnan(columns.labels).any())
        for slot in found.slots:
            width = _width(model.network.tables.layout, slot)
            session.progress.start(f"hessian: {model.name} {slot}", found.rows * (width + 1))
            batches = _batches(columns, found.rows, session, width + 1)
            curvature = slot_curvature(model.network, batches, slot, missing, model.log.tasks)
            entries.append(_entry(model.name, slot, curvature))
    return entries


def _batches(columns: Columns, rows: int, session: Session, passes: int) -> Iterator[Batch]:
    done = 0
    for part in sequential(rows, BATCH):
        session.stop.check()
        yield columns.batch(part, session.device)
        done += part.stop - part.start
        session.progress.update(done * passes)


def _entry(run: str, slot: str, curvature: Curvature) -> dict[str, Any]:
    met = curvature.counts.nonzero()[:, 0]
    counts, top, gradient = (t[met].cpu().double() for t in (curvature.counts, curvature.top, curvature.gradient_norm))
    order = torch.argsort(counts, descending=True, stable=True)
    frequent = max(1, round(TOP * len(met)))
    first, rest = top[order[:frequent]], top[order[frequent:]]
    numbers = {
        "pearson_count": pearson(counts, top),
        "spearman_count": spearman(counts, top),
        "pearson_gradient": pearson(gradient, top),
        "spearman_gradient": spearman(gradient, top),
        "top_frequent": float(first.mean()) if len(first) else math.nan,
        "top_rare": float(rest.mean()) if len(rest) else math.nan,
    }
    return {
        "run": run,
        "slot": slot,
        "ids": len(met),
        **finite(numbers),
        "id": met.tolist(),
        "counts": [int(c) for c in counts.tolist()],
        "top": top.tolist(),
        "gradient_norm": gradient.tolist(),
    }


def table(entries: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Head and cells: a line a slot and run; with two runs also the second's frequent ids against the first's."""
    head = ["slot", "run", "ids", "Spearman count", "Pearson count", "Spearman gradient", "Pearson gradient"]
    several = len({e["run"] for e in entries}) > 1
    head += ["frequent tenth", "others", *(["to first"] if several else [])]
    body = []

    def shown(value: float | None, form: Callable[[float], str]) -> str:
        return "–" if value is None else form(value)

    for slot in dict.fromkeys(e["slot"] for e in entries):
        own = [e for e in entries if e["slot"] == slot]
        for entry in own:
            names = ("spearman_count", "pearson_count", "spearman_gradient", "pearson_gradient")
            cells = [shown(entry[n], lambda v: f"{v:.2f}") for n in names]
            cells += [shown(entry[n], lambda v: f"{v:.3g}") for n in ("top_frequent", "top_rare")]
            base = own[0]["top_frequent"]
            ratio = entry["top_frequent"] / base if base and entry["top_frequent"] is not None else None
            if several:
                cells.append("" if entry is own[0] else shown(ratio, lambda v: f"{v:.2f}"))
            body.append([slot, entry["run"], f"{entry['ids']:,}", *cells])
    return head, body


def _width(layout: Layout, slot: str) -> int:
    table = next(s.table for s in layout.slots if s.name == slot)
    return layout.blocks_of(table)[0].width
