"""Helen (Zhu et al., WWW 2024, arXiv 2403.00798): sharpness-aware steps that look further for frequent ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor, nn

from autodim.optim.frequency import BatchFrequency, EmaFrequency, Frequency, GlobalFrequency
from autodim.optim.leaves import (
    TINY,
    Gradients,
    Segments,
    TableStarts,
    leaf_offsets,
    leaf_tables,
    row_gradients,
    segments,
    total_norm,
)

if TYPE_CHECKING:
    from autodim.embedding.lookup import Lookup

Scope = Literal["slot", "row", "global"]
DenseScope = Literal["own", "global", "none"]


def helen_radii(frequency: Tensor, peak: Tensor, rho: float = 0.05, xi: float = 0.3) -> Tensor:
    """`rho_k = rho max(N_k / max_k' N_k', xi)`, one radius a row.

    Args:
        frequency: U numbers >= 0.
        peak: what counts as the most frequent, per row or one number; 0 (no frequent row at all) gives rho xi.
    """
    return (frequency / peak.clamp_min(1e-30)).clamp_min_(xi).mul_(rho)


def helen_perturbation(
    gradient: Tensor,
    counts: Tensor,
    rho: float = 0.05,
    xi: float = 0.3,
    norm_scope: Scope = "slot",
    norm: Tensor | None = None,
) -> Tensor:
    """What Helen adds to the rows of one table before its second pass.

    Args:
        gradient: U x w, of the batch's unique rows.
        counts: U, how often each occurs in the batch (or any other frequency).
        norm_scope: `slot`: the norm of the whole table's gradient; `row`: each row's own; `global`: `norm`.
        norm: 0-dim, the norm of the gradients of all parameters; only with `global`.

    Returns:
        U x w. Move the rows by it, take the gradient there, move them back, and update with that gradient. Leave rows
        of padding out of both arguments.
    """
    if (norm is None) == (norm_scope == "global"):
        raise ValueError("give `norm` with norm_scope 'global', and only then")
    counts = counts.to(gradient.dtype)
    if not counts.numel():
        return torch.zeros_like(gradient)
    rows = torch.linalg.vector_norm(gradient, dim=1)
    lengths = rows if norm_scope == "row" else torch.linalg.vector_norm(rows) if norm is None else norm
    return gradient * (helen_radii(counts, counts.max(), rho, xi) / (lengths + TINY))[:, None]


class Helen:
    """The perturbation of Helen, for the step protocol.

    Row k of a table is moved by `rho max(N_k / max N, xi) g_k / norm`, dense parameters by `rho g / norm` (the paper's
    algorithm 1); the gradient found there updates the weights that were not moved.

    Args:
        rho: radius, >= 0. 0 is the base optimizer, to the bit.
        xi: lower bound of a row's share of the radius, in [0, 1]. 1 is SAM on each table by itself.
        norm_scope: `slot`: each table's whole gradient (the released code; the defaults of rho and xi belong to it);
            `row`: each row's own (the paper); `global`: all tables' (and, unless they stay put, the dense parameters').
        frequency: `batch`; `global`: `counts`; `ema`: an average with `decay`; see `autodim.optim.frequency`.
        dense: `own`: the norm over all dense parameters (the paper); `global`: that of the tables as well; `none`: they
            stay where they are and are updated with the first pass's gradient (the released configuration).
        counts: per table name, a count a row; only with frequency `global`.
        decay: of the average, in [0, 1).

    A table's row 0 (the out-of-vocabulary id) is never moved, enters no norm and sets no maximum. Slots that share a
    table share its norm and its maximum; first-order (width 1) tables count as tables of their own. Rows are moved
    before any projection; a pooled vector moves by what its ids' moves add up to, weights and means included.

    Differs from the paper: gradients are taken at the looked-up vectors, which is the same and costs the batch. Row
    scope with rho .05 moves fresh rows by many times their own norm: give it a far smaller rho.

    Cost: a second forward and backward pass from the same lookup, one segment sum and one gather of the leaves; no copy
    of a table, so independent of the vocabulary. Dense parameters are copied once (not with dense `none`).
    """

    def __init__(
        self,
        rho: float = 0.05,
        xi: float = 0.3,
        norm_scope: Scope = "slot",
        frequency: Literal["batch", "global", "ema"] = "batch",
        dense: DenseScope = "own",
        counts: Mapping[str, Tensor] | None = None,
        decay: float = 0.99,
    ):
        if rho < 0 or not 0 <= xi <= 1:
            raise ValueError(f"rho must not be negative and xi must be in [0, 1]; found rho={rho}, xi={xi}")
        if norm_scope not in get_args(Scope) or dense not in get_args(DenseScope):
            raise ValueError(
                f"norm_scope must be one of {get_args(Scope)} and dense one of {get_args(DenseScope)}; "
                f"found {norm_scope!r}, {dense!r}"
            )
        if (frequency == "global") != (counts is not None):
            raise ValueError(
                "frequency 'global' needs `counts` (per table, one a row), and no other frequency takes it"
            )
        self.rho, self.xi, self.norm_scope, self.dense = rho, xi, norm_scope, dense
        self.frequency = _frequency(frequency, counts, decay)
        self._starts = TableStarts()

    def offsets(self, gradients: Gradients, lookup: Lookup, dense: Sequence[nn.Parameter]) -> Gradients:
        """What to add to the leaves and to the dense parameters; see `autodim.training.step.Perturbation`."""
        self.frequency.advance()
        tables = leaf_tables(lookup)
        rows = row_gradients(gradients, lookup)
        others = gradients[len(tables) :]
        cuts: dict[int, tuple[Segments, Tensor]] = {}  # per group: its tables and the rows' radii
        for number, part in enumerate(lookup.groups):
            cut = segments(part.unique.rows, self._starts.of(part), self._starts.unknown(part))
            frequency, peaks = self.frequency.of(part, number, cut)
            radii = helen_radii(frequency, peaks.index_select(0, cut.table), self.rho, self.xi)
            cuts[id(part)] = cut, radii.masked_fill_(cut.fixed, 0.0)
        lengths = [
            None if g is None else torch.linalg.vector_norm(g, dim=1).masked_fill_(cuts[id(part)][0].fixed, 0.0)
            for g, (part, _) in zip(rows, tables, strict=True)
        ]
        everything = None
        if "global" in (self.norm_scope, self.dense):
            everything = total_norm([*lengths, *(() if self.dense == "none" else others)])
        moves: Gradients = []
        for gradient, length, (part, _) in zip(rows, lengths, tables, strict=True):
            if gradient is None or length is None:
                moves.append(None)
                continue
            cut, radii = cuts[id(part)]
            moves.append(gradient * (radii / (self._norms(length, cut, everything) + TINY))[:, None])
        return [*leaf_offsets(moves, lookup), *self._dense(others, everything)]

    def _norms(self, lengths: Tensor, cut: Segments, everything: Tensor | None) -> Tensor:
        if self.norm_scope == "row":
            return lengths
        if self.norm_scope == "slot":
            return cut.sum(lengths.square()).sqrt().index_select(0, cut.table)
        assert everything is not None
        return everything

    def _dense(self, gradients: Gradients, everything: Tensor | None) -> Gradients:
        if self.dense == "none":
            return [None] * len(gradients)
        norm = everything if self.dense == "global" else None
        scale = self.rho / ((total_norm(gradients) if norm is None else norm) + TINY)
        return [None if g is None else g * scale for g in gradients]

    def state(self) -> dict[str, Tensor]:
        """What a restart needs, as tensors by name (nothing unless frequency is `ema`)."""
        return self.frequency.state()

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """The reverse of `state`."""
        self.frequency.load_state(tensors)


def _frequency(name: str, counts: Mapping[str, Tensor] | None, decay: float) -> Frequency:
    if name == "batch":
        return BatchFrequency()
    if name == "ema":
        return EmaFrequency(decay)
    if name == "global" and counts is not None:
        return GlobalFrequency(counts)
    raise ValueError(f"frequency must be one of batch, global, ema; found {name!r}")
