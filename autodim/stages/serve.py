"""The small model as a server reads it: tables rounded to the precision that the allocation gives each, or read from an
exported file. Projections, biases and the model stay in float32."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from autodim.data.tasks import Task
from autodim.dimension.allocation import Allocation
from autodim.dimension.blocks import spans_of
from autodim.embedding.layout import CostModel
from autodim.embedding.precision import Precision
from autodim.embedding.quantise import rounded
from autodim.errors import RunError
from autodim.export.weights import KINDS, bias_key, block_key, expected_shapes, load
from autodim.models.base import Model
from autodim.stages.model_folder import load_network
from autodim.training.network import Network


def at_precision(allocation: Allocation, precision: Precision | None) -> Allocation:
    """The allocation with one precision for all tables; None: as it is."""
    if precision is None:
        return allocation
    entries = tuple(replace(e, precision=precision if e.width else "fp32") for e in allocation.entries)
    return replace(allocation, entries=entries)


def served_bytes(allocation: Allocation) -> int:
    """Bytes of tables, projections and biases as they are served."""
    cost = CostModel("serving_bytes", allocation.common)
    return sum(replace(cost, precision=e.precision).of(e.block, len(e.slots)) for e in allocation.entries)


def precisions(allocation: Allocation) -> str:
    """For people: `int8`, or `int8 5 tables, fp16 2 tables`; blocks, where a table is cut into several."""
    found = Counter(e.precision for e in allocation.entries if e.width)
    if len(found) == 1:
        return next(iter(found))
    what = "block" if spans_of(allocation.entries) else "table"
    return ", ".join(f"{name} {count} {what}{'s' * (count > 1)}" for name, count in found.most_common())


def round_tables(network: Network, allocation: Allocation) -> None:
    """Round a network's tables, in place, to what a server would read.

    Raises:
        TrainingError: a number that float16 cannot hold.
    """
    for entry in allocation.entries:
        if entry.width and entry.precision != "fp32":
            weight = network.tables.read_block(entry.block)["weight"]
            weight.copy_(torch.from_numpy(rounded(weight.cpu().numpy(), entry.precision)))


def load_served(stage: Path, device: torch.device | None = None) -> Network:
    """The model of a stage's folder as it is handed over: its tables rounded as the widths file beside it says."""
    network, _ = load_network(stage / "model", device)
    widths = stage / "widths.yaml"
    if widths.is_file():
        round_tables(network, Allocation.from_yaml(widths.read_text(encoding="utf-8")))
    return network


def read_weights(network: Network, allocation: Allocation, path: Path, tasks: Sequence[Task] = ()) -> None:
    """Fill a network of these widths, in place, from a file that `autodim export --format safetensors` wrote.

    Args:
        tasks: the model's; what auxiliary ones own is in no such file, and stays as it is.

    Raises:
        RunError: not such a file, or one of other widths or another model.
    """
    tensors, _ = load(path)
    wrong = [
        f"{name}: found {tuple(tensors[name].shape) if name in tensors else 'none'}, expected {shape}"
        for name, shape in expected_shapes(allocation).items()
        if name not in tensors or tuple(tensors[name].shape) != shape
    ]
    if wrong:
        raise RunError(f"{path}: does not hold this run's model: {'; '.join(wrong[:5])}; export it again from this run")
    tables = network.tables
    with torch.no_grad():
        for entry in allocation.entries:
            key = block_key(allocation, entry)
            for kind, own in tables.read_block(entry.block).items():
                slot = kind.removeprefix("offset/")
                name = f"{KINDS[kind]}/{key}" if kind in KINDS else f"biases/{bias_key(allocation, entry, slot)}"
                own.copy_(tensors[name])
        if tables.bias is not None:
            for row, position in enumerate(tables.biased):
                tables.bias[row] = tensors[f"biases/{tables.layout.slots[position].name}"]
    dense = {name.removeprefix("dense/"): value for name, value in tensors.items() if name.startswith("dense/")}
    try:
        left_out = auxiliary_only(network, tasks)
        network.model.load_state_dict({k: v for k, v in network.model.state_dict().items() if k in left_out} | dense)
    except RuntimeError as error:
        raise RunError(f"{path}: does not hold this run's model: {error}; export it again from this run") from error


def auxiliary_only(network: Network, tasks: Sequence[Task]) -> set[str]:
    """Names of the model's parameters that only auxiliary tasks use: exported weights are without them."""
    own = network.model.own_parameters() if isinstance(network.model, Model) else []
    theirs = {id(p) for found, task in zip(own, tasks, strict=False) if task.role == "auxiliary" for p in found}
    return {name for name, p in network.model.named_parameters() if id(p) in theirs}
