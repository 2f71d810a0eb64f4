"""Stability watch: divergence seen while a training runs, without slowing its steps.

*Micro-divergence*: the loss jumps (or an evaluation's AUC drops) and recovers. *Full divergence*: it stays up, the AUC
falls to chance, or numbers are not finite (the two regimes of Tang et al., KDD 2023, section 3).

A loss has jumped when it exceeds `EMA + k MAD`: exponential moving averages of the loss and of its absolute distance
from the first one, over steps that did not jump.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from autodim.config.schema import WatchConfig

Kind = Literal["micro", "full", "open"]
CHANCE = 0.52  # an AUC below is no better than guessing
DROP = 0.05  # a fall of the AUC below the best one that is worth an event; what is so far above chance has learnt
DECAY = 0.98  # of the averages: about the last 50 steps
WARM_UP = 20  # steps before anything is judged: the averages have to settle
CALM = 5  # steps in a row below the limit that end a jump
FLOOR = 1e-3  # least MAD as a share of the loss: a loss that hardly moves has no noise to measure by


@dataclass(frozen=True)
class Event:
    """Something that the watch saw.

    Attributes:
        kind: `micro` recovered, `full` did not, `open` was not decided when the training ended.
        reason: `loss`, `auc` or `not finite`.
        step: updates done when it began. until: when it had recovered or was called full; None: neither.
        value: the worst loss (or the lowest AUC) of it; NaN: not finite. limit: what it should have kept to.
        action: what the policy did: `none`, `stop` or `rollback`.
        attempt: rollbacks before it.
        norms: per parameter tensor the norm when it was seen; only of full ones.
        optimizer: the gauges then (see `autodim.training.gauges`).
    """

    kind: Kind
    reason: str
    step: int
    until: int | None
    value: float
    limit: float
    action: str = "none"
    attempt: int = 0
    norms: Mapping[str, float] = field(default_factory=dict)
    optimizer: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON object; numbers that are not finite become null."""

        def clean(value: Any) -> Any:
            if isinstance(value, dict):
                return {k: clean(v) for k, v in value.items()}
            return None if isinstance(value, float) and not math.isfinite(value) else value

        return clean(asdict(self))

    @staticmethod
    def from_json(value: dict[str, Any]) -> Event:
        """The reverse; null becomes NaN."""

        def number(v: Any) -> float:
            return math.nan if v is None else v

        maps = {name: {k: number(v) for k, v in value[name].items()} for name in ("norms", "optimizer")}
        return Event(**{**value, **maps, "value": number(value["value"]), "limit": number(value["limit"])})

    def words(self) -> str:
        """One line for people."""
        shown = "not finite" if math.isnan(self.value) else f"{self.value:.4f}"
        what = {"loss": f"loss {shown}", "auc": f"validation AUC {shown}", "not finite": "numbers not finite"}
        limit = "" if math.isnan(self.limit) else f", expected {'at least' if self.reason == 'auc' else 'at most'} "
        limit += f"{self.limit:.4f}" if limit else ""
        end = {"micro": f"recovered by step {self.until or 0:,}", "full": "no recovery", "open": "until the end"}
        act = {"none": "", "stop": "; training stopped", "rollback": "; rolled back with lower rates"}
        return (
            f"step {self.step:,}: {self.kind} divergence, {what[self.reason]}{limit}; {end[self.kind]}"
            + (act[self.action])
        )


