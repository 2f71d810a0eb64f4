"""Section `model`: what is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from autodim.config.sections.base import Fraction, Positive, Section


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
