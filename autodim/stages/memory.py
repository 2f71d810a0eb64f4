"""How much memory a search needs, before hours are spent: weights, their optimizer state, the best copy, a step's work.

Tables and state are counted exactly. A step's work is counted on a stand-in with tables of one row: the bytes that a
forward pass keeps for its backward pass, a row, and the bytes at the leaves; the factors on them were fitted to peaks
measured on a CPU (FM, DeepFM, PNN, DCN and DCN-V2; tests hold the sum within 30 % of the peak).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from autodim.config.schema import Config
from autodim.data.columns import Columns
from autodim.data.encoded import EncodedLog
from autodim.embedding.layout import Layout, Table, uniform_layout
from autodim.errors import TrainingError
from autodim.optim.costs import state_numbers
from autodim.stages.model_folder import build_network
from autodim.training.evaluation import chunk_rows
from autodim.training.feed import fits
from autodim.training.network import Network

_PROBE = 64  # rows of the stand-in's batch
_JUDGING = 0.39  # an evaluation's work a row, of a training step's
_DENSE_STATE = {"adam": 2, "adamw": 2, "adagrad": 1, "sgd": 0, "clippy_adagrad": 1, "clippy_adam": 2}


@dataclass(frozen=True)
class Memory:
    """Bytes that a training needs at its peak, over what the process holds already.

    Attributes:
        tables: embedding tables and first-order weights. dense: every other weight.
        state: of the optimizers. best: the copy of the best evaluation's weights.
        work: of one step or of one evaluation, whichever needs more.
        log: encoded rows on the training device (0 where they are memory-mapped).
    """

    tables: int
    dense: int
    state: int
    best: int
    work: int
    log: int

    @property
    def total(self) -> int:
        return self.tables + self.dense + self.state + self.best + self.work + self.log

    @property
    def certain(self) -> int:
        """What no smaller batch could save."""
        return self.tables + self.dense + self.state + self.best

    def to_json(self) -> dict[str, int]:
        return {**asdict(self), "total": self.total}


def estimate(config: Config, log: EncodedLog, device: torch.device) -> Memory:
    """Bytes at the peak of the pretraining, the largest of all stages."""
    layout = uniform_layout(log.slots, log.tables, config.model.width)
    parts = [log.part(name) for name in ("train", "valid")]
    on_device = 0 if device.type == "cpu" else sum(p.nbytes for p in parts if fits(p, device))
    rows = min(config.pretrain.batch, len(parts[0])), min(chunk_rows(device), len(parts[1]))
    return training_memory(config, layout, parts[0], rows, on_device)


def training_memory(config: Config, layout: Layout, like: Columns, rows: tuple[int, int], log: int = 0) -> Memory:
    """Bytes of a uniform training.

    Args:
        layout: of the true size.
        like: rows as they will come; a few are read for the lengths of the bags.
        rows: of a training batch and of an evaluation's chunk.
        log: bytes of rows on the device.
    """
    stand_in = replace(
        layout,
        tables=tuple(Table(t.name, 1) for t in layout.tables),
        blocks=tuple(replace(b, start=0, stop=1) for b in layout.blocks),
    )
    network = build_network(config.model, stand_in, like.numeric.shape[1], like.labels.shape[1], 0)
    linear = bool(network.tables.linear_parameters())
    numbers = sum(t.rows for t in layout.tables) * linear
    numbers += sum(b.rows * b.width for b in layout.blocks)
    dense = sum(p.numel() for p in network.dense_parameters())
    rules = config.pretrain.optimizer
    per_number, per_row = state_numbers(rules.tables.name)
    table_rows = sum(t.rows for t in layout.tables) * (1 + linear)
    state = numbers * per_number + table_rows * per_row + dense * _DENSE_STATE.get(rules.dense.name, 2)
    kept, leaves = _work_per_row(network, like)
    a_row = 1.12 * min(3 * kept + 0.73 * leaves, kept + 8 * leaves)  # fitted, see the head of this file
    work = max(a_row * rows[0], _JUDGING * a_row * rows[1]) + 4 * dense
    return Memory(4 * numbers, 4 * dense, 4 * state, 4 * (numbers + dense), int(work), log)


def check_memory(config: Config, log: EncodedLog, device: torch.device, free: int | None = None) -> str | None:
    """Compare the estimate with what is free.

    Args:
        free: bytes; default: what the system or the device says.

    Returns:
        A warning where the weights fit but the estimate as a whole does not, else None.

    Raises:
        TrainingError: weights and state alone do not fit; names the largest table and what would.
    """
    need = estimate(config, log, device)
    free = available(device) if free is None else free
    if free is None or need.total <= free:
        return None
    told = (
        f"memory: {need.total:,} bytes are needed at the peak of the pretraining ({need.tables:,} for embedding "
        f"tables, {need.state:,} for the optimizer's state, {need.best:,} for a copy of the best weights, "
        f"{need.work:,} for a step), {free:,} are free on {device}"
    )
    if need.certain <= free:
        return f"{told}; it may not fit: consider a smaller pretrain.batch (now {config.pretrain.batch:,})"
    largest = max(log.tables, key=lambda t: t.rows)
    width = int(config.model.width * free * 0.9 / need.certain)
    raise TrainingError(
        f"{told}; the largest table is {largest.name!r} with {largest.rows:,} ids; "
        + (f"use model.width={width} (now {config.model.width}), " if width else "")
        + "raise data.min_count, or use optimizer.tables.name=rowwise_adagrad"
    )


def available(device: torch.device) -> int | None:
    """Bytes that a training may take: of the device, or of the system within this process's control group."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    found = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    except OSError:
        return None  # not Linux
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            found.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return max(min(found), 0) if found else None


def _work_per_row(network: Network, like: Columns) -> tuple[float, float]:
    """Bytes a row that a forward pass keeps for its backward pass, and bytes of the leaves."""
    count = min(_PROBE, len(like))
    rows = like.batch(slice(0, count), "cpu")
    bags = {name: replace(bag, values=torch.zeros_like(bag.values)) for name, bag in rows.bags.items()}
    batch = replace(rows, ids=torch.zeros_like(rows.ids), bags=bags)
    kept: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    network.train()
    with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        lookup = network.tables.lookup(batch, learn=True)
        logits = network.logits(lookup, batch)
    leaves = sum(leaf.numel() * leaf.element_size() for leaf in lookup.leaves)
    del logits
    return sum(kept.values()) / count, leaves / count
