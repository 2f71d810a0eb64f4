"""Ways to get an allocation, one method a file.

Each is a function `(problem, budget, statistics) -> Allocation`: the problem holds slots, tables, costs, limits and
settings; statistics what is known of the trained model (None where nothing is). None exceeds the budget, none depends
on the order of the slots, all are deterministic.

Which to pick: `sseds` scores every dimension by one pass over held-out rows and is the default. `spectral` chooses the
basis too and is right without a retrain; `spectral_uniform` has that basis at one width for all slots; `spectral_refit`
solves the projections of `spectral` once more, all together, after the cut: the best without a retrain.
`spectral_tempered` has gains between those of the spectrum and even ones. `uniform` is the baseline to beat, natively
trained; `uniform_int8` the same, served in 8 bits. `magnitude` and `random` tell what the scores are worth.
`frequency_tiers`, `power_rule` and `fourth_root` are heuristics that need no trained model and choose widths, not
dimensions; they spend the budget on the next steps of their own rule, so a larger budget may give one slot less.
`manual` reads a file.

Judges and rivals, which measure for themselves (`stages.evidence`): `mask_auc` and `mask_exact` evaluate the model
without a slot, and without each dimension; `search` trains many models shortly; `pep` trains with learned thresholds;
`optembed` trains a supernet and evolves widths.

With several main tasks `sseds` and the spectral ones rank by the weighted sum of their losses, or (`strategy_for`)
share the budget so that the task that loses most loses least.

A new strategy is a new file and a line in this table.
"""

from __future__ import annotations

from collections.abc import Callable

from autodim.config.schema import PruneConfig
from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import Budget
from autodim.dimension.problem import Problem
from autodim.dimension.statistics import Statistics
from autodim.dimension.strategies.fourth_root import by_fourth_root
from autodim.dimension.strategies.frequency_tiers import by_tiers
from autodim.dimension.strategies.magnitude import by_magnitude
from autodim.dimension.strategies.manual import from_file
from autodim.dimension.strategies.mask_auc import by_slot_importance
from autodim.dimension.strategies.mask_exact import by_brute_force
from autodim.dimension.strategies.optembed import by_supernet
from autodim.dimension.strategies.pep import by_thresholds
from autodim.dimension.strategies.power_rule import by_power
from autodim.dimension.strategies.random import by_chance
from autodim.dimension.strategies.search import by_trials
from autodim.dimension.strategies.spectral import at_one_spectral_width, by_spectrum
from autodim.dimension.strategies.spectral_refit import by_spectrum_refitted
from autodim.dimension.strategies.spectral_tempered import by_tempered_spectrum
from autodim.dimension.strategies.sseds import by_saliency
from autodim.dimension.strategies.uniform import at_one_width, at_one_width_int8
from autodim.dimension.strategies.worst_task import worst_task
from autodim.dimension.tasks import PER_TASK

Strategy = Callable[[Problem, Budget, Statistics | None], Allocation]

STRATEGIES: dict[str, Strategy] = {
    "sseds": by_saliency,
    "spectral": by_spectrum,
    "spectral_uniform": at_one_spectral_width,
    "spectral_refit": by_spectrum_refitted,
    "spectral_tempered": by_tempered_spectrum,
    "magnitude": by_magnitude,
    "random": by_chance,
    "uniform": at_one_width,
    "uniform_int8": at_one_width_int8,
    "frequency_tiers": by_tiers,
    "power_rule": by_power,
    "fourth_root": by_fourth_root,
    "mask_auc": by_slot_importance,
    "mask_exact": by_brute_force,
    "search": by_trials,
    "pep": by_thresholds,
    "optembed": by_supernet,
    "manual": from_file,
}


def strategy_for(name: str, settings: PruneConfig) -> Strategy:
    """The strategy; where the settings ask so and tasks have statistics of their own, it serves the worst task."""
    strategy = STRATEGIES[name]
    if settings.tasks.combine == "sum" or name not in PER_TASK:
        return strategy
    return lambda problem, budget, statistics: worst_task(problem, budget, statistics, strategy)
