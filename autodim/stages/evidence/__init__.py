"""What some strategies measure for themselves, beyond the one scoring pass; one strategy a file.

Strategies are pure functions of numbers. Those that need a training, or evaluations of the trained network, have a
function here that makes their numbers: `Question -> value`, put into `Statistics.extra` under the strategy's name.
Everything is kept beside the pretrained model, by what it was made from: budgets and runs share it, and work that was
interrupted goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from autodim.dimension.statistics import Statistics
from autodim.stages.evidence.mask_auc import mask_auc
from autodim.stages.evidence.mask_exact import mask_exact
from autodim.stages.evidence.optembed import optembed
from autodim.stages.evidence.pep import pep
from autodim.stages.evidence.question import Question
from autodim.stages.evidence.search import search

EVIDENCE: dict[str, Callable[[Question], Any]] = {
    "mask_auc": mask_auc,
    "mask_exact": mask_exact,
    "search": search,
    "pep": pep,
    "optembed": optembed,
}


def with_evidence(strategy: str, question: Question) -> Statistics:
    """The statistics, with what the strategy measures for itself (most measure nothing)."""
    if strategy not in EVIDENCE or not question.problem.limits:
        return question.statistics
    found = EVIDENCE[strategy](question)
    return replace(question.statistics, extra={**question.statistics.extra, strategy: found})
