"""One-shot saliency of embedding dimensions: one forward and one backward, on any torch model.

SSEDS (Qu et al., SIGIR 2022, arXiv 2204.03281), its equations for the proxy: with a mask alpha over dimensions,
`g_ij = dL/dalpha_ij at 1 = sum over examples of v_ij * dL/dv_ij`. The right side needs no mask: slot vectors and their
gradients are enough, so no table is touched and sharded tables work as well.

Differs from the paper: g is summed signed over all batches in float64 and its absolute value taken once at the end
(the mean of |g| over batches tends to the gradient noise); scores come from held-out rows by default.

Letters: B examples, S slots, D common width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autodim.dimension.scores import Scores, by_table, normalise
from autodim.errors import ConfigError, TrainingError

_CHUNK = 1024  # examples a product in float64: stays in the cache
_CHUNK_GPU = 16_384  # few launches, bounded memory


class Saliency:
    """Sums `v * dL/dv` over examples: signed, in float64, in two halves (alternating batches).

    Args:
        names: the S slots, in the order of the vectors.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.examples = 0
        self.batches = 0
        self._sums: Tensor | None = None  # 2 x S x D

    def add(self, vectors: Tensor, gradients: Tensor, weight: float | Tensor = 1.0) -> None:
        """Adds one batch; never waits for the device.

        Args:
            vectors: B x S x D, the pooled slot vectors.
            gradients: B x S x D, of the batch's *summed* loss; or of its mean with `weight` B.
            weight: multiplies the batch's contribution.
        """
        if vectors.shape != gradients.shape or vectors.dim() != 3 or vectors.shape[1] != len(self.names):
            raise ValueError(
                f"expected vectors and gradients B x {len(self.names)} x D, "
                f"found {tuple(vectors.shape)} and {tuple(gradients.shape)}"
            )
        vectors, gradients = vectors.detach(), gradients.detach()
        if self._sums is None:
            self._sums = torch.zeros(2, *vectors.shape[1:], dtype=torch.float64, device=vectors.device)
        half = self._sums[self.batches % 2]
        chunk = _CHUNK if vectors.device.type == "cpu" else _CHUNK_GPU
        for v, g in zip(vectors.split(chunk), gradients.split(chunk), strict=True):
            half += (v.double() * g.double()).sum(0) * weight  # b x S x D -> S x D
        self.examples += len(vectors)
        self.batches += 1

    def signed(self) -> NDArray[np.float64]:
        """g: S x D.

        Raises:
            TrainingError: a number is not finite; the message names the slots.
        """
        return self.halves().sum(0)

    def scores(self) -> NDArray[np.float64]:
        """|g| / sum |g|: S x D, from 0 to 1, sum 1."""
        return np.stack(normalise(tuple(self.signed())))

    def halves(self) -> NDArray[np.float64]:
        """g of the even and of the odd batches: 2 x S x D; their sum is `signed()`.

        Raises:
            TrainingError: nothing was added, or a number is not finite.
        """
        if self._sums is None:
            raise TrainingError(f"saliency: no batch was scored for {_some(list(self.names))}; give at least one")
        sums = self._sums.cpu().numpy()
        broken = [n for n, ok in zip(self.names, np.isfinite(sums).all((0, 2)), strict=True) if not ok]
        if broken:
            raise TrainingError(
                f"saliency: the scores of {_some(broken)} are not finite; the trained model or its loss has NaN or "
                "infinite numbers. Nothing was cut. Look at the last losses, or train again with a lower learning rate"
            )
        return sums

    def by_table(self, tables: Mapping[str, str]) -> tuple[dict[str, NDArray[np.float64]], ...]:
        """Signed g per table (slot -> table given), in all and of each half; slots that share a table are summed."""
        halves = self.halves()
        return tuple(
            by_table(dict(zip(self.names, values, strict=True)), tables) for values in (halves.sum(0), *halves)
        )


