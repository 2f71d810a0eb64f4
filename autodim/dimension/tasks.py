"""Several tasks: what each one's loss says of slots and cuts, and what weighted tasks say together. Torch-free.

The *worth* that tables have for a task is what the task is predicted to lose when all of them are cut to nothing: for
saliencies the sum of |g|, for spectral cuts `sum of tr(C H)` over slots (twice the nats; C and H of METHODS 1.2). What
a cut loses is the same sum over what it takes away. *Relative* losses are shares of the worth, from 0 (nothing is
cut) to 1: they need no unit, so that saliencies and eigenvalues, log losses and squares, rare and common labels all
compare; and a task's column of shares over slots says what a cut of a slot costs it. A share of the uncut loss would
depend on what no embedding can explain, the noise of the label. First-order terms are left out, as in the ranking of
dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from autodim.dimension.allocation import Allocation
from autodim.dimension.blocks import item
from autodim.dimension.factor import factorise
from autodim.dimension.moments import Moments
from autodim.dimension.problem import Problem
from autodim.dimension.scores import Floats
from autodim.dimension.statistics import SPECTRAL, Statistics

PER_TASK = ("sseds", *SPECTRAL)  # strategies whose statistics each task has


def weighed(statistics: Statistics, weights: Mapping[str, float], *, signed: bool) -> Statistics:
    """The statistics of the weighted sum of the tasks' losses.

    Args:
        statistics: with those of each task in `tasks`.
        weights: task -> its factor, 0 or more; tasks that are not named count once.
        signed: saliencies add up with their signs, as those of a summed loss do (tasks that pull a dimension in
            opposite directions cancel); else by their absolute values, as predicted losses do.
    """
    parts = [(weights.get(name, 1.0), part) for name, part in statistics.tasks.items()]
    if not parts:
        return statistics
    halves = None
    if statistics.halves is not None:
        both = [[(w, p.halves[k]) for w, p in parts if p.halves is not None] for k in (0, 1)]
        halves = (_scores(both[0], signed), _scores(both[1], signed))
    extra = dict(statistics.extra)
    if "spectral" in extra:
        extra["spectral"] = _moments([(w, p.extra["spectral"]) for w, p in parts])
    if "spectral_halves" in extra:
        extra["spectral_halves"] = tuple(
            _moments([(w, p.extra["spectral_halves"][k]) for w, p in parts]) for k in (0, 1)
        )
    return replace(statistics, scores=_scores([(w, p.scores) for w, p in parts], signed), halves=halves, extra=extra)


def _scores(parts: Sequence[tuple[float, Mapping[str, Floats]]], signed: bool) -> dict[str, Floats]:
    return {
        table: np.sum([w * (scores[table] if signed else np.abs(scores[table])) for w, scores in parts], axis=0)
        for table in parts[0][1]
    }


def _moments(parts: Sequence[tuple[float, Mapping[str, Moments]]]) -> dict[str, Moments]:
    """Means and covariances are the same for all tasks; the rest is linear in the loss."""
    found = {}
    for slot, first in parts[0][1].items():
        own = {
            name: np.sum([w * getattr(moments[slot], name) for w, moments in parts], axis=0)
            for name in ("gradient", "cross", "curvature")
        }
        found[slot] = replace(first, **own)
    return found


def is_spectral(strategy: str) -> bool:
    """Whether the strategy cuts by covariances and curvatures, else by saliencies."""
    return strategy in SPECTRAL


def slot_worths(problem: Problem, task: Statistics, strategy: str) -> dict[str, float]:
    """What each slot is worth to a task, 0 or more: `tr(C H)` for spectral strategies, else its sum of |g|.

    Slots that share a table split its saliencies in proportion to their own.
    """
    moments: Mapping[str, Moments] = task.extra.get("spectral", {})
    if is_spectral(strategy):
        return {s.name: _trace(moments[s.name]) for s in problem.slots}
    found: dict[str, float] = {}
    for table, c in problem.limits.items():
        whole = float(np.abs(task.scores[table]).sum())
        own = np.array([np.abs(moments[s].saliency).sum() if s in moments else 1.0 for s in c.slots])
        own = own / own.sum() if own.sum() > 0 else np.full(len(own), 1 / len(own))
        found |= {s: whole * float(part) for s, part in zip(c.slots, own, strict=True)}
    return found


def losses(problem: Problem, statistics: Statistics, allocation: Allocation) -> dict[str, float]:
    """What an allocation is predicted to take from each task, in the unit of `slot_worths`.

    Args:
        statistics: as the allocation was made from, tasks included.
        allocation: of a strategy in `PER_TASK`; its `task_weights` say in which basis its spectral cuts are.
    """
    if not is_spectral(allocation.strategy):
        return {name: _saliency_lost(problem, task, allocation) for name, task in statistics.tasks.items()}
    basis = weighed(statistics, dict(allocation.task_weights), signed=True) if allocation.task_weights else statistics
    found = dict.fromkeys(statistics.tasks, 0.0)
    for e in allocation.entries:
        if e.width and not e.projected:  # stored whole
            continue
        moments, slots = basis.extra["spectral"], [item(s, e, problem.spans) for s in e.slots]
        factors = factorise({s: moments[s] for s in slots}, problem.settings.ridge)
        residual = factors.encoder(e.width) @ factors.decoder(e.width) - np.eye(allocation.common)
        for name, task in statistics.tasks.items():
            own = task.extra["spectral"]
            found[name] += sum(
                float(np.trace(residual.T @ own[s].covariance @ residual @ own[s].curvature)) for s in slots
            )
    return {name: max(value, 0.0) for name, value in found.items()}


def relative(problem: Problem, statistics: Statistics, allocation: Allocation) -> dict[str, float]:
    """Per task the share of the tables' worth that an allocation is predicted to lose: 0 to 1 (0 where nothing has any
    worth)."""
    lost = losses(problem, statistics, allocation)
    totals = {n: sum(slot_worths(problem, t, allocation.strategy).values()) for n, t in statistics.tasks.items()}
    return {name: lost[name] / totals[name] if totals[name] > 0 else 0.0 for name in lost}


def _saliency_lost(problem: Problem, task: Statistics, allocation: Allocation) -> float:
    found = 0.0
    for e in allocation.entries:
        if e.width == allocation.common and not e.projected:  # stored whole; may be several blocks in one
            continue
        scores = np.abs(task.scores[item(e.table, e, problem.spans)])
        if e.kept is not None:
            found += float(np.delete(scores, list(e.kept)).sum())
        elif not e.width:
            found += float(scores.sum())
    return found


def _trace(moments: Moments) -> float:
    return max(float(np.sum(moments.covariance * moments.curvature)), 0.0)


def task_shares(problem: Problem, statistics: Statistics, allocation: Allocation) -> dict[str, Any]:
    """Which slots serve which task, for people and programs.

    Returns:
        `measure` (`spectral` or `saliency`), `strategy`, `combine`, `weights`; `tasks`: their names; `slots`: name -> T
        shares of the worth that all slots have for each task (a task's shares sum to 1, or are 0 where nothing is worth
        anything); `lost`: the share of each that the cut is predicted to lose, None for strategies that rank by other
        things.
    """
    measure = allocation.strategy if allocation.strategy in PER_TASK else "sseds"
    worths = [slot_worths(problem, task, measure) for task in statistics.tasks.values()]
    totals = [sum(worth.values()) for worth in worths]
    lost = relative(problem, statistics, allocation) if allocation.strategy in PER_TASK else None
    settings = problem.settings.tasks
    return {
        "strategy": allocation.strategy,
        "measure": "spectral" if is_spectral(measure) else "saliency",
        "combine": settings.combine,
        "weights": {name: settings.weights.get(name, 1.0) for name in statistics.tasks},
        "tasks": list(statistics.tasks),
        "slots": {
            slot.name: [
                worth[slot.name] / total if total > 0 else 0.0 for worth, total in zip(worths, totals, strict=True)
            ]
            for slot in problem.slots
        },
        "lost": None if lost is None else list(lost.values()),
    }
