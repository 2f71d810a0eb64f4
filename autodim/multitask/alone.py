"""The model of one task alone that a sharing architecture is compared with; and the one that relatedness is measured
with. Torch-free."""

from __future__ import annotations

from autodim.config.schema import ModelConfig

MEASURED = ("shared_bottom", "omoe", "mmoe")  # all that is a task's own reads shared features


def alone(model: ModelConfig) -> ModelConfig:
    """A single-task model that reads the same input with at least the layers that one task sees.

    `shared_bottom`: the bottom and a tower, as one network. Experts: per level one layer as wide as all experts that
    a task may use, then the tower; it holds at least as many weights as the experts, so that a win of the shared model
    is no matter of size. Models without layers of the tasks' own stay what they are, with one output.
    """
    sharing = model.sharing
    if model.name == "shared_bottom":
        return model.model_copy(update={"name": "single", "hidden": (*model.hidden, *sharing.towers)})
    if model.name in ("omoe", "mmoe", "snr", "ple"):
        hidden = tuple(w * _experts(model) for w in sharing.expert_hidden)
        levels = sharing.levels if model.name in ("snr", "ple") else 1
        return model.model_copy(update={"name": "single", "hidden": (*(hidden * levels), *sharing.towers)})
    if model.name == "esmm":
        return model.model_copy(update={"name": "single"})
    return model


def measured(model: ModelConfig) -> ModelConfig:
    """The model that relatedness is measured with: the config's, or where a task's own parameters reach past shared
    features (own experts, own networks, none at all) a shared bottom on the same input, of the same width."""
    if model.name in MEASURED:
        return model
    hidden = alone(model).hidden if model.name in ("snr", "ple") else model.hidden
    if model.name in ("snr", "ple") and model.sharing.towers:
        hidden = hidden[: -len(model.sharing.towers)]
    return model.model_copy(update={"name": "shared_bottom", "hidden": hidden or (64,)})


def _experts(model: ModelConfig) -> int:
    sharing = model.sharing
    return sharing.own_experts + sharing.shared_experts if model.name == "ple" else sharing.experts