class Detector:
    """Judges losses and evaluations, in their order; knows nothing of policies.

    Args:
        k: how many MADs above the average a loss may be.
        patience: steps that a jump may last before it is full divergence.
        finite_patience: steps in a row whose loss is not finite before it is full divergence.
    """

    def __init__(self, k: float = 8.0, patience: int = 100, finite_patience: int = 10):
        self.k, self.patience, self.finite_patience = k, patience, finite_patience
        self.mean, self.mad, self.seen = 0.0, 0.0, 0
        self.best_auc: float | None = None
        self.jump: dict[str, float] | None = None  # step, worst, limit, calm, broken (steps not finite in a row)
        self.low: dict[str, float] | None = None  # step, worst, limit of an AUC that fell

    @property
    def calm(self) -> bool:
        """Whether nothing is going on: a checkpoint of now is a good one."""
        return self.jump is None and self.low is None

    @property
    def limit(self) -> float:
        """What the next loss should keep to; infinite while the averages settle."""
        if self.seen < WARM_UP:
            return math.inf
        return self.mean + self.k * max(self.mad, FLOOR * abs(self.mean))

    def loss(self, step: int, value: float) -> Event | None:
        """Judge the loss of the update that made `step` updates."""
        finite = math.isfinite(value)
        if self.jump is None:
            if finite and value <= self.limit:
                self._learn(value)
                return None
            limit = self.limit if math.isfinite(self.limit) else math.nan
            self.jump = {"step": step, "worst": value, "limit": limit, "calm": 0, "broken": 0}
        jump = self.jump
        jump["broken"] = 0 if finite else jump["broken"] + 1
        jump["worst"] = max(jump["worst"], value) if finite and math.isfinite(jump["worst"]) else math.nan
        jump["calm"] = jump["calm"] + 1 if finite and not value > jump["limit"] else 0
        if jump["broken"] >= self.finite_patience:
            return self._full(step, "not finite")
        if jump["calm"] >= CALM:
            self.jump = None
            return Event("micro", "loss", int(jump["step"]), step, jump["worst"], jump["limit"])
        if step - jump["step"] >= self.patience:
            return self._full(step, "loss")
        return None

    def evaluation(self, step: int, auc: float, logloss: float) -> Event | None:
        """Judge an evaluation after `step` updates; an AUC of NaN (one class only) is not judged."""
        if not math.isfinite(logloss):
            return self._full(step, "not finite")
        if math.isnan(auc):
            return None
        if auc < CHANCE and (self.jump is not None or (self.best_auc or 0.0) >= CHANCE + DROP):
            worst = auc if self.low is None else min(auc, self.low["worst"])
            began = step if self.low is None else int(self.low["step"])
            self.jump = self.low = None
            self.seen = 0
            return Event("full", "auc", began, step, worst, CHANCE)
        best = self.best_auc = auc if self.best_auc is None else max(auc, self.best_auc)
        if auc < best - DROP:
            low = self.low or {"step": step, "worst": auc, "limit": best - DROP}
            self.low = {**low, "worst": min(auc, low["worst"])}
            return None
        if self.low is not None:
            low, self.low = self.low, None
            return Event("micro", "auc", int(low["step"]), step, low["worst"], low["limit"])
        return None

    def end(self) -> list[Event]:
        """What is undecided when a training ends."""
        found = [(reason, o) for reason, o in (("loss", self.jump), ("auc", self.low)) if o is not None]
        return [Event("open", reason, int(o["step"]), None, o["worst"], o["limit"]) for reason, o in found]

    def state(self) -> dict[str, Any]:
        """What a restart needs, as JSON; NaN becomes null."""

        def clean(value: dict[str, float] | None) -> dict[str, float | None] | None:
            return None if value is None else {k: v if math.isfinite(v) else None for k, v in value.items()}

        plain = {"mean": self.mean, "mad": self.mad, "seen": self.seen, "best_auc": self.best_auc}
        return {**plain, "jump": clean(self.jump), "low": clean(self.low)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """The reverse of `state`."""
        self.mean, self.mad, self.seen = state["mean"], state["mad"], state["seen"]
        self.best_auc = state["best_auc"]
        self.jump, self.low = (
            None if o is None else {k: math.nan if v is None else v for k, v in o.items()}
            for o in (state["jump"], state["low"])
        )

    def _learn(self, value: float) -> None:
        if self.seen == 0:
            self.mean, self.mad = value, 0.0
        # a plain mean at first, so that the averages do not hang on the first loss
        share = max(1 - DECAY, 1 / (self.seen + 1))
        self.mad += share * (abs(value - self.mean) - self.mad)
        self.mean += share * (value - self.mean)
        self.seen += 1

    def _full(self, step: int, reason: str) -> Event:
        jump = self.jump or {"step": step, "worst": math.nan, "limit": math.nan}
        self.jump = self.low = None
        self.seen = 0  # the new level is learnt: one divergence is one event
        return Event("full", reason, int(jump["step"]), step, jump["worst"], jump["limit"])


class LossRing:
    """The losses since the last read, on the device: a step writes one number and waits for nothing.

    Args:
        size: most steps between two reads.
    """

    def __init__(self, size: int, device: torch.device):
        self.values = torch.zeros(size, device=device)
        self.count = 0

    def add(self, losses: Tensor) -> None:
        """Keep the sum of a step's losses (T)."""
        torch.sum(losses, dim=0, dtype=torch.float32, out=self.values[self.count])
        self.count += 1

    def read(self) -> list[float]:
        """All of them, oldest first; waits for the device once."""
        found, self.count = self.values[: self.count].tolist(), 0
        return found

    def load(self, values: Tensor, count: int) -> None:
        """Restore what a checkpoint kept."""
        self.values.copy_(values)
        self.count = count


def make_detector(config: WatchConfig) -> Detector:
    """The detector that a config's section `watch` names."""
    return Detector(config.k, config.patience, config.finite_patience)


def parameter_norms(parameters: Mapping[str, Tensor]) -> dict[str, float]:
    """The norm of every tensor by name. Cost: one read of all of them and one wait for the device."""
    known = {name: p.detach() for name, p in parameters.items() if p.numel()}
    norms = torch.stack([torch.linalg.vector_norm(p).float() for p in known.values()]).tolist() if known else []
    return dict(zip(known, norms, strict=True))
