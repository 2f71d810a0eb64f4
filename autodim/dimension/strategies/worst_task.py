"""One budget for several tasks, shared so that the task that loses most loses least. Torch-free.

With rho_t(x) the relative loss that a cut x is predicted to take from task t (dimension/tasks.py) and w_t the task's
weight in the settings, the aim is the least `max_t w_t rho_t(x)` within the budget. For a fixed mix p of the tasks
(p_t >= 0, sum 1) the cut with the least `sum p_t w_t rho_t(x)` is what a strategy finds anyway, from the statistics of
that weighted sum; by duality every such sum is a lower bound of the aim. So mixes are tried and the cut with the least
maximum is kept: for two tasks the next mix is the one at which the best cuts on either side are equal, until no better
cut lies between them (the dual is then solved exactly); for more by multiplicative weights (Arora, Hazan & Kale 2012).
The plain sum is tried first and is given up only for a smaller maximum, so the answer is never worse than it. Between
the answer and the bound may lie the step of a width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import Budget
from autodim.dimension.problem import Problem
from autodim.dimension.scores import Floats
from autodim.dimension.statistics import Statistics
from autodim.dimension.tasks import relative, slot_worths, weighed

Strategy = Callable[[Problem, Budget, Statistics | None], Allocation]

_BRACKETS = 24  # mixes of two tasks; the bracket closes sooner on all but thousands of tables
_ROUNDS = 40  # mixes of three tasks or more
_CLOSE = 1e-3  # of the bound: near enough


def worst_task(problem: Problem, budget: Budget, statistics: Statistics | None, strategy: Strategy) -> Allocation:
    """The allocation of a strategy, for the mix of tasks that serves the worst one best.

    Raises:
        RunError, BudgetError: as the strategy.

    Each budget tries mixes of its own, so that the worst task's predicted loss may rise a little with the budget (by
    the step of a width), and `nested` is refused with it.

    Cost: at most 24 allocations for two tasks, 41 for more; no pass over data.
    """
    plain = strategy(problem, budget, statistics)
    if statistics is None or len(statistics.tasks) < 2 or not problem.limits:
        return plain
    search = _Search(problem, budget, statistics, strategy, plain.strategy)
    first = search.measured(plain)
    best = first
    if len(search.tasks) == 2:
        best = search.between(best)
    elif len(search.tasks) != 0:
        best = search.rounds(best)
    return replace(best.allocation, notes=(*best.allocation.notes, search.words(first, best)))


@dataclass(frozen=True, eq=False)
class _Try:
    """A cut and what it costs each task that has anything to lose: weighted relative losses, T."""

    allocation: Allocation
    losses: Floats

    @property
    def key(self) -> tuple[float, float]:
        return float(self.losses.max(initial=0.0)), float(self.losses.sum())


class _Search:
    def __init__(self, problem: Problem, budget: Budget, statistics: Statistics, strategy: Strategy, name: str) -> None:
        self.problem, self.budget, self.statistics, self.strategy = problem, budget, statistics, strategy
        weights = problem.settings.tasks.weights
        totals = {n: sum(slot_worths(problem, task, name).values()) for n, task in statistics.tasks.items()}
        # a task that no table serves, or that counts for nothing, has nothing to lose
        self.factors: Mapping[str, float] = {
            n: weights.get(n, 1.0) / total for n, total in totals.items() if total > 0 and weights.get(n, 1.0) > 0
        }
        self.tasks = list(self.factors)
        self.weights = np.array([weights.get(n, 1.0) for n in self.tasks])
        self.bound = 0.0
        # whose allocations are the best for every mix, by the measure itself (slots of one table share its basis)
        alone = name == "sseds" or all(len(c.slots) == 1 for c in problem.limits.values())
        self.proven = alone and name in ("sseds", "spectral", "spectral_refit")

    def measured(self, allocation: Allocation) -> _Try:
        found = relative(self.problem, self.statistics, allocation)
        return _Try(allocation, self.weights * np.array([found[n] for n in self.tasks]))

    def at(self, mix: Floats) -> _Try:
        """The strategy's cut for a mix, T numbers of sum 1."""
        # rounded, so that what the widths file says is what was used
        factors = {n: float(f"{p * self.factors[n]:.6g}") for n, p in zip(self.tasks, mix, strict=True)}
        factors |= {n: 0.0 for n in self.statistics.tasks if n not in factors}
        mixed = weighed(self.statistics, factors, signed=False)
        allocation = replace(self.strategy(self.problem, self.budget, mixed), task_weights=tuple(factors.items()))
        found = self.measured(allocation)
        self.bound = max(self.bound, float(mix @ found.losses))
        return found

    def between(self, best: _Try) -> _Try:
        """Two tasks: the mix where the cuts on both sides are equally good, until nothing lies between them."""
        left, right = self.at(np.array([1.0, 0.0])), self.at(np.array([0.0, 1.0]))
        best = min(best, left, right, key=lambda one: one.key)
        for _ in range(_BRACKETS - 3):
            # from left to right the first task loses more and the second less
            more, less = right.losses[0] - left.losses[0], left.losses[1] - right.losses[1]
            if left.losses[0] >= left.losses[1] or right.losses[1] >= right.losses[0] or more <= 0 or less <= 0:
                break
            mix = np.array([less, more]) / (less + more)
            level = float(mix @ left.losses)
            found = self.at(mix)
            best = min(best, found, key=lambda one: one.key)
            if float(mix @ found.losses) >= level * (1 - 1e-9):
                break
            left, right = (found, right) if found.losses[0] < found.losses[1] else (left, found)
        return best

    def rounds(self, best: _Try) -> _Try:
        """Multiplicative weights: tasks that lose more count for more in the next mix."""
        mix = np.full(len(self.tasks), 1 / len(self.tasks))
        for k in range(_ROUNDS):
            found = self.at(mix)
            best = min(best, found, key=lambda one: one.key)
            top = found.key[0]
            if top <= 0 or (self.proven and best.key[0] <= self.bound * (1 + _CLOSE)):
                break
            mix = mix * np.exp(2 / np.sqrt(k + 1) * (found.losses / top - 1))
            mix /= mix.sum()
        return best

    def words(self, first: _Try, best: _Try) -> str:
        """One remark for a person."""
        if not self.tasks:
            return "worst task: no table is worth anything to any task"
        worst = self.tasks[int(best.losses.argmax())]
        bound = (
            f"; no cut of this budget below {_percent(self.bound)}"
            if self.proven and best.allocation.rule == "exact"
            else ""
        )
        return (
            f"worst task {worst}: the cut is predicted to lose {_percent(best.key[0])} of what the tables are worth to "
            f"it (by the sum of the tasks the worst would lose {_percent(first.key[0])}{bound})"
        )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
