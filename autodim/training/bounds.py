"""How much worse one model is than another on the same rows, with a one-sided bound.

The same rows score both models, so the noise of the labels cancels: AUCs are compared by DeLong et al. 1988 for two
correlated curves (`metrics.auc_difference`), log losses by Student's t on the differences of the rows' losses.

Letters: N rows, T tasks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from autodim.data.tasks import Task
from autodim.files import finite
from autodim.training.metrics import auc_difference
from autodim.training.student import quantile


@dataclass(frozen=True)
class Lost:
    """What a model loses against a reference on one task; positive is worse.

    Attributes:
        auc: AUC of the reference less its own.
        auc_error: standard error of it (DeLong, paired).
        loss: log loss of its own less the reference's, nats.
        loss_error: standard error of it (paired).
        rows: rows with a label.
    """

    auc: float
    auc_error: float
    loss: float
    loss_error: float
    rows: int

    def auc_bound(self, confidence: float) -> float:
        """Upper end of the one-sided interval of `auc`; NaN where a class has fewer than two rows."""
        return self.auc + quantile(confidence, math.inf) * self.auc_error

    def loss_bound(self, confidence: float) -> float:
        """Upper end of the one-sided interval of `loss`; NaN with fewer than two rows."""
        return self.loss + quantile(confidence, max(self.rows - 1, 1)) * self.loss_error

    def to_json(self) -> dict[str, Any]:
        """A JSON object; numbers that are not finite become null."""
        found: dict[str, Any] = finite(asdict(self))
        return found


def lost(logits: Tensor, reference: Tensor, labels: Tensor, tasks: Sequence[Task] = ()) -> list[Lost]:
    """What is lost on each main task.

    Args:
        logits: N x T. reference: N x T, of the model to compare with.
        labels: N x T of 0, 1 (or numbers) and NaN (no label).
        tasks: T; a regression has losses and no AUC (NaN). Empty: all are binary and main.

    Cost: six sorts a task.
    """
    found = []
    for task in range(labels.shape[1]):
        about = tasks[task] if tasks else Task("")
        if about.role == "auxiliary":
            continue
        known = ~labels[:, task].isnan()
        own, base, label = (x[known, task] for x in (logits, reference, labels))
        drop, error = auc_difference(base, own, label) if about.kind == "binary" else (math.nan, math.nan)
        paired = _losses(own, label, about) - _losses(base, label, about)
        rows = int(known.sum())
        loss = float(paired.mean()) if rows else math.nan
        spread = float(paired.std()) / math.sqrt(rows) if rows > 1 else math.nan
        found.append(Lost(drop, error, loss, spread, rows))
    return found


@dataclass(frozen=True)
class Allowed:
    """What may be lost, on every task: either limit may be None."""

    auc: float | None
    loss: float | None
    confidence: float

    def inside(self, found: Sequence[Lost]) -> bool:
        """Whether the upper bound of every task is inside every limit.

        All have to hold, so each is tested at the full level and nothing is corrected (intersection-union test).
        """
        return all(
            (self.auc is None or one.auc_bound(self.confidence) <= self.auc)
            and (self.loss is None or one.loss_bound(self.confidence) <= self.loss)
            for one in found
        )

    def gained(self, found: Sequence[Lost]) -> bool:
        """Whether a task is better than the reference, in a figure that is limited, by more than half the two-sided
        95 % interval of the paired difference: then the reference is no measure of what may be lost."""
        return any(
            (self.auc is not None and -one.auc > half_width(one.auc_error))
            or (self.loss is not None and -one.loss > half_width(one.loss_error))
            for one in found
        )

    def words(self, found: Sequence[Lost]) -> str:
        """`AUC lost .0003, at most .0004`, or `AUC gained .0020, at least .0010`: the worst task under each limit, with
        the bound of what it loses."""
        parts = []
        if self.auc is not None:
            worst = max(found, key=lambda one: one.auc_bound(self.confidence))
            parts.append("AUC " + _told("lost", "gained", worst.auc, worst.auc_bound(self.confidence), 5))
        if self.loss is not None:
            worst = max(found, key=lambda one: one.loss_bound(self.confidence))
            parts.append("log loss " + _told("risen", "fallen", worst.loss, worst.loss_bound(self.confidence), 6))
        return "; ".join(parts)


def _told(worse: str, better: str, value: float, bound: float, digits: int) -> str:
    """A loss and its upper bound, each said as a gain where it is one: `gained .0020, lost at most .0001`."""
    if not value < 0:  # NaN too
        return f"{worse} {value:.{digits}f}, at most {bound:.{digits}f}"
    end = f"at least {-bound:.{digits}f}" if bound < 0 else f"{worse} at most {bound:.{digits}f}"
    return f"{better} {-value:.{digits}f}, {end}"


def _losses(logits: Tensor, labels: Tensor, task: Task) -> Tensor:
    if task.kind == "regression":
        return (logits.double() - (labels.double() - task.mean) / task.std).square()
    return F.binary_cross_entropy_with_logits(logits.double(), labels.double(), reduction="none")


def weak_reference(retrained: bool) -> str:
    """What it means that a cut is better than the uncut model that it is judged against (`Allowed.gained`), in words.

    Args:
        retrained: the model was trained after the cut.
    """
    why = (
        "the uncut model is probably under-trained: raise pretrain.patience or pretrain.epochs"
        if retrained
        else "the uncut model probably overfits or is under-trained: see pretrain.optimizer.tables.l2, "
        "pretrain.patience and pretrain.epochs"
    )
    return (
        "A smaller model is better than the uncut one by more than the 95 % interval of their difference; "
        f"{why}; a loss against it says little"
    )


def half_width(error: float, level: float = 0.95) -> float:
    """Half of a two-sided interval of a normal estimate with this standard error."""
    return quantile((1 + level) / 2, math.inf) * error
