"""The expensive baseline: many short trainings at widths that a sampler proposes."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any, Protocol

from autodim import artifact
from autodim.dimension.evolution import Weights, random_weights
from autodim.dimension.strategies.assemble import by_weights, widths_only
from autodim.errors import ConfigError
from autodim.stages.evidence.question import Question, kept
from autodim.stages.pretrain import build_log_network, train_network
from autodim.training.seeds import derive

MISSING = (
    "prune.search.sampler: tpe needs Optuna, which is not installed; install it with `pip install 'autodim[search]'`, "
    "or use prune.search.sampler=random"
)


class Sampler(Protocol):
    """Proposes weights of tables and learns from how they did."""

    def ask(self, number: int) -> Weights: ...

    def tell(self, value: float) -> None: ...


class Random:
    """Weights between 1 / D and 1, log-uniform; each trial is a function of the seed and its number."""

    def __init__(self, tables: list[str], common: int, seed: int):
        self.tables, self.common, self.seed = tables, common, seed

    def ask(self, number: int) -> Weights:
        return random_weights(self.seed, number, self.tables, self.common)

    def tell(self, value: float) -> None:
        pass


class Tpe:
    """Tree-structured Parzen estimator, Bergstra et al. 2011, by Optuna, over the same weights.

    Its draws follow from the seed and the values that it was told, so that telling them again brings it back.

    Raises:
        ConfigError: Optuna is not installed.
    """

    def __init__(self, tables: list[str], common: int, seed: int):
        optuna = import_optuna()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(seed=seed % 2**32)
        self.study = optuna.create_study(direction="maximize", sampler=sampler)
        self.space = {t: optuna.distributions.FloatDistribution(1 / common, 1.0, log=True) for t in tables}
        self.trial: Any = None

    def ask(self, number: int) -> Weights:
        self.trial = self.study.ask(self.space)
        return {t: float(v) for t, v in self.trial.params.items()}

    def tell(self, value: float) -> None:
        self.study.tell(self.trial, value)


def import_optuna() -> Any:
    """Optuna.

    Raises:
        ConfigError: it is not installed; names the extra.
    """
    try:
        import optuna
    except ImportError as error:
        raise ConfigError(MISSING) from error
    return optuna


SAMPLERS: dict[str, type[Random] | type[Tpe]] = {"random": Random, "tpe": Tpe}


def search(question: Question) -> Weights:
    """Per table the weight of the best trial: widths at the budget are its multiples.

    A trial trains a fresh model of the proposed widths, all with one seed, for `prune.search.epochs` with the
    optimizers of `pretrain`; its value is the best AUC on the validation rows. After each trial everything is kept, and
    a training that was interrupted goes on.

    Raises:
        ConfigError: the sampler's package is not installed.

    Cost: `prune.search.trials` short trainings; said first.
    """
    config, log, session = question.run.config, question.log, question.session
    settings, problem, budget = config.prune.search, question.problem, question.budget
    seed = derive(problem.seed, "search")
    train = config.pretrain.model_copy(update={"epochs": settings.epochs})
    sampler: Sampler = SAMPLERS[settings.sampler](sorted(problem.limits), problem.common, seed)

    def trial(weights: Weights, folder: Path) -> float:
        chosen = by_weights(problem, weights, budget)
        layout = widths_only(problem, budget, "search", chosen, ()).layout(log.slots, log.tables)
        network = build_log_network(config.model, layout, log, seed)
        best = train_network(network, log, train, seed, folder, session).best
        return 1 - best.valid_logloss if math.isnan(best.score) else best.score

    def work(desk: Path) -> dict[str, Any]:
        path = desk / "trials.json"
        values: list[float] = artifact.read_json(path) if path.is_file() else []
        proposed: list[Weights] = []
        done = f", {len(values)} of them done" if values else ""
        session.progress.line(
            f"search: {settings.trials} trainings of at most {settings.epochs} epochs ({settings.sampler}){done}"
        )
        for number in range(settings.trials):
            weights = sampler.ask(number)
            proposed.append(weights)
            if number == len(values):
                folder = desk / f"search-{number + 1}"
                folder.mkdir(exist_ok=True)
                values.append(trial(weights, folder))
                artifact.write_json(path, values)
                shutil.rmtree(folder)
                session.progress.line(f"search: trial {number + 1}, valid AUC {values[-1]:.4f}, best {max(values):.4f}")
                session.stop.check()
            sampler.tell(values[number])
        return {"weights": proposed[max(range(len(values)), key=values.__getitem__)], "values": values}

    key = {
        "model": problem.source,
        "train": train.model_dump(mode="json"),
        **question.budget_key(),
        "search": settings.model_dump(mode="json"),
    }
    return {t: float(v) for t, v in kept(question, "search", key, work)["weights"].items()}
