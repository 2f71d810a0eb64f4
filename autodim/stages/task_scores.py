"""Statistics of each task beside those of all together, as tensors of one file.

What depends on a task (gradients, curvature, saliencies) stands under the name of the sum with `taskT/` before it, T
being the place among the main tasks; what does not (means, covariances, magnitudes) stands once. Everything that a task
has of its own is linear in the loss (its mean over the rows that have the label), so the sum over tasks is the
statistic of the sum of these losses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

_NAME = re.compile(r"task(\d+)/(.*)", re.DOTALL)


def by_tasks(own: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of two or more tasks under their names, and the sums of them under the plain ones."""
    found = {f"task{t}/{name}": tensor for t, tensors in enumerate(own) for name, tensor in tensors.items()}
    for name, tensor in own[0].items():
        total = tensor.clone()
        for others in own[1:]:
            total += others[name]
        found[name] = total
    return found


def split_tasks(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """The tensors of all tasks together, and per task everything with its own in the place of the sums."""
    together: dict[str, Tensor] = {}
    own: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = _NAME.fullmatch(name)
        if match is None:
            together[name] = tensor
        else:
            own.setdefault(int(match[1]), {})[match[2]] = tensor
    return together, [together | own[t] for t in sorted(own)]
