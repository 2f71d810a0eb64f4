"""GradNorm (Chen et al., ICML 2018, arXiv 1711.02257): weights that bring the tasks' gradients to one length, longer
for the tasks that lag behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from autodim.weighting.adam import SmallAdam
from autodim.weighting.scalar import LossWeighting, below

SMALLEST = 1e-3  # a weight never reaches 0, where it could not come back


def gradnorm_gradient(weights: Tensor, norms: Tensor, ratios: Tensor, alpha: float = 1.5) -> Tensor:
    """Gradient by the weights of `sum |G_t - [mean G r_t^alpha]|`, `G_t = w_t norm_t`, the bracket a constant (equation
    2): `sign(G_t - mean G r_t^alpha) norm_t`. Exact, without a second derivative, because `w_t >= 0` comes out of the
    norm.

    Args:
        weights: T. norms: T, `|grad_W L_t|` without the weight. ratios: T, `L_t / L_t(0)`; r is these over their mean.
            NaN in ratios: the task is absent, its gradient is 0.
    """
    known = ~ratios.isnan()
    lengths = weights * norms
    count = known.sum().clamp(min=1)
    mean = torch.where(known, lengths, 0.0).sum() / count
    rate = ratios / (torch.where(known, ratios, 0.0).sum() / count)
    return torch.where(known, torch.sign(lengths - mean * rate**alpha) * norms, 0.0)


class GradNorm(LossWeighting):
    """GradNorm.

    Args:
        weights: W, of the last layer that all tasks share; never a table.
        alpha: how hard lagging tasks are pulled up, >= 0.
        lr: of the task weights, by Adam, > 0.
        start: T, the losses that count as L(0), such as those of the base rates; None: each task's first loss.

    Weights stay above 0 and are brought back to the sum T after each update.

    Differs from the paper: the gradient is exact without double backward; L(0) may be the loss of the base rates, which
    the first batch's noise does not move.

    Cost: per task a backward pass from its loss to W, its towers only.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        weights: Sequence[nn.Parameter],
        alpha: float = 1.5,
        lr: float = 0.025,
        start: Tensor | None = None,
    ):
        super().__init__(tasks)
        if not weights:
            raise ValueError("GradNorm needs the weights of a layer that all tasks share; found none")
        self.shared = list(weights)
        self.alpha = alpha
        self.adam = SmallAdam(torch.ones(len(tasks)), lr)
        self.start = torch.zeros(len(tasks)) if start is None else start.float()  # 0: not seen yet

    def _measure(self, losses: Tensor, targets: Sequence[Tensor]) -> None:
        values = losses.detach()
        if self.start.device != values.device:
            state = {k: v.to(values) for k, v in self.adam.state().items()}
            self.adam = SmallAdam(torch.ones_like(values), self.adam.lr)
            self.adam.load_state(state)
        self.start = self.start.to(values)
        norms = torch.stack([self._norm(losses[t]) for t in range(len(self.tasks))])
        present = values != 0
        self.start = torch.where((self.start == 0) & present, values, self.start)
        self.weights = self.adam.value.clone()
        ratios = torch.where(present, values / self.start, torch.nan)
        self.adam.step(gradnorm_gradient(self.weights, norms, ratios, self.alpha), known=present)
        now = self.adam.value.clamp_(min=SMALLEST)
        now.mul_(len(self.tasks) / now.sum())
        self._note(values)

    def _norm(self, loss: Tensor) -> Tensor:
        found = torch.autograd.grad(loss, self.shared, retain_graph=True, allow_unused=True)
        known = [g.flatten() for g in found if g is not None]
        return torch.linalg.vector_norm(torch.cat(known)) if known else loss.detach() * 0

    def state(self) -> dict[str, Tensor]:
        adam = {f"adam/{k}": v for k, v in self.adam.state().items()}
        return {**super().state(), **adam, "start": self.start}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        super().load_state(tensors)
        self.adam.load_state(below(tensors, "adam/"))
        self.start = tensors["start"]
