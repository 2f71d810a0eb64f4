"""Section `weighting` of a training: how the losses of several tasks become one update."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from autodim.config.sections.base import Positive, Section

NonNegativeFloat = Annotated[float, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]


class WeightingConfig(Section):
    """The losses of several tasks -> one update; see `autodim ls weightings`."""

    name: Literal[
        "uniform",
        "static",
        "decayed",
        "uncertainty",
        "dwa",
        "gradnorm",
        "pcgrad",
        "gradvac",
        "mgda",
        "pe_ltr",
        "paperec",
    ] = Field("uniform", description="see `autodim ls weightings`")
    mode: Literal["exact", "trunk", "representation"] = Field(
        "exact",
        description="pcgrad, gradvac, mgda, pe_ltr: where gradients are compared: everything shared, tables at the "
        "batch's rows; without the tables; or at the last shared layer's output (cheap, and little better than a coin)",
    )
    every: Positive = Field(1, description="pcgrad, gradvac, mgda, pe_ltr: steps that share one solution")
    weights: dict[str, NonNegativeFloat] = Field(
        default_factory=dict, description="static, decayed: weight by task; a task that is not named has 1"
    )
    decay: dict[str, PositiveFloat] = Field(
        default_factory=dict, description="decayed: factor an epoch by task; a task that is not named has 1"
    )
    lr: PositiveFloat | None = Field(
        None, description="of what is learned; default: uncertainty .001, gradnorm .025, paperec .001"
    )
    regression: tuple[str, ...] = Field((), description="uncertainty: tasks whose loss is a squared error")
    cap: Annotated[float, Field(ge=1)] | None = Field(
        None, description="uncertainty: largest ratio of two weights; default: no bound"
    )
    window: PositiveFloat = Field(
        1.0, description="dwa: epochs that a mean loss is taken over; .25 is a quarter of one"
    )
    window_steps: Positive | None = Field(None, description="dwa: the window in steps, instead of epochs")
    temperature: PositiveFloat = Field(2.0, description="dwa: larger is more even")
    alpha: NonNegativeFloat = Field(1.5, description="gradnorm: how hard tasks that lag behind are pulled up")
    initial: Literal["first", "base_rate"] = Field(
        "first", description="gradnorm: losses to compare with: the first batch's, or those of the labels' mean rates"
    )
    beta: Annotated[float, Field(ge=0, le=1)] = Field(0.01, description="gradvac: pace of the target cosines")
    groups: Literal["model", "layer"] = Field(
        "model",
        description="gradvac: where gradients are compared and turned: everything shared at once, or the tables as one "
        "and each shared layer as one",
    )
    floor: dict[str, NonNegativeFloat] = Field(
        default_factory=dict, description="pe_ltr, paperec: least weight by task, their sum below 1"
    )
    solve: Literal["paper", "exact"] = Field(
        "paper", description="pe_ltr: the paper's two steps, or the optimum (they differ from three tasks on)"
    )
    scale_own: bool = Field(False, description="pe_ltr: weigh the tasks' own parameters too (the released code)")
    group: str | None = Field(None, description="paperec: slot whose ids share weights; default: weights by example")
