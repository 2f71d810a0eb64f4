"""Numbers that are not finite: where they are, in words that a person can act on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from autodim.data.columns import Columns
from autodim.embedding.group import Group
from autodim.errors import TrainingError
from autodim.training.network import Network

_ROWS = 1 << 20  # rows of a look at inputs


def weights_are_finite(network: Network) -> bool:
    """Whether every weight is. Cost: reads each once, and one wait for the device."""
    found = [_finite(value) for value in network.state().values()]
    return not found or bool(torch.stack(found).all())


def check_weights(network: Network, when: str) -> None:
    """Stop before weights that are not finite are judged, saved, scored or cut.

    Args:
        when: the place in the training, or the folder that the weights come from.

    Raises:
        TrainingError: names the first such tensor.

    Cost: reads every weight once, and one wait for the device.
    """
    if not weights_are_finite(network):
        name = next(name for name, value in network.state().items() if not bool(_finite(value)))
        raise TrainingError(
            f"{when}: {weight_words(network, name)} holds numbers that are not finite; expected finite ones; "
            "lower the learning rates, or delete the folder of the stage that made it and run again"
        )


def check_tensors(tensors: Mapping[str, Tensor], when: str) -> None:
    """Stop before numbers that are not finite decide about widths.

    Raises:
        TrainingError: names the first such tensor.
    """
    for name, value in tensors.items():
        if not bool(_finite(value)):
            raise TrainingError(
                f"{when}: {name} holds numbers that are not finite, and nothing is cut by such; expected finite ones; "
                "lower the learning rates of the pretraining and run again"
            )


def first_not_finite(network: Network, columns: Columns) -> str:
    """Where the trouble is: an input, a label, a weight, or nowhere any more."""
    for name, row in _inputs(columns):
        return f"row {row:,} of the training part holds such a number in {name}"
    for name, value in network.state().items():
        if not bool(_finite(value)):
            return f"{weight_words(network, name)} holds such numbers by now"
    return "inputs and weights are finite"


def weight_words(network: Network, name: str) -> str:
    """A tensor's name; for one that holds several tables, the table that is meant."""
    parts = name.split(".")
    if parts[:2] == ["tables", "groups"] and parts[3] in ("weight", "linear"):
        group: Group = network.tables.groups[int(parts[2])]  # type: ignore[assignment]
        value = network.state()[name]
        for block in group.blocks:
            if not bool(_finite(value[group.rows_of(block)])):
                return f"the table of {block.table!r} ({parts[3]})"
    return f"the weight {name!r}"


def _finite(value: Tensor) -> Tensor:
    if not value.is_floating_point() or not value.numel():
        return torch.ones((), dtype=torch.bool, device=value.device)
    low, high = value.aminmax()  # NaN comes through; no copy of a large table is made
    return low.isfinite() & high.isfinite()


def _inputs(columns: Columns) -> Iterator[tuple[str, int]]:
    """Numeric columns that are not finite and labels that are infinite (NaN means that there is none)."""
    for start in range(0, len(columns), _ROWS):
        rows = slice(start, start + _ROWS)
        for k in range(columns.numeric.shape[1]):
            bad = ~columns.numeric[rows, k].isfinite()
            if bool(bad.any()):
                yield f"numeric column {k}", start + int(bad.nonzero()[0])
        for k in range(columns.labels.shape[1]):
            bad = columns.labels[rows, k].isinf()
            if bool(bad.any()):
                yield f"label {k}", start + int(bad.nonzero()[0])
