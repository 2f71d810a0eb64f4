"""Section `model`: what is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from autodim.config.sections.base import Fraction, Positive, Section


class SharingConfig(Section):
    """Several tasks: how they share, for the architectures of `autodim.multitask`."""

    experts: Positive = Field(8, description="omoe, mmoe: experts; snr: sub-networks of each level")
    expert_hidden: Annotated[tuple[Positive, ...], Field(min_length=1)] = Field(
        (16,), description="omoe, mmoe, snr, ple: width of each layer of an expert"
    )
    own_experts: Positive = Field(4, description="ple: experts of each task's own, at each level")
    shared_experts: Positive = Field(4, description="ple: experts of all tasks, at each level")
    levels: Positive = Field(2, description="snr, ple: levels of experts (ple with 1 is CGC)")
    connection: Literal["trans", "aver"] = Field(
        "trans", description="snr: a connection has a matrix of its own (trans) or only weighs (aver)"
    )
    penalty: Annotated[float, Field(ge=0)] = Field(1e-4, description="snr: lambda, the price of an open connection")
    towers: tuple[Positive, ...] = Field((8,), description="layers of each task's tower; [] is one linear layer")
    interaction: Literal["none", "fm", "cross"] = Field(
        "none", description="added to the shared input: products of slot pairs (fm), or a cross network"
    )


class ModelConfig(Section):
    """The uniform model that is pretrained; see `autodim ls models`."""

    name: Literal[
        "fm",
        "deepfm",
        "widedeep",
        "dnn",
        "pnn",
        "dcn",
        "dcnv2",
        "single",
        "shared_bottom",
        "omoe",
        "mmoe",
        "snr",
        "ple",
        "esmm",
    ] = "deepfm"
    width: Positive = Field(16, description="D, the one generous width that every slot starts from")
    hidden: tuple[Positive, ...] = Field(
        (400, 400, 400), description="deep part (the bottom of shared_bottom, each network of single, esmm): layers"
    )
    dropout: Fraction = Field(0.0, description="deep part: after each hidden layer")
    batch_norm: bool = Field(False, description="deep part: batch norm before each activation")
    cross_layers: Positive = Field(3, description="dcn, dcnv2, sharing.interaction cross: number of cross layers")
    product: Literal["inner", "outer"] = Field("inner", description="pnn: which product of slot pairs")
    init_std: Annotated[float, Field(gt=0)] = Field(0.01, description="standard deviation of fresh embedding rows")
    sharing: SharingConfig = SharingConfig()
