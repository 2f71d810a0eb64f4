"""What a YAML may say: typed, frozen, torch-free. Each class is one section of the file.

Unknown keys are refused (the reader adds the line number and the nearest name). Field descriptions are the manual:
`autodim show NAME --origins` prints them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autodim.config.sections.base import Positive, Section
from autodim.config.sections.data import DataConfig, LabelConfig, LogConfig, SlotConfig, SplitConfig
from autodim.config.sections.model import ModelConfig, SharingConfig
from autodim.config.sections.optimizer import (
    ClipConfig,
    DenseOptimizerConfig,
    OptimizerConfig,
    PerturbConfig,
    ScheduleConfig,
    TableOptimizerConfig,
)
from autodim.config.sections.prune import BlocksConfig, BudgetConfig, PruneConfig, QualityConfig, SlotLimits
from autodim.config.sections.train import PretrainConfig, RetrainConfig, TrainConfig, WatchConfig, WindowsConfig
from autodim.config.sections.weighting import WeightingConfig

__all__ = [
    "BlocksConfig",
    "BudgetConfig",
    "ClipConfig",
    "Config",
    "DataConfig",
    "DenseOptimizerConfig",
    "LabelConfig",
    "LogConfig",
    "ModelConfig",
    "OptimizerConfig",
    "PerturbConfig",
    "PretrainConfig",
    "PruneConfig",
    "QualityConfig",
    "RetrainConfig",
    "ScheduleConfig",
    "Section",
    "SharingConfig",
    "SlotConfig",
    "SlotLimits",
    "SplitConfig",
    "TableOptimizerConfig",
    "TrainConfig",
    "WatchConfig",
    "WeightingConfig",
    "WindowsConfig",
]


class Config(Section):
    """A whole file: the road from a raw log to a smaller model."""

    description: str = Field("", description="one line for `autodim ls`")
    run: str = Field("runs/autodim", description="folder of the run; its parent is made")
    seed: int = Field(0, description="initial weights, shuffling and dropout")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Positive | None = Field(None, description="CPU threads; default: all cores")
    data: DataConfig
    model: ModelConfig = ModelConfig()
    pretrain: PretrainConfig = PretrainConfig()
    prune: PruneConfig = PruneConfig()
    retrain: RetrainConfig = RetrainConfig()
