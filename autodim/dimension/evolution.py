"""Evolution over widths at a budget. Torch-free.

A candidate is one positive weight a table; its widths are the largest multiple of the weights that fits the budget
(`by_weights`). So every candidate hits the budget, and children need no repair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from autodim.dimension.scores import Floats

Weights = dict[str, float]


@dataclass(frozen=True)
class Plan:
    """Sizes of a search.

    Attributes:
        population: candidates that are kept.
        generations: rounds after the first.
        mutation: chance that a table's weight changes.
        spread: deviation of a change, in units of the logarithm.
    """

    population: int
    generations: int
    mutation: float = 0.3
    spread: float = 0.5


def random_weights(seed: int, number: int, tables: Sequence[str], common: int) -> Weights:
    """Weights between 1 / D and 1, log-uniform; each depends on the seed, the number and the table's name alone."""
    return {t: float(common ** (_draw(f"{seed}/{number}/{t}").random() - 1)) for t in tables}


def evolve(
    fitness: Callable[[list[Weights]], Sequence[float]],
    tables: Sequence[str],
    common: int,
    plan: Plan,
    seed: int,
    start: Sequence[Weights] = (),
) -> tuple[Weights, float]:
    """The fittest candidate that was seen, and its fitness.

    Each generation the better half stays; as many children as the other half are made of two parents each, table by
    table from one or the other, and mutated.

    Args:
        fitness: of candidates, higher is better; called once a generation with all new ones.
        tables: sorted here, so that their order does not matter.
        start: candidates of the first generation; random ones fill it up.

    Cost: about `population (1 + generations / 2)` fitnesses.
    """
    names = sorted(tables)
    pool = [dict(w) for w in start[: plan.population]]
    pool += [random_weights(seed, k, names, common) for k in range(len(pool), plan.population)]
    scored = list(zip(fitness(pool), pool, strict=True))
    for generation in range(1, plan.generations + 1):
        # stable: of equals the earlier stays
        scored = sorted(scored, key=lambda pair: -pair[0])[: max(2, (plan.population + 1) // 2)]
        rng = _draw(f"{seed}/generation/{generation}")
        children = []
        for _ in range(plan.population - len(scored)):
            one, other = (scored[k][1] for k in rng.integers(0, len(scored), 2))
            take, change = rng.random(len(names)) < 0.5, rng.random(len(names)) < plan.mutation
            factor: Floats = np.exp(rng.normal(0, plan.spread, len(names)))
            children.append(
                {
                    t: (one[t] if take[k] else other[t]) * (float(factor[k]) if change[k] else 1.0)
                    for k, t in enumerate(names)
                }
            )
        scored += list(zip(fitness(children), children, strict=True)) if children else []
    best = max(scored, key=lambda pair: pair[0])
    return best[1], float(best[0])


def _draw(purpose: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(sha256(purpose.encode()).digest()[:16], "big"))
