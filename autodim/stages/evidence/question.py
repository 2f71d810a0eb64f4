"""What a measurement may use, and where its answer is kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from autodim import artifact
from autodim.data.encoded import EncodedLog
from autodim.dimension.blocks import spans_key
from autodim.dimension.budget import Budget
from autodim.dimension.problem import Problem
from autodim.dimension.statistics import Statistics
from autodim.stages.edits import Place
from autodim.stages.holdout import inputs_of
from autodim.stages.run import Run
from autodim.stages.session import Session
from autodim.training.network import Network


@dataclass(frozen=True)
class Question:
    """A trained network, its log, and the allocation that is wanted.

    Attributes:
        network: the uniform network, on the session's device.
        means: the mean vector of each slot, D.
        statistics: of the one scoring pass.
    """

    run: Run
    network: Network
    log: EncodedLog
    session: Session
    problem: Problem
    budget: Budget
    statistics: Statistics
    means: Mapping[str, Tensor]

    @property
    def places(self) -> dict[str, list[Place]]:
        """Where each table of the problem is read: its slots' positions, of a block with its rows (`stages.edits`)."""
        slots, problem = self.network.tables.layout.slots, self.problem
        found: dict[str, list[Place]] = {}
        for name in problem.limits:
            table, start, stop = problem.span(name)
            own = [i for i, s in enumerate(slots) if s.table == table]
            found[name] = [(i, start, stop) for i in own] if name in problem.parents else list(own)
        return found

    def rows_key(self) -> dict[str, Any]:
        """What evaluations on the scored rows depend on."""
        settings = self.run.config.prune
        rows = {"model": self.problem.source, "on": settings.on, "rows": settings.rows, **inputs_of(self.log)}
        return rows | self.spans_key()

    def spans_key(self) -> dict[str, Any]:
        """The blocks that are measured apart."""
        return spans_key(self.problem.spans)

    def budget_key(self) -> dict[str, Any]:
        """What a search at the budget depends on besides."""
        return {
            "budget": [self.budget.unit, self.budget.amount],
            "limits": [[c.table, c.widths.tolist(), c.nominal.tolist(), c.costs.tolist()] for c in self._by_name()],
            "seed": self.problem.seed,
        }

    def _by_name(self) -> list[Any]:
        return [self.problem.limits[t] for t in sorted(self.problem.limits)]


def kept(question: Question, name: str, key: Mapping[str, Any], work: Callable[[Path], Any]) -> Any:
    """The answer of `work`, made once for each key and kept as JSON beside the pretrained model.

    Args:
        key: everything that the answer depends on.
        work: given a folder of its own, that stays until the answer is kept: what it leaves there, it finds again
            after an interruption.
    """
    folder = question.run.stage("pretrain") / f"{name}-{artifact.digest({'format': 1, **key})[:16]}"
    if not artifact.is_valid(folder):
        desk = folder.with_name(folder.name + ".work")
        desk.mkdir(parents=True, exist_ok=True)
        found = work(desk)
        with artifact.fresh_directory(folder) as temporary:
            artifact.write_json(temporary / "found.json", found)
        shutil.rmtree(desk)
    return artifact.read_json(folder / "found.json")
