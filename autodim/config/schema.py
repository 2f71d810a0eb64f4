"""What a YAML may say: typed, frozen, torch-free. Each class is one section of the file.

Unknown keys are refused (the reader adds the line number and the nearest name). Field descriptions are the manual:
`autodim show NAME --origins` prints them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(gt=0, le=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SlotConfig(Section):
    """One input field. In YAML a bare string `user` is short for `{name: user}`."""

    name: str = Field(description="name of the slot in every artefact")
    column: str | None = Field(None, description="column of the log; default: the slot's name")
    kind: Literal["categorical", "multi", "buckets", "value"] = Field(
        "categorical",
        description="categorical: text, one id; multi: several ids; buckets: a number cut into ids; value: a number "
        "that goes to the dense part of the model",
    )
    separator: str = Field("|", description="multi: what separates the ids in a text column (list columns need none)")
    pooling: Literal["sum", "mean"] = Field("mean", description="multi: how the ids' vectors become one")
    buckets: Literal["log_square", "quantile"] = Field(
        "log_square", description="buckets: floor(log(x)^2) as in the Criteo challenge, or quantiles"
    )
    bins: Annotated[int, Field(ge=2, le=10_000)] = Field(50, description="buckets: number of quantiles")
    prefix: Positive | None = Field(None, description="categorical: keep only the first characters of the text")
    min_count: Positive | None = Field(None, description="overrides data.min_count")
    table: str | None = Field(None, description="name of a table shared with other slots; default: the slot's own")

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def source(self) -> str:
        return self.column or self.name


class LabelConfig(Section):
    """One binary label. In YAML a bare string is a column that holds 0 and 1."""

    name: str = Field(description="name of the task")
    column: str | None = Field(None, description="column of the log; default: the label's name")
    above: float | None = Field(None, description="1 where the column is greater than this")
    equals: str | float | None = Field(None, description="1 where the column has this value")

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def source(self) -> str:
        return self.column or self.name


class SplitConfig(Section):
    """Which rows train, choose (valid) and judge (test)."""

    by: Literal["random", "time", "column"] = "random"
    valid: Fraction = Field(0.1, description="random, time: share of the rows")
    test: Fraction = Field(0.1, description="random, time: share of the rows")
    column: str | None = Field(None, description="time: a sortable column; column: the one that names the part")
    train_values: tuple[str, ...] = Field(("train",), description="column: values that mean train")
    valid_values: tuple[str, ...] = Field(("valid", "validation", "val"), description="column: values for valid")
    test_values: tuple[str, ...] = Field(("test",), description="column: values that mean test")
    valid_from: Literal["train", "test"] | None = Field(
        None, description="column: no value means valid; take the share `valid` of this part at random"
    )
    seed: int = 0


class DataConfig(Section):
    """The log and how it is read."""

    path: str | None = Field(None, description="CSV, TSV or Parquet file(s); ${AUTODIM_DATA} is expanded")
    log: Literal["flights", "planted", "criteo", "avazu"] | None = Field(
        None, description="a log that autodim knows how to build or read; criteo and avazu also need `path`"
    )
    options: dict[str, int | float | str | bool] = Field(
        default_factory=dict, description="planted: rows, slots, width, seed"
    )
    delimiter: str | None = Field(None, description="CSV: default by the file's name (.tsv: tab, else comma)")
    header: bool = Field(True, description="CSV: the first line names the columns")
    names: tuple[str, ...] = Field((), description="CSV without a header: the columns' names")
    labels: tuple[LabelConfig, ...] = Field((), description="the tasks; the first is the main one")
    slots: tuple[SlotConfig, ...] = Field((), description="the input fields, in the model's order")
    drop: dict[str, str | int | float] = Field(
        default_factory=dict, description="rows whose column has this value are left out, and counted"
    )
    missing: tuple[str, ...] = Field(("",), description="texts that mean missing; they get an id of their own")
    min_count: Positive = Field(1, description="rarer values share the out-of-vocabulary id")
    max_bad_rows: NonNegative = Field(0, description="rows that cannot be read before prepare stops")
    split: SplitConfig = SplitConfig()


class ModelConfig(Section):
    """The uniform model that is pretrained; see `autodim ls models`."""

    name: Literal["fm", "deepfm", "widedeep", "dnn", "pnn", "dcn", "dcnv2"] = "deepfm"
    width: Positive = Field(16, description="D, the one generous width that every slot starts from")
    hidden: tuple[Positive, ...] = Field((400, 400, 400), description="deep part: width of each layer")
    dropout: Fraction = Field(0.0, description="deep part: after each hidden layer")
    batch_norm: bool = Field(False, description="deep part: batch norm before each activation")
    cross_layers: Positive = Field(3, description="dcn, dcnv2: number of cross layers")
    product: Literal["inner", "outer"] = Field("inner", description="pnn: which product of slot pairs")
    init_std: Annotated[float, Field(gt=0)] = Field(0.01, description="standard deviation of fresh embedding rows")


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
    bf16: Literal["auto", "on", "off"] = Field("off", description="dense part in bfloat16; auto: where it is fast")


class BudgetConfig(Section):
    """What may be spent on embeddings: exactly one of `share` and `amount`."""

    unit: Literal["params", "bytes", "dims"] = "params"
    share: Share | None = Field(None, description="of what the uniform model spends")
    amount: Positive | None = Field(None, description="absolute, in the unit")

    @model_validator(mode="after")
    def _one(self) -> BudgetConfig:
        if (self.share is None) == (self.amount is None):
            raise ValueError("give exactly one of `share` (0..1 of the uniform model) and `amount` (in the unit)")
        return self


class SlotLimits(Section):
    """Limits on one slot's width."""

    min_dim: NonNegative | None = None
    max_dim: Positive | None = None
    fixed: NonNegative | None = None
    multiple_of: Positive | None = None


