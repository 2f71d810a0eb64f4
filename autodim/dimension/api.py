"""An allocation from scores alone, without the pipeline. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import ValidationError

from autodim.config.schema import BudgetConfig, PruneConfig, SlotLimits
from autodim.dimension.allocation import Allocation
from autodim.dimension.budget import parse_budget, resolve
from autodim.dimension.moments import Moments
from autodim.dimension.problem import make_problem
from autodim.dimension.scores import Scores
from autodim.dimension.statistics import Statistics
from autodim.dimension.strategies import STRATEGIES
from autodim.embedding.layout import CostModel, Slot, Table
from autodim.errors import ConfigError, did_you_mean


def allocate(
    scores: Scores | Mapping[str, ArrayLike] | Mapping[str, Moments],
    rows: Mapping[str, int],
    budget: str | BudgetConfig,
    *,
    strategy: str = "sseds",
    rank: Literal["ratio", "score"] = "ratio",
    min_dim: int = 0,
    max_dim: int | None = None,
    multiple_of: int = 1,
    ladder: Sequence[int] | None = None,
    nested: bool = False,
    precision: Literal["fp32", "fp16", "int8"] = "fp32",
    zero: Literal["drop", "keep_min", "mean"] = "drop",
    slots: Mapping[str, SlotLimits | Mapping[str, int]] | None = None,
    state: int = 1,
    seed: int = 0,
) -> Allocation:
    """Widths for tables of your own, from their scores.

    Args:
        scores: per slot the D scores of its dimensions (`saliency` gives them), all slots with the same D; signs do
            not matter. They also serve as the magnitudes of the strategy `magnitude`. Or the moments per slot that
            `spectral` gives: all that the strategies `spectral` need, and the scores with it.
        rows: slot -> number of ids; the same slots.
        budget: such as "25% params", "0.25 dims", "1000000 bytes".
        strategy: a name of `autodim.dimension.strategies.STRATEGIES`; `manual` has `read_widths` instead.
        rank: by score per cost, or by the raw score.
        min_dim: no slot gets fewer dimensions.
        max_dim: nor more.
        multiple_of: widths are multiples of this.
        ladder: the only widths allowed, beside 0 and D.
        nested: widths only grow with the budget.
        precision: how tables are served; matters for budgets in serving_bytes.
        zero: what slots without a dimension become: dropped, one multiple, or their mean.
        slots: limits per slot, e.g. `{"user": {"fixed": 8}}`.
        state: optimizer numbers per stored number (Adagrad 1, Adam 2, SGD 0); matters for bytes.
        seed: of the strategy `random`.

    Returns:
        Widths in the order of `scores`.

    Raises:
        ConfigError: arguments that do not fit each other.
        BudgetError: no allocation meets the budget; the message names the smallest feasible one.
    """
    values = dict(zip(scores.names, scores.values, strict=True)) if isinstance(scores, Scores) else dict(scores)
    moments = {name: v for name, v in values.items() if isinstance(v, Moments)}
    arrays = {
        name: v.saliency if isinstance(v, Moments) else np.asarray(v, dtype=np.float64) for name, v in values.items()
    }
    _check(arrays, rows)
    if strategy not in STRATEGIES:
        raise ConfigError(f"unknown strategy {strategy!r}{did_you_mean(strategy, list(STRATEGIES))}")
    if strategy == "manual":
        raise ConfigError("the strategy manual reads a file; use read_widths")
    settings: dict[str, Any] = {
        "strategy": strategy,
        "budget": parse_budget(budget) if isinstance(budget, str) else budget,
        "rank": rank,
        "min_dim": min_dim,
        "max_dim": max_dim,
        "multiple_of": multiple_of,
        "ladder": None if ladder is None else tuple(ladder),
        "nested": nested,
        "precision": precision,
        "zero": zero,
        "slots": dict(slots or {}),
        "seed": seed,
    }
    try:
        config = PruneConfig.model_validate(settings)
    except ValidationError as error:
        reasons = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}, found {e['input']!r}" for e in error.errors())
        raise ConfigError(f"allocate: {reasons}") from None
    common = len(next(iter(arrays.values())))
    fields = [Slot(name, name) for name in arrays]
    tables = [Table(name, int(rows[name])) for name in arrays]
    cost = CostModel(config.budget.unit, common, state=state, precision=precision)
    problem = make_problem(fields, tables, common, config, cost=cost)
    statistics = Statistics(scores=arrays, magnitude=arrays, extra={"spectral": moments} if moments else {})
    return STRATEGIES[strategy](problem, resolve(config.budget, cost, problem.uniform), statistics)


def _check(scores: Mapping[str, np.ndarray], rows: Mapping[str, int]) -> None:
    if not scores:
        raise ConfigError("allocate: no scores; give at least one slot")
    for name in scores:
        if name not in rows:
            raise ConfigError(f"allocate: rows has no slot {name!r}{did_you_mean(name, list(rows))}")
        if int(rows[name]) < 1:
            raise ConfigError(f"allocate: slot {name!r} has {rows[name]} rows; expected at least 1")
    for name in rows:
        if name not in scores:
            raise ConfigError(f"allocate: scores has no slot {name!r}{did_you_mean(name, list(scores))}")
    shapes = {name: s.shape for name, s in scores.items()}
    if len(set(shapes.values())) > 1 or any(len(s) != 1 or s[0] < 1 for s in shapes.values()):
        raise ConfigError(
            f"allocate: expected D scores for every slot, the same D for all; found shapes {shapes}. "
            "Slots with widths of their own have no common width to project to: allocate them in groups"
        )
    for name, s in scores.items():
        if not np.isfinite(s).all():
            raise ConfigError(f"allocate: the scores of slot {name!r} are not finite")
