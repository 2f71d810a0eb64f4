"""Models: (slot vectors, first-order weights, numeric columns) -> logits. One paper, one file.

What goes in: `slots` answers for S vectors of D numbers for each of B examples (`stack()`, or a linear map of all of
them), `linear` holds the first-order weight of each slot's id (B x S; only where the model's `uses_linear` says so,
and None is always allowed), `numeric` holds the columns that are no ids (B x n). What comes out: logits, B x T; no
sigmoid. S = 0 (numeric only) and n = 0 both work. A model knows nothing of widths, tables, devices, losses or loops.

When to pick which:

- `fm`: all pairs of slots by one formula and next to no weights of its own; the fastest by far.
- `deepfm`: FM beside a dense network on the same vectors; the usual first choice for clicks.
- `widedeep`: first-order weights beside a dense network; the plain baseline of the two-part models.
- `dnn`: the dense network alone. It consumes the vectors linearly, so a cut makes it faster as well as smaller.
- `pnn`: a dense network that is also fed the products of slot pairs (`inner`), or of their sum (`outer`).
- `dcn`: explicit crosses of rising degree by vectors; nearly free, and cuts make it faster like `dnn`.
- `dcnv2`: crosses by matrices; the strongest and dearest of the family at large S D.

Architectures that share between tasks are models too; see `autodim.multitask`.

A new model is one file with one class, one line in `MODELS`, one test case. Each class's docstring opens with a
one-line description.

Letters: B examples, S slots, D common width, n numeric columns, T tasks, H width of a dense layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from autodim.models.base import Model
from autodim.models.dcn import DCN
from autodim.models.dcnv2 import DCNv2
from autodim.models.deepfm import DeepFM
from autodim.models.dnn import DNN
from autodim.models.fm import FM
from autodim.models.pnn import PNN
from autodim.models.wide_deep import WideDeep

if TYPE_CHECKING:
    from autodim.config.schema import ModelConfig

MODELS: dict[str, type[Model]] = {
    "fm": FM,
    "deepfm": DeepFM,
    "widedeep": WideDeep,
    "dnn": DNN,
    "pnn": PNN,
    "dcn": DCN,
    "dcnv2": DCNv2,
}


def build_model(config: ModelConfig, slots: int, numeric: int, tasks: int = 1, seed: int = 0) -> Model:
    """Build the model that a config names, on the CPU.

    Args:
        config: the config's section `model`; each model takes only the options that it uses.
        slots: S, at least 0.
        numeric: n, at least 0.
        tasks: T, at least 1.
        seed: the initial weights are a pure function of it (and of the other arguments); the global random state is
            read by nobody and left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the GPUs as well
        return model_class(config.name).from_config(config, slots, numeric, tasks)


def model_class(name: str) -> type[Model]:
    """The class of a model or of a sharing architecture."""
    from autodim.multitask import ARCHITECTURES  # they are models themselves, and import this package

    return (MODELS | ARCHITECTURES)[name]
