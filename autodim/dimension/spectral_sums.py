"""Sums of the products of slot vectors and gradients over batches: what the statistics of spectral cuts are made of.

Letters: B vectors, S slots, D common width, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from autodim.dimension.moments import Moments, Sums
from autodim.errors import TrainingError

Curvature = Literal["gauss_newton", "fisher"]
# examples a product: stays in the cache, and is short enough that its rounding in float32 (1e-6 of the sum of absolute
# values) is far below the noise of the sample; chunks are added up in float64
_CHUNK = 1024
_CHUNK_GPU = 16_384
KINDS = ("vectors", "gradients", "squares", "cross", "curvature")
OWN = ("gradients", "cross", "curvature")  # of each task


class Spectral:
    """Sums of the products of slot vectors and gradients, in two halves (alternating batches).

    Products of float32 vectors are made in float32 over at most 1,024 examples (a GPU: 16,384) and added up in float64;
    those of float64 vectors are float64 throughout.

    Args:
        names: the S slots, in the order of the vectors; all of one width D.
        curvature: which H.
    """

    def __init__(self, names: Sequence[str], curvature: Curvature = "gauss_newton") -> None:
        self.names = tuple(names)
        self.curvature = curvature
        self.batches = 0
        self.counts = [0, 0]  # of vectors
        self.examples = [0, 0]
        self._labelled: Tensor | None = None  # T
        self._shift: Tensor | None = None  # S x D
        self._sums: dict[str, Tensor] = {}  # 2 x S x D or 2 x S x D x D; of OWN 2 x T x S x ...

    def add(
        self,
        vectors: Tensor,
        jacobian: Tensor | Sequence[Tensor],
        residual: Tensor,
        weight: Tensor,
        known: Tensor | None = None,
    ) -> None:
        """Adds one batch; never waits for the device.

        Args:
            vectors: B x S x D, the pooled slot vectors.
            jacobian: T x B x S x D, the gradient of each task's logit by the vectors.
            residual: B x T, p - y; 0 where a label is missing.
            weight: B x T, the curvature's weight: p (1 - p), or (p - y)^2; 0 where a label is missing.
            known: examples x T bool, where there is a label. Some examples may have several of the B vectors, and some
                none. None: each has one vector and all labels.
        """
        if vectors.dim() != 3 or vectors.shape[1] != len(self.names) or any(j.shape != vectors.shape for j in jacobian):
            raise ValueError(
                f"expected vectors B x {len(self.names)} x D and jacobian T x B x {len(self.names)} x D, "
                f"found {tuple(vectors.shape)} and {[tuple(j.shape) for j in jacobian]}"
            )
        exact = torch.float64 if vectors.dtype == torch.float64 else torch.float32
        if self._shift is None:
            size, width = vectors.shape[1:]
            # rounded to what is subtracted below, so that undoing it is exact
            self._shift = vectors.detach().mean(0, dtype=torch.float64).to(exact).double()
            for kind in KINDS:
                shape: tuple[int, ...] = (size, width) if kind in ("vectors", "gradients") else (size, width, width)
                shape = (len(jacobian), *shape) if kind in OWN else shape
                self._sums[kind] = torch.zeros(2, *shape, dtype=torch.float64, device=vectors.device)
        half = self.batches % 2
        sums = {kind: total[half] for kind, total in self._sums.items()}
        shift = self._shift.to(exact)
        chunk = _CHUNK if vectors.device.type == "cpu" else _CHUNK_GPU
        for start in range(0, len(vectors), chunk):
            part = slice(start, start + chunk)
            v = vectors.detach()[part].to(exact) - shift  # b x S x D
            for task, by_logit in enumerate(jacobian):
                j = by_logit[part].detach().to(exact)  # b x S x D
                g = j * residual[part, task, None, None].to(exact)
                j = j * weight[part, task, None, None].to(exact).sqrt()
                sums["curvature"][task] += _products(j, j)
                sums["gradients"][task] += g.sum(0)
                sums["cross"][task] += _products(v, g)
            sums["vectors"] += v.sum(0)
            sums["squares"] += _products(v, v)
        self.counts[half] += len(vectors)
        self.skip(torch.ones_like(residual, dtype=torch.bool) if known is None else known)

    def skip(self, known: Tensor) -> None:
        """Adds the examples of a batch that has no vectors: their loss does not change with a cut.

        Args:
            known: examples x T bool, where there is a label.
        """
        labelled = known.sum(0)
        self._labelled = labelled if self._labelled is None else self._labelled + labelled
        self.examples[self.batches % 2] += len(known)
        self.batches += 1

    @property
    def scale(self) -> Tensor:
        """T float64, on the device: all examples for one that has the label of the task, 1 where none is missing.

        Sums over a task's labelled examples times this, divided by all examples, are its mean over labelled ones.
        """
        assert self._labelled is not None, "nothing was added"
        labelled = self._labelled.clamp(min=1).double()
        return torch.full_like(labelled, sum(self.examples)) / labelled  # a number over a tensor rounds twice

    @property
    def tasks(self) -> int:
        """T, as the batches had it; 0 before the first."""
        return self._sums["curvature"].shape[1] if self._sums else 0

    def halves(self, task: int | None = None) -> tuple[dict[str, Sums], dict[str, Sums]]:
        """Sums of the even and of the odd batches, per slot; those of each task's gradients and curvature times
        `scale`.

        Args:
            task: of which task the gradients and the curvature are; None: the sum over all.

        Raises:
            TrainingError: nothing was added, or a number is not finite; the message names the slots.
        """
        if self._shift is None:
            raise TrainingError(f"spectral: no batch was scored for {', '.join(self.names[:5])}; give at least one")
        arrays = {kind: of_task(total, kind, task, self.scale).cpu().numpy() for kind, total in self._sums.items()}
        shift = self._shift.cpu().numpy()
        broken = [n for i, n in enumerate(self.names) if not all(np.isfinite(a[:, i]).all() for a in arrays.values())]
        if broken:
            raise TrainingError(
                f"spectral: the statistics of {', '.join(broken[:5])} are not finite; the trained model or its loss "
                "has NaN or infinite numbers. Nothing was cut. Look at the last losses, or train again with a lower "
                "learning rate"
            )
        first, second = (
            {
                name: Sums(self.counts[half], self.examples[half], shift[i], *(arrays[kind][half, i] for kind in KINDS))
                for i, name in enumerate(self.names)
            }
            for half in (0, 1)
        )
        return first, second

    def moments(self) -> dict[str, Moments]:
        """Moments per slot, over all batches."""
        first, second = self.halves()
        return {name: Moments.of(first[name] + second[name]) for name in self.names}


def of_task(total: Tensor, kind: str, task: int | None, scale: Tensor) -> Tensor:
    """Sums of one kind, 2 x T x ... for those of OWN, at one task or (None) added up over all; 2 x ...

    Args:
        scale: T, factor of each task.
    """
    if kind not in OWN:
        return total
    if task is not None:
        return total[:, task] * scale[task]
    found = total[:, 0] * scale[0]  # one after the other: adding the tasks' own sums gives the same to the last bit
    for t in range(1, total.shape[1]):
        found += total[:, t] * scale[t]
    return found


def _products(first: Tensor, second: Tensor) -> Tensor:
    """b x S x D twice -> S x D x D, sums of outer products over b; read in place, without a copy by slots."""
    return torch.bmm(first.permute(1, 2, 0), second.transpose(0, 1))