def saliency(
    model: nn.Module,
    loss: Callable[[nn.Module, Any], Tensor],
    batches: Iterable[Any],
    slots: Mapping[str, nn.Module] | tuple[nn.Module, Sequence[str]],
    *,
    reduction: Literal["mean", "sum"] = "mean",
    weight: Callable[[Any], float] | None = None,
) -> Scores:
    """Scores each embedding dimension of a user's own model.

    Args:
        model: scored in eval mode; its modes are restored, its gradients and weights not touched.
        loss: `loss(model, batch)` -> scalar.
        batches: anything that `loss` takes; held-out rows, best.
        slots: slot name -> the module whose output (B x ... x D) is the slot's vector; or one module whose output is
            B x S x D, with the S names. Widths may differ between modules. A module used several times counts once
            for each use.
        reduction: whether `loss` is the mean or the sum over the batch's examples. Means are multiplied by B, so that
            batches count by their examples.
        weight: of a batch, in place of what `reduction` says (for a loss with another denominator).

    Returns:
        Signed scores per slot, with halves for `Scores.spearman`.

    Raises:
        ConfigError: `slots` does not fit the model.
        TrainingError: no batch, a score that is not finite, or slot vectors that the loss does not depend on.

    Cost: one forward and one backward per batch; no gradients of weights. Memory: one copy of the slot vectors.
    """
    modules = dict(slots) if isinstance(slots, Mapping) else {"": slots[0]}
    groups = {key: (key,) if isinstance(slots, Mapping) else tuple(slots[1]) for key in modules}
    parts = {key: Saliency(names) for key, names in groups.items()}
    examples = 0
    with captured_outputs(model, modules, "saliency") as captured:
        for batch in batches:
            for found in captured.values():
                found.clear()
            with torch.enable_grad():
                value = loss(model, batch)
                if value.dim() != 0:
                    raise ConfigError(f"saliency: loss(model, batch) must be a scalar, found {tuple(value.shape)}")
                flat = [v for found in captured.values() for v in found]
                if not value.requires_grad or not flat:
                    raise TrainingError("saliency: the loss does not depend on the output of any of the slots' modules")
                gradients = iter(torch.autograd.grad(value, flat, allow_unused=True))
            size = max(len(v) for v in flat)
            factor = weight(batch) if weight is not None else size if reduction == "mean" else 1
            examples += size
            for key, found in captured.items():
                _add(parts[key], found, [next(gradients) for _ in found], factor)
    halves = {n: h for part in parts.values() for n, h in zip(part.names, part.halves().swapaxes(0, 1), strict=True)}
    if not any(h.any() for h in halves.values()):
        raise TrainingError("saliency: all scores are zero; the loss does not depend on the slots' vectors")
    return Scores(tuple(halves), tuple(h.sum(0) for h in halves.values()), tuple(halves.values()), examples)


@contextmanager
def captured_outputs(model: nn.Module, modules: Mapping[str, nn.Module], who: str) -> Iterator[dict[str, list[Tensor]]]:
    """The outputs of some modules of a model, by name, filled by each forward pass; the caller empties the lists.

    The model is in evaluation mode within, and its modes are restored and the hooks removed afterwards.

    Args:
        who: names the caller in errors.

    Raises:
        ConfigError: a module that is not part of the model.
    """
    known = {id(m) for m in model.modules()}
    for key, module in modules.items():
        if id(module) not in known:
            raise ConfigError(f"{who}: the module of slot {key!r} is not part of the model; pass one of its modules")
    modes = {m: m.training for m in model.modules()}
    captured: dict[str, list[Tensor]] = {key: [] for key in modules}
    hooks = [m.register_forward_hook(capture(captured[key], key)) for key, m in modules.items()]
    try:
        model.eval()
        yield captured
    finally:
        for hook in hooks:
            hook.remove()
        for m, mode in modes.items():
            m.training = mode


def capture(found: list[Tensor], name: str) -> Callable[[nn.Module, Any, Any], Tensor]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor) or output.dim() < 2:
            raise ConfigError(f"saliency: the module of slot {name!r} must return a tensor B x ... x D")
        if not output.requires_grad:  # frozen tables
            output = output.detach().requires_grad_()
        found.append(output)
        return output.clone()  # the model may change its copy in place

    return hook


def _add(part: Saliency, vectors: list[Tensor], gradients: list[Tensor | None], weight: float) -> None:
    """Adds all uses of a module in one batch as one batch, so that halves stay disjoint."""
    if not vectors:  # this batch did not use the slot
        part.batches += 1
        return
    v = torch.cat([_rows(x, part) for x in vectors])
    g = torch.cat(
        [_rows(torch.zeros_like(x) if y is None else y, part) for x, y in zip(vectors, gradients, strict=True)]
    )
    part.add(v, g, weight)


def _rows(x: Tensor, part: Saliency) -> Tensor:
    """B x ... x D -> B' x S x D, where S is 1 for a slot's own module."""
    if len(part.names) == 1:
        return x.reshape(-1, 1, x.shape[-1])
    if x.dim() != 3 or x.shape[1] != len(part.names):
        raise ConfigError(f"saliency: expected slot vectors B x {len(part.names)} x D, found {tuple(x.shape)}")
    return x


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
