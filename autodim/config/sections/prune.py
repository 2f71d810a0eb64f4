"""Section `prune`: score and allocate."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from autodim.config.sections.base import Fraction, NonNegative, Positive, Section, Share
from autodim.config.sections.searches import OptEmbedConfig, PepConfig, SearchConfig

TIERS = (1, 4, 8, 16, 32, 64)  # frequency_tiers without a ladder


class BudgetConfig(Section):
    """What may be spent on embeddings: exactly one of `share` and `amount`, or what quality may be lost."""

    unit: Literal["params", "bytes", "serving_bytes", "dims"] = Field(
        "params",
        description="bytes: in training, with the optimizer's state; serving_bytes: as served, in prune.precision",
    )
    share: Share | None = Field(None, description="of what the uniform model spends")
    amount: Positive | None = Field(None, description="absolute, in the unit")
    max_loss_increase: Annotated[float, Field(gt=0)] | None = Field(
        None, description="by quality: the smallest model whose log loss is at most this much (nats) above the uncut's"
    )
    max_auc_drop: Annotated[float, Field(gt=0, lt=0.5)] | None = Field(
        None, description="by quality: the smallest model whose AUC is at most this much below the uncut's"
    )

    @model_validator(mode="after")
    def _one(self) -> BudgetConfig:
        if (self.share is not None) + (self.amount is not None) + self.by_quality != 1:
            raise ValueError(
                "give exactly one of `share` (0..1 of the uniform model) and `amount` (in the unit), or what may be "
                "lost: `max_loss_increase`, `max_auc_drop` or both"
            )
        return self

    @property
    def by_quality(self) -> bool:
        """Whether the budget is what may be lost, and the amount is to be found by measuring."""
        return self.max_loss_increase is not None or self.max_auc_drop is not None


class QualityConfig(Section):
    """How a budget by quality is measured."""

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = Field(
        0.95, description="of the one-sided bound on what is lost (paired)"
    )
    confirm: Fraction = Field(
        0.5, description="share of the validation rows that only judge: no early stopping, no scoring on them"
    )
    measure: Literal["auto", "cut", "retrained"] = Field(
        "auto", description="which model has to keep the quality: the cut, or the one that is retrained from it; auto: "
        "the one that is handed over",
    )  # fmt: skip


class TasksConfig(Section):
    """How a cut serves several main tasks."""

    combine: Literal["sum", "worst"] = Field(
        "sum", description="worst: the largest share of a task's predicted worth that is lost is made smallest"
    )
    weights: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(
        default_factory=dict, description="factor of each main task, by its label; those not named count once"
    )


class SlotLimits(Section):
    """Limits on one slot's width."""

    min_dim: NonNegative | None = None
    max_dim: Positive | None = None
    fixed: NonNegative | None = None
    multiple_of: Positive | None = None


class BlocksConfig(Section):
    """Cut tables into blocks of rows by training frequency (head, torso, tail), each with a width of its own."""

    slots: Literal["auto"] | tuple[str, ...] = Field(
        (), description="which slots' tables are cut; auto: all whose blocks have min_rows each; empty: none"
    )
    shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.5, 0.9), description="where blocks end, rising: the most frequent ids up to these shares"
    )
    by: Literal["occurrences", "rows"] = Field(
        "occurrences", description="shares of what: of the training rows that the ids occur in, or of the ids"
    )
    min_rows: Positive = Field(64, description="a block of fewer ids joins the next one")


class PruneConfig(Section):
    """Score and allocate."""

    strategy: Literal[
        "sseds",
        "spectral",
        "spectral_uniform",
        "spectral_refit",
        "spectral_tempered",
        "magnitude",
        "random",
        "uniform",
        "uniform_int8",
        "frequency_tiers",
        "power_rule",
        "fourth_root",
        "mask_auc",
        "mask_exact",
        "search",
        "pep",
        "optembed",
        "manual",
    ] = "spectral"
    preset: Literal["paper"] | None = Field(
        None, description="paper: every choice that SSEDS leaves open as the paper reads (dims, raw global ranking)"
    )
    budget: BudgetConfig = BudgetConfig(share=0.25)
    quality: QualityConfig = QualityConfig()
    tasks: TasksConfig = TasksConfig()
    on: Literal["valid", "train"] = Field("valid", description="rows that are scored; held out by default")
    rows: Positive | None = Field(None, description="score at most this many rows; default: all")
    rank: Literal["ratio", "score"] = Field("ratio", description="score per cost (knapsack), or the raw score")
    min_dim: NonNegative = Field(0, description="no slot gets fewer dimensions")
    max_dim: Positive | None = None
    multiple_of: Positive = Field(1, description="widths are multiples of this (4 for torchrec/FBGEMM)")
    ladder: tuple[Positive, ...] | None = Field(
        None,
        min_length=1,
        description="the only widths allowed, beside 0 and D; default: any, and for frequency_tiers 1/4/8/16/32/64",
    )
    nested: bool = Field(
        False,
        description="widths only grow with the budget: steps in one order, up to the first that does not fit",
    )
    precision: Literal["fp32", "fp16", "int8", "auto"] = Field(
        "fp32", description="how tables are served; int8: row-wise; auto: width against precision, slot by slot"
    )
    zero: Literal["drop", "keep_min", "mean"] = Field(
        "drop",
        description="slots that earn nothing: zero vector, one dimension (multiple_of) each, or their mean; "
        "spectral cuts keep the mean anyway",
    )
    slots: dict[str, SlotLimits] = Field(default_factory=dict, description="limits per slot")
    blocks: BlocksConfig = Field(
        BlocksConfig(), description="widths per block of ids (head, torso, tail) and not per slot"
    )
    curvature: Literal["gauss_newton", "fisher"] = Field(
        "gauss_newton", description="spectral: how the loss bends by a slot's vector; fisher: from squared gradients"
    )
    ridge: Annotated[float, Field(gt=0, lt=1)] = Field(
        1e-6, description="spectral: added to the curvature's diagonal, as a share of its mean eigenvalue"
    )
    gamma: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="spectral_tempered: gains are lambda^gamma; 1 is `spectral`, near 0 all dimensions alike"
    )
    alpha: Annotated[float, Field(gt=0, le=2)] = Field(0.3, description="power_rule: temperature")
    thresholds: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        (),
        description="frequency_tiers: for each rung of the ladder the training occurrences of an id that it takes; "
        "default: solved for the budget",
    )
    search: SearchConfig = SearchConfig()
    pep: PepConfig = PepConfig()
    optembed: OptEmbedConfig = OptEmbedConfig()
    widths: str | None = Field(None, description="manual: a widths file")
    seed: int = Field(0, description="random, search, pep, optembed: their draws")
