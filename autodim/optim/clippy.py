"""Clippy: bound the update and not the gradient (Tang et al., KDD 2023, arXiv 2302.09178), on Adagrad and on Adam.

Letters: N parameter tensors with a gradient, r an update's direction, sigma the factor that a tensor's update gets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

INF = float("inf")


@dataclass(frozen=True)
class ClippyMode:
    """The choices in which published forms differ.

    Attributes:
        relative: an update may change a weight by this share of it,
        absolute: plus this, at least.
        eps: inside Adagrad's root.
        accumulate_first: Adagrad's sum takes the new gradient before the direction is computed, not after.
        accumulator_relative: the limit also grows by this share of `1 / sqrt(G)` (Adagrad).
        clip_accumulator: the sum takes the clipped gradient (needs `accumulate_first` False).
    """

    relative: float = 0.5
    absolute: float = 1e-2
    eps: float = 0.0
    accumulate_first: bool = True
    accumulator_relative: float = 0.0
    clip_accumulator: bool = False

    def __post_init__(self) -> None:
        if min(self.relative, self.absolute, self.eps, self.accumulator_relative) < 0:
            raise ValueError(f"no number of a Clippy mode may be negative; found {self}")
        if self.clip_accumulator and self.accumulate_first:
            raise ValueError("clip_accumulator needs accumulate_first=False: sigma is known only after the direction")


MODES: dict[str, ClippyMode] = {
    "paper": ClippyMode(),
    "tfrs": ClippyMode(relative=0.1, absolute=1e-7, eps=1e-7, accumulate_first=False),
}


def shrink(
    update: Tensor, references: Sequence[Tensor], relative: Sequence[float], absolute: float
) -> tuple[Tensor, Tensor]:
    """Shrink an update as a whole until no number of it exceeds `sum_i relative_i |reference_i| + absolute`.

    Args:
        update: any shape. references: of that shape, as many as `relative`.

    Returns:
        The shrunk update, and its factor in [0, 1], 0-dim. Where update and limit are both 0, that number sets none.
    """
    limit = torch.full_like(update, absolute)
    for reference, share in zip(references, relative, strict=True):
        limit = limit + share * reference.abs()
    ratio = torch.where(update == 0, 0.0, update.abs() / limit)
    scale = 1 / torch.linalg.vector_norm(ratio, INF).clamp_min(1.0)
    return update * scale, scale


class Clippy(torch.optim.Optimizer):
    """Base of the two rules: everything but the direction.

    State per parameter: `sigma` and `skipped` (steps left out for a gradient that was not finite), 0-dim float32, and
    the rule's own tensors. Neither is read on the host by a step.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        mode: str | ClippyMode,
        weight_decay: float,
        fused: bool | None,
        options: dict[str, Any],
    ):
        if isinstance(mode, str):
            if mode not in MODES:
                raise ValueError(f"mode must be one of {', '.join(MODES)} or a ClippyMode; found {mode!r}")
            mode = MODES[mode]
        if lr <= 0 or weight_decay < 0:
            raise ValueError(
                f"lr must be positive and weight_decay must not be negative; found lr={lr}, weight_decay={weight_decay}"
            )
        if fused:
            raise ValueError("Clippy has no fused kernel; leave `fused` at None")
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, **asdict(mode), **options})

    def fresh(self, parameter: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        """State of a parameter that has made no step."""
        raise NotImplementedError

    def directions(
        self,
        gradients: list[Tensor],
        finite: tuple[Tensor, ...],
        states: list[dict[str, Tensor]],
        group: dict[str, Any],
    ) -> tuple[list[Tensor], list[Tensor] | None]:
        """Update directions r (fresh tensors), and what else the limits refer to (or None).

        Args:
            gradients: N, all finite: those that were not are zeros.
            finite: N 0-dim booleans; a parameter whose one is False must keep its state.
        """
        raise NotImplementedError

    def after(
        self, gradients: list[Tensor], sigma: tuple[Tensor, ...], states: list[dict[str, Tensor]], group: dict[str, Any]
    ) -> None:
        """What is updated only once sigma is known."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a (dense) gradient; none waits for the device."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None and p.numel()]
            if parameters:
                self._update(parameters, group)
        return loss

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                zero = torch.zeros((), device=parameter.device)
                self.state[parameter] = {**self.fresh(parameter, group), "sigma": zero + 1, "skipped": zero}
        states = [self.state[p] for p in parameters]
        raw: list[Tensor] = [p.grad for p in parameters if p.grad is not None]
        if group["weight_decay"]:
            raw = list(torch._foreach_add(raw, parameters, alpha=group["weight_decay"]))
        known = torch.stack(torch._foreach_norm(raw)).isfinite()  # N; a NaN anywhere makes the norm NaN
        finite = known.unbind()
        # 0 * NaN is NaN, so those numbers go first; four times faster on a CPU than torch.where
        gradients = [g.nan_to_num(0.0, 0.0, 0.0).mul_(ok) for ok, g in zip(finite, raw, strict=True)]
        directions, references = self.directions(gradients, finite, states, group)

        limits = torch._foreach_abs(parameters)
        torch._foreach_mul_(limits, group["relative"])
        if references is not None:
            torch._foreach_add_(limits, references, alpha=group["accumulator_relative"])
        # 0 / 0 must count as 0; only an `absolute` of 0 can meet it
        torch._foreach_add_(limits, max(group["absolute"], torch.finfo(parameters[0].dtype).tiny))
        ratios = torch._foreach_div(directions, limits)
        torch._foreach_abs_(ratios)
        largest = torch.stack(torch._foreach_max(ratios))  # N; the norm by inf says the same, 20 times slower on a CPU
        sigma = 1 / largest.mul_(group["lr"]).clamp_min_(1.0)

        factors = torch.where(known, sigma, 0.0).mul_(-group["lr"]).unbind()
        for parameter, direction, factor in zip(parameters, directions, factors, strict=True):
            parameter.addcmul_(direction, factor)
        self.after(gradients, sigma.unbind(), states, group)
        sigmas, skipped = sigma.float().unbind(), (~known).float().unbind()
        for state, value, left_out in zip(states, sigmas, skipped, strict=True):
            state["sigma"] = value
            state["skipped"] = state["skipped"] + left_out


class ClippyAdagrad(Clippy):
    """Clippy on Adagrad, the paper's algorithm 1.

    `G += g^2; r = g / sqrt(G); sigma = min(1, min_j (relative |w_j| + absolute) / (lr |r_j|)); w -= lr sigma r`, one
    sigma per parameter tensor.

    Args:
        params: dense parameters, or groups of them.
        lr: learning rate, > 0.
        initial: where G starts, > 0 unless the mode has an eps.
        mode: `paper`, `tfrs` (TensorFlow Recommenders: limits .1 and 1e-7, G updated after the step, eps 1e-7 inside
            the root; zero-initialised tensors take about 30 times as many steps to leave zero) or a ClippyMode.
        weight_decay: L2 penalty added to the gradient, >= 0.
        fused: None or False; taken so that every dense rule is built alike.

    A gradient with a number that is not finite leaves its tensor and its state as they were; `skipped` counts it.

    Differs from the paper: the skip; nothing else in mode `paper`.

    Cost: about eleven passes over the dense parameters in foreach kernels; no host synchronisation.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        initial: float = 0.1,
        mode: str | ClippyMode = "paper",
        weight_decay: float = 0.0,
        fused: bool | None = None,
    ):
        if initial < 0:
            raise ValueError(f"initial must not be negative; found {initial}")
        super().__init__(params, lr, mode, weight_decay, fused, {"initial": initial})

    def fresh(self, parameter: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        return {"sum": torch.full_like(parameter, group["initial"], memory_format=torch.preserve_format)}

    def directions(
        self,
        gradients: list[Tensor],
        finite: tuple[Tensor, ...],
        states: list[dict[str, Tensor]],
        group: dict[str, Any],
    ) -> tuple[list[Tensor], list[Tensor] | None]:
        sums = [s["sum"] for s in states]
        if group["accumulate_first"]:
            torch._foreach_addcmul_(sums, gradients, gradients)
        # G = 0 means that every gradient so far was 0, so the direction must be 0 and not 0 / 0
        safe = torch._foreach_add(sums, group["eps"]) if group["eps"] else sums
        inverse = list(torch._foreach_clamp_min(safe, torch.finfo(sums[0].dtype).tiny))
        torch._foreach_rsqrt_(inverse)
        return list(torch._foreach_mul(gradients, inverse)), inverse if group["accumulator_relative"] else None

    def after(
        self, gradients: list[Tensor], sigma: tuple[Tensor, ...], states: list[dict[str, Tensor]], group: dict[str, Any]
    ) -> None:
        if group["accumulate_first"]:
            return
        for gradient, factor, state in zip(gradients, sigma, states, strict=True):
            clipped = gradient * factor if group["clip_accumulator"] else gradient
            state["sum"].addcmul_(clipped, clipped)


class ClippyAdam(Clippy):
    """Clippy on Adam: r is Adam's direction (Kingma & Ba 2015, algorithm 1), the limit Clippy's.

    Args:
        params: dense parameters, or groups of them.
        lr: learning rate, > 0.
        betas: in [0, 1). eps: outside the root.
        mode: gives `relative` and `absolute`; see `ClippyAdagrad`.
        weight_decay: L2 penalty added to the gradient, >= 0.
        fused: None or False; taken so that every dense rule is built alike.

    Where no limit binds it is Adam. The moments take the whole gradient, also where the update is shrunk.

    Differs from the paper: the paper has Adagrad only; the skip of gradients that are not finite, as ClippyAdagrad.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        mode: str | ClippyMode = "paper",
        weight_decay: float = 0.0,
        fused: bool | None = None,
    ):
        if not all(0 <= b < 1 for b in betas) or eps < 0:
            raise ValueError(f"betas must be in [0, 1) and eps must not be negative; found betas={betas}, eps={eps}")
        super().__init__(params, lr, mode, weight_decay, fused, {"betas": betas, "adam_eps": eps})

    def fresh(self, parameter: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        # `steps` and not `step`: torch leaves a restored `step` on the CPU
        return {
            "steps": torch.zeros((), device=parameter.device),
            "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
        }

    def directions(
        self,
        gradients: list[Tensor],
        finite: tuple[Tensor, ...],
        states: list[dict[str, Tensor]],
        group: dict[str, Any],
    ) -> tuple[list[Tensor], list[Tensor] | None]:
        beta1, beta2 = group["betas"]
        known = torch.stack(finite).float()
        # a tensor whose step is skipped has a zero gradient and keeps all of its moments
        first, second = (1 - known * (1 - beta1)).unbind(), (1 - known * (1 - beta2)).unbind()
        for state, gradient, a, b in zip(states, gradients, first, second, strict=True):
            state["exp_avg"].mul_(a).add_(gradient, alpha=1 - beta1)
            state["exp_avg_sq"].mul_(b).addcmul_(gradient, gradient, value=1 - beta2)
        steps = torch.stack([s["steps"] for s in states]) + known
        for state, count in zip(states, steps.unbind(), strict=True):
            state["steps"] = count
        # at least 1: a first step that was skipped has no moments, and 0 / 0 is no direction; float64: 1 - .999 in
        # float32 is wrong by 5e-5
        exact = steps.double().clamp_min(1.0)
        correct1, correct2 = 1 - beta1**exact, (1 - beta2**exact).sqrt()
        # m / c1 / (sqrt(v) / c2 + eps) with one division a number
        scales, floors = (correct1 / correct2).float().unbind(), (correct1 * group["adam_eps"]).float().unbind()
        roots = torch._foreach_sqrt([s["exp_avg_sq"] for s in states])
        directions = []
        for state, root, scale, floor in zip(states, roots, scales, floors, strict=True):
            directions.append(state["exp_avg"] / root.mul_(scale).add_(floor))
        return directions, None
