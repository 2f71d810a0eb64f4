"""Sections `pretrain` and `retrain`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from autodim.config.sections.base import Positive, Section
from autodim.config.sections.optimizer import OptimizerConfig
from autodim.config.sections.weighting import WeightingConfig


class TrainConfig(Section):
    """One training: pretrain and retrain."""

    batch: Positive = 2048
    epochs: Positive = 10
    evals_per_epoch: Positive = Field(2, description="evaluations on valid per epoch; CTR models overfit within one")
    patience: Positive = Field(4, description="evaluations without a better AUC before training stops")
    plateau: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="factor on the learning rates after an evaluation without a better AUC (1: never)"
    )
    optimizer: OptimizerConfig = OptimizerConfig()
    weighting: WeightingConfig = WeightingConfig()
    bf16: Literal["auto", "on", "off"] = Field("off", description="dense part in bfloat16; auto: where it is fast")


class PretrainConfig(TrainConfig):
    """Train the uniform model, or take one that was trained elsewhere."""

    weights: str | None = Field(
        None, description="a checkpoint (.safetensors, or a torch state_dict) in the place of the training"
    )
    weights_map: str | None = Field(
        None, description="weights: YAML that says which tensor is which table; not for autodim's own exports"
    )


class RetrainConfig(TrainConfig):
    """Train the cut model."""

    mode: Literal["warm", "warm_cold_first", "cold", "none"] = Field(
        "warm",
        description="warm: kept columns and upper layers, first loss equals the cut model's; warm_cold_first: the same "
        "with a fresh first dense layer (SSEDS paper); cold: fresh weights; none: the cut model as it is",
    )
    distill: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="share of the uncut model's probabilities in the labels that are learnt (0: the labels alone)"
    )
