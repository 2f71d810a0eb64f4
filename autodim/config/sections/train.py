"""Sections `pretrain` and `retrain`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from autodim.config.sections.base import Positive, Section
from autodim.config.sections.optimizer import OptimizerConfig
from autodim.config.sections.weighting import WeightingConfig


class WatchConfig(Section):
    """What is done when a training diverges: the loss jumps and stays up, the AUC falls to chance, or numbers are not
    finite. Every event is written to metrics.jsonl and shown in the report, whatever the policy."""

    policy: Literal["warn", "stop", "rollback"] = Field(
        "warn",
        description="on full divergence: go on (numbers that stay not finite end the run), stop and keep the best "
        "evaluation, or go back to the last good checkpoint with lower learning rates",
    )
    k: Annotated[float, Field(gt=0)] = Field(
        8.0, description="a loss has jumped when it is so many mean deviations above its moving average"
    )
    patience: Positive = Field(100, description="steps that a jump may last before it counts as full divergence")
    finite_patience: Positive = Field(10, description="steps in a row with a loss that is not finite, likewise")
    factor: Annotated[float, Field(gt=0, lt=1)] = Field(0.5, description="rollback: factor on the learning rates")
    rollbacks: Positive = Field(3, description="rollback: how often; then training stops")


class WindowsConfig(Section):
    """Training in the order of time: windows of periods, each evaluated on the period that follows it. Needs
    `data.split.by: time`, whose column says when a row was."""

    period: Annotated[str, Field(pattern=r"^[0-9.]+ ?(s|min|h|d|w)?$")] = Field(
        description="length of a period: 1d, 6h, 30min; a bare number is in the units of a column of numbers"
    )
    size: Positive = Field(description="periods of a window; a larger one smooths drift")
    stride: Positive = Field(1, description="periods from one window to the next")


class TrainConfig(Section):
    """One training: pretrain and retrain."""

    batch: Positive = 2048
    accumulate: Positive = Field(
        1, description="compute each batch in so many pieces: the same update, less memory for the dense part"
    )
    epochs: Positive = 10
    evals_per_epoch: Positive = Field(2, description="evaluations on valid per epoch; CTR models overfit within one")
    patience: Positive = Field(4, description="evaluations without a better AUC before training stops")
    select_by: Literal["first", "mean"] = Field(
        "first", description="several main tasks: what the best evaluation is, the first one's AUC or their mean"
    )
    plateau: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="factor on the learning rates after an evaluation without a better AUC (1: never)"
    )
    windows: WindowsConfig | None = Field(None, description="sliding windows over time; epochs are then of a window")
    alternate: Literal["by_size", "equal", "never"] = Field(
        "by_size",
        description="data.logs: a batch has rows of one log, and the logs take turns, by_size: as often as they have "
        "rows, each once an epoch; equal: one batch each, shorter logs go round again; never: batches mix all logs",
    )
    watch: WatchConfig = WatchConfig()
    keep_state: bool = Field(
        False, description="keep the optimizer's state beside the model, so that `autodim continue` can go on with it"
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
        description="warm: starts as the cut model, which stays where no evaluation is better; warm_cold_first: "
        "the same with a fresh first dense layer (SSEDS paper); cold: fresh weights; none: the cut model as it is",
    )
    distill: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="share of the uncut model's probabilities in the labels that are learnt (0: the labels alone)"
    )
