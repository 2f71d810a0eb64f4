"""export: a run's allocation and weights in other systems' words."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from autodim.dimension.allocation import Allocation
from autodim.embedding.precision import Precision
from autodim.errors import RunError
from autodim.export import export
from autodim.export.weights import KINDS, bias_key, block_key, write
from autodim.stages.advice import advice
from autodim.stages.model_folder import load_network
from autodim.stages.predict import open_run
from autodim.stages.prepare import open_log
from autodim.stages.serve import at_precision, auxiliary_only


def read_allocation(folder: Path) -> Allocation:
    """The newest allocation of a run: the retrained one, else what `prune` found."""
    run = open_run(folder)
    for stage in ("retrain", "prune"):
        path = run.stage(stage) / "widths.yaml"
        if run.done(stage) is not None and path.is_file():
            return Allocation.from_yaml((run.need(stage) / path.name).read_text(encoding="utf-8"))
    raise RunError(f"{folder}: no widths yet; {advice(folder, 'prune')}")


def text(folder: Path, kind: str) -> str:
    """A run's widths in a named text format (`autodim.export.FORMATS`)."""
    return export(read_allocation(folder), kind, open_log(open_run(folder)).slots)


def write_weights(folder: Path, out: Path, precision: Precision | None = None) -> int:
    """Write the small model's tensors to a safetensors file; returns how many.

    Tables are written in the precision that the widths file gives each, or all in `precision`.

    `tables/<name>` n x d, `projections/<name>` d x D, `biases/<slot>` D, `linear/<name>` n, `dense/<parameter>`.
    Left out is what belongs to auxiliary tasks alone (`Model.own_parameters`).
    """
    run = open_run(folder)
    stage = run.need("retrain" if run.done("retrain") else "prune")
    if not (stage / "model").is_dir():
        raise RunError(f"{stage}: these widths are trained natively, so no model is cut; {advice(folder, 'retrain')}")
    network, about = load_network(stage / "model")
    layout = network.tables.layout
    tensors: dict[str, Tensor] = {}
    allocation = at_precision(Allocation.from_yaml((stage / "widths.yaml").read_text()), precision)
    for entry in allocation.entries:
        key = block_key(allocation, entry)
        for kind, tensor in network.tables.read_block(entry.block).items():
            if kind.startswith("offset/"):
                tensors[f"biases/{bias_key(allocation, entry, kind.removeprefix('offset/'))}"] = tensor
            else:
                tensors[f"{KINDS[kind]}/{key}"] = tensor
    if network.tables.bias is not None:
        for row, position in enumerate(network.tables.biased):
            tensors[f"biases/{layout.slots[position].name}"] = network.tables.bias.detach()[row]
    tasks = open_log(run).tasks
    left_out = auxiliary_only(network, tasks)
    for name, tensor in network.model.state_dict().items():
        if name not in left_out:
            tensors[f"dense/{name}"] = tensor.detach()
    extra = {"model": about["model"], "labels": about["labels"], "tasks": [asdict(task) for task in tasks]}
    write(out, tensors, allocation, layout.slots, extra=extra)
    return len(tensors)
