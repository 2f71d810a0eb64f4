"""Cuts of one pretrained model in memory, at any budget and by any strategy, from one scoring pass."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from autodim.config.schema import BudgetConfig, Config
from autodim.data.columns import Columns
from autodim.data.encoded import EncodedLog
from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import resolve
from autodim.dimension.factor import Factors
from autodim.dimension.strategies import strategy_for
from autodim.embedding.layout import uniform_layout
from autodim.stages.cut import cut_network
from autodim.stages.evidence import with_evidence
from autodim.stages.evidence.question import Question
from autodim.stages.model_folder import load_network
from autodim.stages.pretrain import run_result
from autodim.stages.prune import finish_cut, problem_of, table_factors
from autodim.stages.run import Run
from autodim.stages.scores import cached_score
from autodim.stages.serve import round_tables
from autodim.stages.session import Session
from autodim.training.evaluation import predict
from autodim.training.network import Network


@dataclass(frozen=True)
class CutModel:
    """A cut: the network as it is served (tables rounded), its allocation, and the factors of its spectral tables."""

    network: Network
    allocation: Allocation
    factors: dict[str, Factors]


class Cutter:
    """The pretrained model of a run and its statistics; the scoring pass is run where it is not cached."""

    def __init__(self, run: Run, log: EncodedLog, session: Session):
        self.run, self.log, self.session = run, log, session
        self.network, _ = load_network(run.need("pretrain") / "model", session.device)
        self.statistics, self.means = cached_score(run, self.network, log, session)
        self.counts = {t.name: log.counts(t.name) for t in log.tables}

    def cut(self, strategy: str, budget: BudgetConfig) -> CutModel:
        """Allocate a budget and cut.

        Raises:
            BudgetError: no allocation meets the budget and the limits.
            RunError: a strategy whose allocation is not a cut of the pretrained model (`uniform`).
        """
        config = with_budget(self.run.config, strategy, budget)
        problem = problem_of(config, self.log, run_result(self.run, "pretrain"))
        uniform = uniform_layout(self.log.slots, self.log.tables, config.model.width)
        amount = resolve(budget, problem.cost, uniform)
        run = Run(self.run.folder, config, self.run.shared)
        question = Question(run, self.network, self.log, self.session, problem, amount, self.statistics, self.means)
        allocation = strategy_for(strategy, config.prune)(problem, amount, with_evidence(strategy, question))
        factors = table_factors(config, allocation, self.statistics)
        layout = allocation.layout(self.log.slots, self.log.tables)
        network = cut_network(self.network, allocation, layout, self.means, self.counts, factors)
        finish_cut(config, allocation, network, self.network, self.log, self.session)
        round_tables(network, allocation)
        return CutModel(network, allocation, factors)

    def uniform_spend(self) -> int:
        """What the pretrained model spends, in the config's unit."""
        return problem_of(self.run.config, self.log, "").cost.reference(self.network.tables.layout)

    def logits(self, network: Network, columns: Columns) -> Tensor:
        """N x T, on the session's device."""
        return predict(network, columns, self.session.device)


def with_budget(config: Config, strategy: str, budget: BudgetConfig) -> Config:
    """The config at another strategy and budget; a preset has done its work already."""
    prune = config.prune.model_copy(update={"strategy": strategy, "budget": budget, "preset": None})
    return config.model_copy(update={"prune": prune})
