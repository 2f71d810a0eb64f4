"""Section `optimizer` of a training: how gradients become updates."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from autodim.config.sections.base import Fraction, Section


class TableOptimizerConfig(Section):
    """Update rule of embedding rows; touches only the rows of the batch."""

    name: Literal["adagrad", "rowwise_adagrad", "lazy_adam", "sgd"] = "lazy_adam"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    l2: Annotated[float, Field(ge=0)] = Field(0.0, description="L2 penalty, applied lazily to the batch's rows")


class DenseOptimizerConfig(Section):
    """Update rule of everything else."""

    name: Literal["adam", "adamw", "adagrad", "sgd", "clippy_adagrad", "clippy_adam"] = "adam"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    mode: Literal["paper", "tfrs"] = Field(
        "paper", description="clippy_*: the paper's limits, or TensorFlow Recommenders' (zero weights hardly move)"
    )


class PerturbConfig(Section):
    """A second pass: weights are updated with the gradient found at perturbed weights. Twice the work a step."""

    name: Literal["helen", "sam", "asam"] = Field(description="see `autodim ls perturbations`")
    rho: Annotated[float, Field(ge=0)] | None = Field(
        None, description="radius; default: the paper's (helen .05, sam .05, asam .5); 0: the base optimizer"
    )
    xi: Annotated[float, Field(ge=0, le=1)] = Field(0.3, description="helen: least share of rho for rare ids")
    norm_scope: Literal["slot", "row", "global"] = Field(
        "slot", description="helen: whose gradient's norm divides a row's; row (the paper) needs a far smaller rho"
    )
    frequency: Literal["batch", "global", "ema"] = Field(
        "batch", description="helen: counts of the batch, of all training rows, or a moving average"
    )
    decay: Fraction = Field(0.99, description="helen with frequency: ema: of the average")
    dense: Literal["own", "global", "none"] = Field(
        "own", description="helen: norm for the dense parameters; none: they are not perturbed"
    )
    eta: Annotated[float, Field(gt=0)] = Field(0.01, description="asam: added to the size of each weight")


class ClipConfig(Section):
    """A bound on gradients, before the update."""

    name: Literal["norm", "agc", "cowclip"] = Field(description="see `autodim ls clippers`")
    max_norm: Annotated[float, Field(gt=0)] | None = Field(None, description="norm: largest norm of all gradients")
    clip: Annotated[float, Field(gt=0)] = Field(0.01, description="agc: largest gradient, as a share of the weights")
    eps: Annotated[float, Field(gt=0)] = Field(1e-3, description="agc: weights count as at least this")
    ratio: Annotated[float, Field(gt=0)] = Field(1.0, description="cowclip: r, a row's limit as a share of its norm")
    zeta: Annotated[float, Field(gt=0)] = Field(1e-5, description="cowclip: least limit of a row")
    form: Literal["paper", "released"] = Field("paper", description="cowclip: zeta, or r * sqrt(width) * zeta")
    l2: Annotated[float, Field(ge=0)] = Field(
        0.0, description="cowclip: L2 penalty on tables, added before clipping (tables.l2 would come after)"
    )


class ScheduleConfig(Section):
    """Learning rates over the whole training, of tables and dense parameters alike."""

    name: Literal["constant", "linear", "cosine"] = Field(description="see `autodim ls schedules`")
    warmup: Annotated[float, Field(ge=0)] = Field(0.0, description="epochs of linear rise before it; .5 is half of one")
    floor: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="linear, cosine: share of the rates that is left at the last epoch's end"
    )


class OptimizerConfig(Section):
    """How gradients become updates: `perturb`, then `clip`, then the rules for `tables` and `dense`."""

    tables: TableOptimizerConfig = TableOptimizerConfig()
    dense: DenseOptimizerConfig = DenseOptimizerConfig()
    perturb: PerturbConfig | None = Field(None, description="second pass at perturbed weights; default: none")
    clip: tuple[ClipConfig, ...] = Field((), description="bounds on the gradients, in this order")
    schedule: ScheduleConfig | None = Field(None, description="learning rates over time; default: they stay")
    scale_batch: Annotated[float, Field(gt=0)] = Field(
        1.0,
        description="the batch is so many times the one that these rates were found for (CowClip's rule): L2 on tables "
        "times it, the dense rate times its root after one epoch of warm-up, the tables' rate as it is",
    )
