"""A model that was trained elsewhere, in the place of the pretraining: its tables and dense weights become ours.

Letters: n rows of a table (ours), m rows of the checkpoint's tensor, D the uniform width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from autodim import artifact
from autodim.config.schema import Config
from autodim.data.encoded import EncodedLog
from autodim.embedding.layout import uniform_layout
from autodim.errors import ConfigError, RunError, did_you_mean
from autodim.stages.model_folder import save_network
from autodim.stages.pretrain import build_log_network
from autodim.stages.session import Session
from autodim.stages.weights_map import Place, WeightsMap, own_map, read_map
from autodim.training.checkpoints import load_tensors
from autodim.training.evaluation import evaluate
from autodim.training.network import Network


def weights_inputs(config: Config) -> dict[str, str]:
    """Hashes of the files that a pretraining from weights depends on; none without.

    Raises:
        ConfigError: one of them is not there.
    """
    files = {"weights": config.pretrain.weights, "map": config.pretrain.weights_map}
    found = {}
    for name, path in files.items():
        if path is None:
            continue
        if not Path(path).is_file():
            raise ConfigError(f"pretrain.{'weights' if name == 'weights' else 'weights_map'}: {path}: no such file")
        found[name] = artifact.sha256(Path(path))
    return found


def import_network(config: Config, log: EncodedLog, folder: Path, session: Session) -> str:
    """Write FOLDER/model from the config's checkpoint, measured on the validation rows; returns a line about it.

    Raises:
        ConfigError: the map, or the shapes, do not fit the log and the model; all that is wrong at once.
        RunError: a file that holds no tensors.
    """
    path = Path(str(config.pretrain.weights))
    tensors = read_state(path)
    names = [t.name for t in log.tables]
    if config.pretrain.weights_map is not None:
        found = read_map(Path(config.pretrain.weights_map), names)
    else:
        known = own_map(list(tensors), names)
        if known is None:
            raise ConfigError(
                f"pretrain.weights_map: missing; {path} was not written by autodim ({_some(list(tensors))}), so a map "
                "has to say which tensor is which table: `tables: {TABLE: TENSOR}`"
            )
        found = known
    layout = uniform_layout(log.slots, log.tables, config.model.width)
    network = build_log_network(config.model, layout, log, 0)
    fill(network, tensors, found, log, str(path))
    valid = evaluate(network.to(session.device), log.part("valid"), session.device, log.tasks)[0]
    artifact.write_json(folder / "history.json", [])
    numeric = log.part("train").numeric.shape[1]
    extra = {"steps": 0, "weights": artifact.sha256(path)}
    save_network(folder / "model", network, config.model, numeric, list(log.labels), extra)
    score = "n/a" if math.isnan(valid.score) else f"{valid.score:.4f}"
    word = "AUC" if valid.r2 is None else "R2"
    return f"pretrain: weights of {path}; valid {word} {score}, loss {valid.loss:.4f}; nothing was trained"


def read_state(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, or of a torch state_dict (read with weights_only: no code is run).

    Raises:
        RunError: neither.
    """
    if path.suffix == ".safetensors":
        return load_tensors(path)
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has many kinds, by what the file turns out to be
        told = str(error).split("\n", maxsplit=1)[0] or type(error).__name__
        raise RunError(
            f"{path}: not a state_dict of tensors ({told}); "
            "save one with torch.save(model.state_dict(), PATH), or as .safetensors"
        ) from error
    if isinstance(value, Mapping) and isinstance(value.get("state_dict"), Mapping):
        value = value["state_dict"]
    if not isinstance(value, Mapping) or not any(isinstance(v, Tensor) for v in value.values()):
        raise RunError(f"{path}: found {type(value).__name__}, expected a state_dict: names and tensors")
    return {str(k): v for k, v in value.items() if isinstance(v, Tensor)}


