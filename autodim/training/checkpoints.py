"""Checkpoints of a training: fresh directories, flushed, sealed by sha256, the newest two kept."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from autodim import artifact
from autodim.errors import RunError

KEEP = 2


class Checkpoints:
    """The checkpoints of one stage, in one folder.

    `step-N` holds everything that continues the training from step N; `best-N` the weights of the best evaluation. A
    best one lives for as long as a kept step refers to it.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        artifact.make_directory(folder)

    def save(self, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Save the state of a step; `state["best_step"]` names the best checkpoint that it refers to."""
        with artifact.fresh_directory(self.folder / f"step-{step:012d}") as folder:
            save_tensors(folder / "state.safetensors", tensors)
            artifact.write_json(folder / "state.json", state)
        self._prune()

    def save_best(self, step: int, tensors: dict[str, Tensor], about: dict[str, Any] | None = None) -> None:
        """Save the weights of the best evaluation so far, and what else belongs to it."""
        with artifact.fresh_directory(self.folder / f"best-{step:012d}") as folder:
            save_tensors(folder / "state.safetensors", tensors)
            if about is not None:
                artifact.write_json(folder / "about.json", about)

    def about_best(self, step: int) -> dict[str, Any]:
        """What `save_best(step)` kept beside the weights."""
        return artifact.read_json(self.folder / f"best-{step:012d}" / "about.json")

    def best(self, step: int) -> dict[str, Tensor]:
        """The weights saved by `save_best(step)`."""
        folder = self.folder / f"best-{step:012d}"
        artifact.verify(folder)
        return load_tensors(folder / "state.safetensors")

    def latest(self, good: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The newest checkpoint that is whole, its best one included; None when there is none.

        Args:
            good: only one whose state says that it is good (nothing was diverging then).
        """
        for step, folder in sorted(self._steps(), reverse=True):
            if not artifact.is_valid(folder):
                continue
            state = artifact.read_json(folder / "state.json")
            best = state.get("best_step")
            if good and not state.get("good", True):
                continue
            if best is None or best == step or artifact.is_valid(self.folder / f"best-{best:012d}"):
                return load_tensors(folder / "state.safetensors"), state
        return None

    def forget_after(self, step: int) -> None:
        """Remove the checkpoints of later steps: a training goes on from `step` in another way."""
        for number, folder in self._steps():
            if number > step:
                artifact.remove(folder)

    def clear(self) -> None:
        """Remove the checkpoints of a finished stage."""
        artifact.remove(self.folder)

    def _steps(self) -> list[tuple[int, Path]]:
        found = []
        for path in self.folder.iterdir():
            match = re.fullmatch(r"step-(\d+)", path.name)
            if match and path.is_dir():
                found.append((int(match[1]), path))
        return found

    def _prune(self) -> None:
        steps = sorted(self._steps())
        try:
            states = {folder: artifact.read_json(folder / "state.json") for _, folder in steps}
        except RunError:
            return  # a damaged neighbour: remove nothing that it may refer to
        kept = {folder for _, folder in steps[-KEEP:]}
        kept |= {folder for _, folder in [x for x in steps if states[x[1]].get("good", True)][-1:]}
        for folder in states.keys() - kept:
            artifact.remove(folder)
        referred = {states[folder].get("best_step") for folder in kept}
        for path in self.folder.glob("best-*"):
            if int(path.name.removeprefix("best-")) not in referred:
                artifact.remove(path)


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Tensors by name as safetensors.

    Raises:
        RunError: the disk refused.
    """
    try:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, path, metadata)
    except (SafetensorError, OSError) as error:
        size = sum(v.numel() * v.element_size() for v in tensors.values())
        raise RunError(
            f"{path}: could not be written ({error}; {size:,} bytes); what was there before is kept"
        ) from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name.

    Raises:
        RunError: not a safetensors file.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path}: cannot be read as safetensors ({error})") from error


def save_state(folder: Path, tensors: dict[str, Tensor], rest: list[dict[str, Any]]) -> None:
    """Optimizers' state (of `optimizer_tensors`) as a sealed folder."""
    with artifact.fresh_directory(folder) as temporary:
        save_tensors(temporary / "state.safetensors", tensors)
        artifact.write_json(temporary / "state.json", rest)


def load_state(folder: Path) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """The reverse of `save_state`.

    Raises:
        RunError: missing or damaged.
    """
    artifact.verify(folder)
    return load_tensors(folder / "state.safetensors"), artifact.read_json(folder / "state.json")


def below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def optimizer_tensors(optimizers: list[torch.optim.Optimizer]) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """The optimizers' state as tensors by name, and the rest (learning rates, step counts) as JSON values."""
    found = [optimizer.state_dict() for optimizer in optimizers]
    tensors, rest = state_tensors([state["state"] for state in found])
    for entry, state in zip(rest, found, strict=True):
        entry["groups"] = [{k: v for k, v in g.items() if k != "params" and _plain(v)} for g in state["param_groups"]]
    return tensors, rest


def state_tensors(
    states: Sequence[Mapping[int, Mapping[str, Any]]],
) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """The reverse of `states_of`: per-parameter states of several optimizers, without any groups."""
    tensors: dict[str, Tensor] = {}
    rest: list[dict[str, Any]] = []
    for i, state in enumerate(states):
        plain: dict[str, dict[str, Any]] = {}
        for key, entry in state.items():
            for name, value in entry.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer{i}/{key}/{name}"] = value
                else:
                    plain.setdefault(str(key), {})[name] = value
        rest.append({"state": plain, "groups": []})
    return tensors, rest


def states_of(tensors: dict[str, Tensor], rest: list[dict[str, Any]]) -> list[dict[int, dict[str, Any]]]:
    """What `optimizer_tensors` gave, per optimizer as its `state_dict` has it: by the parameter's number, by name."""
    found = []
    for i, saved in enumerate(rest):
        states: dict[int, dict[str, Any]] = {int(k): dict(v) for k, v in saved["state"].items()}
        for key, value in below(tensors, f"optimizer{i}/").items():
            number, name = key.split("/", 1)
            states.setdefault(int(number), {})[name] = value
        found.append(states)
    return found


def load_optimizers(
    optimizers: list[torch.optim.Optimizer], tensors: dict[str, Tensor], rest: list[dict[str, Any]]
) -> None:
    """The reverse of `optimizer_tensors`."""
    for optimizer, saved, entries in zip(optimizers, rest, states_of(tensors, rest), strict=True):
        state = optimizer.state_dict()
        groups = [{**g, **s} for g, s in zip(state["param_groups"], saved["groups"], strict=True)]
        optimizer.load_state_dict({"state": entries, "param_groups": groups})


def _plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_plain(v) for v in value)
    return value is None or isinstance(value, bool | int | float | str)
