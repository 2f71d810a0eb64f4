"""What the ids of one block of rows do to a slot's vector, and what cutting that block alone would cost.

A slot's vector is a sum over blocks, `v = sum_b v_b`: for one id it is the vector of the block that holds it, for a bag
the pooled part of each. Let m be the block's mass in an example: 1 or 0 for one id, the sum of the pooling factors of
the held ids of a bag. A cut of the block with encoder A, decoder P and offset c makes `v_b A P + m c` of v_b; with
`c = mu - mu A P` that is `m mu + (v_b - m mu) A P`, and the change of the vector is `(v_b - m mu)(A P - I)`, whose
second moment is what a spectral cut is chosen by (METHODS 1.2 with `v_b - m mu` in the place of `v - mu`; mu the
least-squares mean `sum m v_b / sum m^2`, for one id the mean over the examples that the block holds). Gradients and
curvature are summed over the examples with m > 0 and divided by all examples, so that what is predicted for blocks and
for whole tables adds up to the mean loss.

Letters: B examples, K blocks, D common width, T tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from autodim.dimension.moments import Floats, Moments
from autodim.dimension.spectral_sums import OWN, of_task

KINDS = ("active", "mass", "vectors", "gradients", "squares", "cross", "curvature")
_CHUNK = 4096


class BlockSums:
    """Sums over examples of the products of blocks' vectors and gradients, in float64, in two halves.

    Args:
        names: the K blocks, `slot[start:stop]`.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.batches = 0
        self.counts = [0, 0]
        self._shift: Tensor | None = None  # K x D
        self._sums: dict[str, Tensor] = {}

    def add(
        self, vectors: Tensor, masses: Tensor, jacobian: Sequence[Tensor], residual: Tensor, weight: Tensor
    ) -> None:
        """Adds one batch; never waits for the device.

        Args:
            vectors: B x K x D, what each block gives to its slot's vector.
            masses: B x K.
            jacobian: T of B x K x D, the gradient of each task's logit by the slot's vector.
            residual: B x T, p - y; 0 where a label is missing.
            weight: B x T, the curvature's weight.
        """
        size, width = vectors.shape[1:]
        if self._shift is None:
            m, v = masses.double(), vectors.detach().double()
            self._shift = (m[:, :, None] * v).sum(0) / m.square().sum(0).clamp(min=1e-300)[:, None]
            shapes: dict[str, tuple[int, ...]] = {k: (size,) for k in ("active", "mass")}
            shapes |= {k: (size, width) for k in ("vectors", "gradients")}
            for kind in KINDS:
                shape = shapes.get(kind, (size, width, width))
                shape = (len(jacobian), *shape) if kind in OWN else shape
                self._sums[kind] = torch.zeros(2, *shape, dtype=torch.float64, device=vectors.device)
        half = self.batches % 2
        sums = {kind: total[half] for kind, total in self._sums.items()}
        for start in range(0, len(vectors), _CHUNK):
            rows = slice(start, start + _CHUNK)
            m = masses[rows].double().T.contiguous()  # K x b
            held = (m != 0).to(torch.float64)[:, :, None]
            v = vectors[rows].detach().transpose(0, 1).double() - m[:, :, None] * self._shift[:, None]  # K x b x D
            for task, slope in enumerate(jacobian):
                j = slope[rows].detach().transpose(0, 1).double() * held  # K x b x D
                g = j * residual[rows, task].double()[:, None]
                j = j * weight[rows, task].double().sqrt()[:, None]
                sums["curvature"][task].baddbmm_(j.mT, j)
                sums["gradients"][task] += torch.bmm(m[:, None], g).squeeze(1)
                sums["cross"][task].baddbmm_(v.mT, g)
            sums["active"] += held.sum((1, 2))
            sums["mass"] += m.square().sum(1)
            sums["vectors"] += torch.bmm(m[:, None], v).squeeze(1)
            sums["squares"].baddbmm_(v.mT, v)
        self.counts[half] += len(vectors)
        self.batches += 1

    def to_tensors(self, scale: Tensor, task: int | None = None) -> dict[str, Tensor]:
        """Both halves by name, float64: `block/count`, `block.shift/BLOCK`, `block.KIND/BLOCK`.

        Args:
            scale: T, factor of each task's gradients and curvature: `Spectral.scale` of the same examples.
            task: of which task they are; None: the sum over all.
        """
        if self._shift is None or not self.names:
            return {}
        found = {"block/count": torch.tensor(self.counts, dtype=torch.float64)}
        sums = {kind: of_task(total, kind, task, scale) for kind, total in self._sums.items()}
        for k, name in enumerate(self.names):
            found[f"block.shift/{name}"] = self._shift[k].cpu()
            found |= {f"block.{kind}/{name}": sums[kind][:, k].cpu().clone() for kind in KINDS}
        return found


def is_own(name: str) -> bool:
    """Whether a tensor of `BlockSums.to_tensors` differs between tasks."""
    return name.startswith(tuple(f"block.{kind}/" for kind in OWN))


def block_moments(
    tensors: Mapping[str, Tensor],
) -> tuple[dict[str, Moments], dict[str, Moments], dict[str, Moments]]:
    """What `BlockSums.to_tensors` gave: the moments per block of all rows, and of each half."""
    prefix = "block.shift/"
    found: tuple[dict[str, Moments], ...] = ({}, {}, {})
    for key, shift in tensors.items():
        if not key.startswith(prefix):
            continue
        name = key.removeprefix(prefix)
        sums = {kind: tensors[f"block.{kind}/{name}"].numpy() for kind in KINDS}
        counts = tensors["block/count"].numpy()
        found[0][name] = moments_of({k: v.sum(0) for k, v in sums.items()}, shift.numpy(), float(counts.sum()))
        if counts.all():
            for half in (0, 1):
                found[1 + half][name] = moments_of(
                    {k: v[half] for k, v in sums.items()}, shift.numpy(), float(counts[half])
                )
    return found[0], found[1], found[2]


def moments_of(sums: Mapping[str, Floats], shift: Floats, examples: float) -> Moments:
    """Moments of one block.

    `count` is the examples in which the block has a part, `mean` is mu, `covariance` is of `v_b - m mu` over them;
    gradient `E[m g]`, cross `E[(v_b - m mu)^T g]` and curvature are over all examples. `Moments.change` is then the
    predicted change of the mean loss for a cut of this block (for bags an offset that is not spectral counts as if all
    masses were 1). A block that no example holds has zeros: it is worth nothing.
    """
    active, mass = float(sums["active"]), float(sums["mass"])
    if not active or not mass:
        nothing = np.zeros((len(shift), len(shift)))
        return Moments(0, np.zeros(len(shift)), np.zeros(len(shift)), nothing, nothing, nothing)
    offset, gradient = sums["vectors"] / mass, sums["gradients"] / examples
    covariance = (sums["squares"] - mass * np.outer(offset, offset)) / active
    return Moments(
        count=round(active),
        mean=shift + offset,
        gradient=gradient,
        covariance=(covariance + covariance.T) / 2,
        cross=sums["cross"] / examples - np.outer(offset, gradient),
        curvature=(sums["curvature"] + sums["curvature"].T) / 2 / examples,
    )


def saliency_of(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    """2 x D float64: the summed `v_b * g` of a block in each half of the rows, SSEDS's signed scores."""
    cross = tensors[f"block.cross/{name}"]
    return cross.diagonal(dim1=1, dim2=2) + tensors[f"block.shift/{name}"] * tensors[f"block.gradients/{name}"]