class PruneConfig(Section):
    """Score and allocate."""

    strategy: Literal[
        "sseds",
        "spectral",
        "spectral_uniform",
        "magnitude",
        "random",
        "uniform",
        "frequency_tiers",
        "power_rule",
        "fourth_root",
        "manual",
    ] = "sseds"
    preset: Literal["paper"] | None = Field(
        None, description="paper: every choice that SSEDS leaves open as the paper reads (dims, raw global ranking)"
    )
    budget: BudgetConfig = BudgetConfig(share=0.25)
    on: Literal["valid", "train"] = Field("valid", description="rows that are scored; held out by default")
    rows: Positive | None = Field(None, description="score at most this many rows; default: all")
    rank: Literal["ratio", "score"] = Field("ratio", description="score per cost (knapsack), or the raw score")
    min_dim: NonNegative = Field(0, description="no slot gets fewer dimensions")
    max_dim: Positive | None = None
    multiple_of: Positive = Field(1, description="widths are multiples of this (4 for torchrec/FBGEMM)")
    zero: Literal["drop", "keep_min", "mean"] = Field(
        "drop", description="slots that earn nothing: zero vector, one dimension (multiple_of) each, or their mean"
    )
    slots: dict[str, SlotLimits] = Field(default_factory=dict, description="limits per slot")
    curvature: Literal["gauss_newton", "fisher"] = Field(
        "gauss_newton", description="spectral: how the loss bends by a slot's vector; fisher: from squared gradients"
    )
    ridge: Annotated[float, Field(gt=0, lt=1)] = Field(
        1e-6, description="spectral: added to the curvature's diagonal, as a share of its mean eigenvalue"
    )
    alpha: Annotated[float, Field(gt=0, le=2)] = Field(0.3, description="power_rule: temperature")
    ladder: tuple[Positive, ...] = Field((1, 4, 8, 16, 32, 64), description="frequency_tiers: the widths")
    widths: str | None = Field(None, description="manual: a widths file")
    seed: int = Field(0, description="random: its draw")


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


class Config(Section):
    """A whole file: the road from a raw log to a smaller model."""

    description: str = Field("", description="one line for `autodim ls`")
    run: str = Field("runs/autodim", description="folder of the run; its parent is made")
    seed: int = Field(0, description="initial weights, shuffling and dropout")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Positive | None = Field(None, description="CPU threads; default: all cores")
    data: DataConfig
    model: ModelConfig = ModelConfig()
    pretrain: TrainConfig = TrainConfig()
    prune: PruneConfig = PruneConfig()
    retrain: RetrainConfig = RetrainConfig()
