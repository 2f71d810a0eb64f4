"""What the strategies that train or search for themselves may be told: parts of the section `prune`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from autodim.config.sections.base import Positive, Section


class SearchConfig(Section):
    """Strategy `search`: many short trainings."""

    sampler: Literal["random", "tpe"] = Field("random", description="tpe: by Optuna, from the extra `search`")
    trials: Positive = Field(20, description="trainings")
    epochs: Positive = Field(1, description="of each, at most")


class PepConfig(Section):
    """Strategy `pep`: one training with learned soft thresholds."""

    granularity: Literal["global", "dimension", "feature", "feature_dimension"] = Field(
        "feature_dimension",
        description="a threshold for all, for each dimension, for each id, or for each id's dimension",
    )
    start: Annotated[float, Field(ge=-20, le=0)] = Field(
        -6.0, description="thresholds begin at sigmoid(start); the paper's -15 does not move under Adam's epsilon"
    )
    epochs: Positive = Field(10, description="at most; early stopping is that of `pretrain`")


class OptEmbedConfig(Section):
    """Strategy `optembed`: a supernet of random prefix widths, and evolution."""

    epochs: Positive = Field(10, description="of the supernet, at most")
    population: Annotated[int, Field(ge=2)] = Field(20, description="candidates a generation")
    generations: Positive = 10
