"""CowClip: adaptive column-wise clipping for large batches (Zheng et al., AAAI 2023, arXiv 2204.06240)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from autodim.optim.leaves import leaf_tables

if TYPE_CHECKING:
    from autodim.embedding.lookup import Lookup

Form = Literal["paper", "released"]


def cowclip(
    gradient: Tensor,
    weights: Tensor,
    counts: Tensor,
    ratio: float = 1.0,
    zeta: float = 1e-5,
    form: Form = "paper",
) -> Tensor:
    """Clip each row to its count times the size of its weights (algorithm 1).

    `g_k min(1, t_k / ||g_k||)`, `t_k = N_k max(ratio ||w_k||, zeta')`.

    Args:
        gradient, weights: U x w, the batch's unique rows; L2 is already in the gradient.
        counts: U, how often each occurs in the batch.
        form: zeta' is `zeta` (paper) or `ratio sqrt(w) zeta` (the released training script).

    Returns:
        U x w, a new tensor.
    """
    return gradient * _factors(gradient, weights, counts, ratio, zeta, form)[:, None]


def _factors(g: Tensor, w: Tensor, counts: Tensor, ratio: float, zeta: float, form: Form) -> Tensor:
    floor = zeta if form == "paper" else ratio * g.shape[1] ** 0.5 * zeta
    limit = torch.linalg.vector_norm(w, dim=1).mul_(ratio).clamp_min_(floor).mul_(counts)
    # a zero gradient stays zero: t / 0 is inf, and the minimum 1 (t > 0 unless ratio and zeta are both 0)
    return (limit / torch.linalg.vector_norm(g, dim=1).clamp_min_(torch.finfo(g.dtype).tiny)).clamp_max_(1.0)


@dataclass(frozen=True)
class Scaled:
    """Hyperparameters for a batch that is `s` times as large."""

    table_lr: float
    l2: float
    dense_lr: float
    dense_warmup_epochs: float


def scale_for_batch(s: float, table_lr: float, l2: float, dense_lr: float) -> Scaled:
    """CowClip's scaling rule: the tables' rate stays, L2 grows by s, the dense rate by sqrt(s) after one epoch of
    warm-up.

    Args:
        s: new batch size / the one that the values were found for, > 0. s = 1 changes nothing.
    """
    if s <= 0:
        raise ValueError(f"s must be positive; found {s}")
    return Scaled(table_lr, l2 * s, dense_lr * s**0.5, 0.0 if s == 1 else 1.0)


class CowClip:
    """The clipper of CowClip, for the step protocol; the tables' sparse gradients only.

    Args:
        ratio: r, > 0. zeta: lower bound of the threshold, > 0; see `cowclip` for the two forms.
        l2: penalty that is added to the batch's rows *before* clipping, as the paper asks. The table optimizer's own
            `l2` is added after clippers, so it must be 0 with this one.
        l2_scale: per table a factor a row for it (see `autodim.optim.rows`), or None for all 1.

    Attributes:
        clipped: 0-dim, the share of the last batch's rows that were clipped; None before the first step.

    Differs from the paper: L2 is lazy (the batch's rows only); first-order (width 1) tables are clipped too.

    Cost: one gather of the batch's rows and four passes over their gradients; no host synchronisation.
    """

    def __init__(
        self,
        ratio: float = 1.0,
        zeta: float = 1e-5,
        form: Form = "paper",
        l2: float = 0.0,
        l2_scale: Mapping[nn.Parameter, Tensor] | None = None,
    ):
        if ratio <= 0 or zeta <= 0 or l2 < 0 or form not in ("paper", "released"):
            raise ValueError(
                "ratio and zeta must be positive, l2 not negative, form 'paper' or 'released'; "
                f"found ratio={ratio}, zeta={zeta}, l2={l2}, form={form!r}"
            )
        self.ratio, self.zeta, self.form, self.l2, self.l2_scale = ratio, zeta, form, l2, l2_scale
        self.clipped: Tensor | None = None

    @torch.no_grad()
    def clip(self, tables: Sequence[nn.Parameter], dense: Sequence[nn.Parameter], lookup: Lookup) -> None:
        """Clip the tables' `.grad` in place."""
        shares, rows = [], 0
        for part, table in leaf_tables(lookup):
            if table.grad is None:
                continue
            values = table.grad._values()  # U x w, in the order of the unique rows
            weights = table.index_select(0, part.unique.rows)
            if self.l2 and self.l2_scale is None:
                values.add_(weights, alpha=self.l2)
            elif self.l2 and self.l2_scale is not None:
                scale = self.l2_scale[table].index_select(0, part.unique.rows)
                values.addcmul_(weights, scale[:, None], value=self.l2)
            factors = _factors(values, weights, part.unique.counts, self.ratio, self.zeta, self.form)
            values.mul_(factors[:, None])
            shares.append((factors < 1).sum())
            rows += len(factors)
        if shares:
            self.clipped = torch.stack(shares).sum() / rows
