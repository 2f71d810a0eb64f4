"""export: a run's allocation and weights in other systems' words."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from autodim import artifact
from autodim.dimension.allocation import Allocation
from autodim.errors import RunError
from autodim.stages.model_folder import load_network
from autodim.stages.predict import open_run


def read_allocation(folder: Path) -> Allocation:
    """The newest allocation of a run: the retrained one, else what `prune` found."""
    run = open_run(folder)
    for stage in ("retrain", "prune"):
        path = run.stage(stage) / "widths.yaml"
        if run.done(stage) is not None and path.is_file():
            return Allocation.from_yaml(path.read_text())
    raise RunError(f"{folder}: no widths yet; run `autodim search` or `autodim prune` with its config first")


def weights(folder: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a run's small model, by slot table, and text about them.

    `tables/<name>` n x d, `projections/<name>` d x D, `biases/<slot>` D, `linear/<name>` n, `dense/<parameter>`.
    """
    run = open_run(folder)
    stage = run.stage("retrain") if run.done("retrain") else run.need("prune")
    network, about = load_network(stage / "model")
    tensors: dict[str, Tensor] = {}
    words = {"weight": "tables", "projection": "projections", "linear": "linear"}
    for table in network.tables.layout.tables:
        for kind, tensor in network.tables.read(table.name).items():
            tensors[f"{words[kind]}/{table.name}"] = tensor.contiguous().clone()
    if network.tables.bias is not None:
        for row, position in enumerate(network.tables.biased):
            name = network.tables.layout.slots[position].name
            tensors[f"biases/{name}"] = network.tables.bias.detach()[row].clone()
    for name, tensor in network.model.state_dict().items():
        tensors[f"dense/{name}"] = tensor.detach().contiguous()
    return tensors, {"model": about["model"]["name"], "common_width": str(network.tables.layout.common)}


def write_output(path: Path, text: str) -> None:
    """Write an exported text; a file that exists is replaced, a device or a link is refused."""
    path.parent.mkdir(parents=True, exist_ok=True)
    artifact.write_text(path, text)