def fill(network: Network, tensors: Mapping[str, Tensor], found: WeightsMap, log: EncodedLog, where: str) -> None:
    """Copy a checkpoint's tensors into a uniform network, in place.

    Raises:
        ConfigError: what does not fit, all at once.
    """
    problems: list[str] = []
    with torch.no_grad():
        for block in network.tables.layout.blocks:
            rows = row_numbers(log, block.table, found, problems)
            group = network.tables.group_of(block)
            if rows is None or group is None or group.weight is None:
                continue
            targets = [("tables", found.tables[block.table], group.weight)]
            if group.linear is not None and block.table in found.linear:
                targets.append(("linear", found.linear[block.table], group.linear))
            for kind, place, target in targets:
                wide = target.shape[1]
                source = _source(tensors, place, wide, f"{where}: {kind}.{block.table}", problems)
                if source is None:
                    continue
                if int(rows.max()) >= len(source):
                    problems.append(
                        f"{where}: {kind}.{block.table}: {place.tensor} has {len(source):,} rows there, but the log "
                        f"needs row {int(rows.max()):,} (ids: {found.ids}); expected {block.rows:,} ids"
                    )
                    continue
                values = source[rows.clamp(min=0)].to(target)
                unseen = rows < 0  # the out-of-vocabulary row: the mean of the known ones
                values[unseen] = values[~unseen].mean(0) if bool((~unseen).any()) else 0.0
                target[group.rows_of(block)] = values
        if not network.model.state_dict() or found.dense is not None:
            _fill_dense(network, tensors, found.dense, where, problems)
        else:
            problems.append(
                f"{where}: dense: missing; expected the model's other parameters "
                f"({_some(list(network.model.state_dict()))}): a prefix before these names, or "
                "`our name: the checkpoint's`"
            )
    if problems:
        raise ConfigError("\n".join(problems))


def row_numbers(log: EncodedLog, table: str, found: WeightsMap, problems: list[str]) -> Tensor | None:
    """For each of our n ids its row in the checkpoint, int64; -1 where the checkpoint has none (out of vocabulary)."""
    count = next(t.rows for t in log.tables if t.name == table)
    if found.ids == "encoded":
        return torch.arange(count)
    values = log.vocabulary(table).values.to_pylist()
    rows = np.full(count, -1, np.int64)
    for i, text in enumerate(values, start=1):
        if text is None:  # the missing value has no row of its own there
            continue
        if not str(text).strip().isdecimal():
            problems.append(
                f"table {table}: the log's value {text!r} is no whole number from 0, so it names no row (ids: integers)"
            )
            return None
        rows[i] = int(text)
    return torch.from_numpy(rows)


def _source(tensors: Mapping[str, Tensor], place: Place, wide: int, where: str, problems: list[str]) -> Tensor | None:
    if place.tensor not in tensors:
        problems.append(f"{where}: no tensor {place.tensor!r}{did_you_mean(place.tensor, list(tensors))}")
        return None
    tensor = tensors[place.tensor].float()
    tensor = tensor[:, None] if tensor.dim() == 1 and wide == 1 else tensor
    if tensor.dim() != 2 or tensor.shape[1] != wide:
        hint = "; set model.width to it" if tensor.dim() == 2 and wide != 1 else ""
        problems.append(f"{where}: {place.tensor} is {tuple(tensor.shape)}, expected rows x {wide}{hint}")
        return None
    if place.start >= len(tensor) or (place.stop or 0) > len(tensor):
        problems.append(f"{where}: rows [{place.start}, {place.stop}] of {place.tensor}, which has {len(tensor):,}")
        return None
    if not bool(torch.isfinite(tensor).all()):
        problems.append(f"{where}: {place.tensor} has numbers that are not finite")
        return None
    return tensor[place.start : place.stop]


def _fill_dense(
    network: Network,
    tensors: Mapping[str, Tensor],
    dense: str | Mapping[str, str] | None,
    where: str,
    problems: list[str],
) -> None:
    state = network.model.state_dict()
    names = {ours: dense + ours for ours in state} if isinstance(dense, str) else dict(dense or {})
    problems += [f"{where}: dense: no parameter {n!r}{did_you_mean(n, list(state))}" for n in names if n not in state]
    loaded = {}
    for ours, target in state.items():
        theirs = names.get(ours)
        if theirs is None or theirs not in tensors:
            told = (
                "is not in the map" if theirs is None else f"no tensor {theirs!r}{did_you_mean(theirs, list(tensors))}"
            )
            problems.append(f"{where}: dense: {ours} {tuple(target.shape)}: {told}")
        elif tensors[theirs].shape != target.shape:
            problems.append(
                f"{where}: dense: {theirs} is {tuple(tensors[theirs].shape)}, expected {tuple(target.shape)} for "
                f"{ours}; does model.hidden say what was trained?"
            )
        else:
            loaded[ours] = tensors[theirs].to(target)
    if not problems:
        network.model.load_state_dict(loaded)


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
