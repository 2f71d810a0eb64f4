"""Statistics of spectral cuts: one forward and one backward a task over held-out rows, on any torch model.

Per slot, in float64: mu = E[v], C = Cov[v], M = E[(v - mu)^T g] and a curvature H of the loss by v (METHODS 1.2). For a
logit z with cross-entropy everything comes from the logit's gradient J = dz/dv of each example: `g = (p - y) J`, the
Gauss-Newton `H = E[p (1 - p) J^T J]`, or the empirical Fisher `H = E[(p - y)^2 J^T J]`; nothing is divided, so
saturated examples are exact. Each task has its own M and H, of its mean loss over the examples that have its label, as
training minimises it; those of several add up. The Fisher agrees with the Gauss-Newton form near convergence and
inflates on an overfitted model.

Letters: B examples, S slots, D common width, T tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from autodim.dimension.moments import Moments
from autodim.dimension.saliency import captured_outputs
from autodim.dimension.spectral_sums import Curvature, Spectral
from autodim.errors import ConfigError, TrainingError


def logit_terms(logits: Tensor, labels: Tensor, curvature: Curvature) -> tuple[Tensor, Tensor]:
    """Residual p - y and curvature weight of each logit, B x T; both 0 where the label is missing (NaN)."""
    known = ~labels.isnan()
    p = logits.detach().double().sigmoid()
    residual = torch.where(known, p - labels.nan_to_num(), 0.0)
    # 1 - sigmoid(z) loses its digits for large z, sigmoid(-z) does not
    spread = torch.where(known, p * (-logits.detach().double()).sigmoid(), 0.0)
    return residual, residual.square() if curvature == "fisher" else spread


def spectral(
    model: nn.Module,
    logits: Callable[[nn.Module, Any], Tensor],
    labels: Callable[[Any], Tensor],
    batches: Iterable[Any],
    slots: Mapping[str, nn.Module] | tuple[nn.Module, Sequence[str]],
    *,
    curvature: Curvature = "gauss_newton",
) -> dict[str, Moments]:
    """Spectral statistics of a user's own model; `autodim.dimension.factor.factorise` makes cuts of them.

    Args:
        model: scored in eval mode; its modes are restored, its gradients and weights not touched.
        logits: `logits(model, batch)` -> B or B x T, before the sigmoid.
        labels: `labels(batch)` -> the same shape, 0 and 1; NaN is a missing label. The loss is the sum over tasks of
            each one's mean over the examples that have its label.
        batches: anything that the two take; held-out rows.
        slots: slot name -> the module whose output (B x ... x D) is the slot's pooled vector; or one module whose
            output is B x S x D, with the S names. A module used several times an example (or only in some batches) has
            a vector for each use, and its predicted changes are those of all uses together.
        curvature: which H.

    Returns:
        Moments per slot.

    Raises:
        ConfigError: `slots`, logits or labels do not fit.
        TrainingError: no batch, a number that is not finite, or logits that do not depend on the slots.

    Cost: one forward and T backwards per batch; no gradients of weights.
    """
    groups = {key: (key,) for key in slots} if isinstance(slots, Mapping) else {"": tuple(slots[1])}
    modules = dict(slots) if isinstance(slots, Mapping) else {"": slots[0]}
    parts = {key: Spectral(names, curvature) for key, names in groups.items()}
    with captured_outputs(model, modules, "spectral") as captured:
        for batch in batches:
            for found in captured.values():
                found.clear()
            with torch.enable_grad():
                z, y = logits(model, batch), labels(batch)
                if z.shape != y.shape or z.dim() not in (1, 2):
                    raise ConfigError(
                        f"spectral: expected logits and labels B or B x T, found {tuple(z.shape)} and {tuple(y.shape)}"
                    )
                z, y = (z[:, None], y[:, None]) if z.dim() == 1 else (z, y)
                flat = [v for found in captured.values() for v in found]
                if not z.requires_grad or not flat:
                    raise TrainingError("spectral: the logits do not depend on the output of any of the slots' modules")
                tasks = range(z.shape[1])
                rows = [torch.autograd.grad(z[:, t].sum(), flat, allow_unused=True, retain_graph=True) for t in tasks]
            residual, weight = logit_terms(z, y, curvature)
            known = ~y.isnan()
            position = 0
            for key, found in captured.items():
                here = range(position, position + len(found))
                position += len(found)
                jacobians = [[rows[t][i] for t in tasks] for i in here]
                _add(parts[key], found, jacobians, residual, weight, known)
    return {name: m for part in parts.values() for name, m in part.moments().items()}


def _add(
    part: Spectral,
    vectors: list[Tensor],
    jacobians: Sequence[Sequence[Tensor | None]],
    residual: Tensor,
    weight: Tensor,
    known: Tensor,
) -> None:
    """Adds all uses of a module in one batch as one batch; each use has the terms of its example."""
    if not vectors:
        part.skip(known)
        return
    slots = len(part.names)
    values, slopes, terms = [], [], []
    for v, task_rows in zip(vectors, jacobians, strict=True):
        if len(v) != len(residual) or (slots > 1 and (v.dim() != 3 or v.shape[1] != slots)):
            raise ConfigError(
                f"spectral: expected slot vectors of {len(residual)} examples"
                + (f", {slots} slots each" if slots > 1 else "")
                + f"; found {tuple(v.shape)}"
            )
        shape = (-1, slots, v.shape[-1])
        values.append(v.reshape(shape))
        full = [torch.zeros_like(v) if j is None else j for j in task_rows]
        slopes.append(torch.stack([j.reshape(shape) for j in full]))
        uses = values[-1].shape[0] // max(len(v), 1)
        terms.append([x.repeat_interleave(uses, 0) for x in (residual, weight)])
    residuals, weights = (torch.cat(parts) for parts in zip(*terms, strict=True))
    part.add(torch.cat(values), torch.cat(slopes, 1), residuals, weights, known)
