"""A trained network on disk: weights as safetensors, everything else as JSON; no pickle.

model.json            layout, model settings, labels, what the weights are
network.safetensors   the weights
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from autodim import artifact
from autodim.config.schema import ModelConfig
from autodim.embedding.layout import Block, Layout, Slot, Table
from autodim.embedding.tables import Tables
from autodim.errors import RunError
from autodim.models import build_model, model_class
from autodim.training.checkpoints import load_tensors, save_tensors
from autodim.training.network import Network
from autodim.training.seeds import derive, generator

FORMAT = 1


def build_network(config: ModelConfig, layout: Layout, numeric: int, tasks: int, seed: int) -> Network:
    """A fresh network: tables for the layout, the named model at the layout's common width."""
    tables = Tables(layout, linear=model_class(config.name).uses_linear)
    tables.initialise(config.init_std, generator(seed, "tables"))
    model = build_model(
        config.model_copy(update={"width": layout.common}), len(layout.slots), numeric, tasks, derive(seed, "model")
    )
    return Network(tables, model)


def save_network(
    folder: Path, network: Network, config: ModelConfig, numeric: int, labels: list[str], extra: dict[str, Any]
) -> None:
    """Write a network into a fresh sealed directory."""
    with artifact.fresh_directory(folder) as temporary:
        save_tensors(temporary / "network.safetensors", network.state())
        artifact.write_json(
            temporary / "model.json",
            {
                "format": FORMAT,
                "model": config.model_dump(mode="json"),
                "layout": layout_to_json(network.tables.layout),
                "numeric": numeric,
                "labels": labels,
                **extra,
            },
        )


def load_network(folder: Path, device: torch.device | None = None) -> tuple[Network, dict[str, Any]]:
    """A network and its description.

    Raises:
        RunError: the folder is missing, damaged, or of a newer format.
    """
    artifact.verify(folder)
    about = artifact.read_json(folder / "model.json")
    if about.get("format") != FORMAT:
        raise RunError(
            f"{folder / 'model.json'}: format {about.get('format')!r}, this version reads {FORMAT}; upgrade autodim"
        )
    config = ModelConfig(**about["model"])
    layout = layout_from_json(about["layout"])
    network = build_network(config, layout, about["numeric"], len(about["labels"]), seed=0)
    network.load_state(load_tensors(folder / "network.safetensors"))
    return network.to(device or torch.device("cpu")), about


def layout_to_json(layout: Layout) -> dict[str, Any]:
    return asdict(layout)


def layout_from_json(value: dict[str, Any]) -> Layout:
    return Layout(
        common=value["common"],
        slots=tuple(Slot(**s) for s in value["slots"]),
        tables=tuple(Table(**t) for t in value["tables"]),
        blocks=tuple(Block(**b) for b in value["blocks"]),
    )
