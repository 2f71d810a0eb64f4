"""What is measured: a variant, and the widths of a pruned one. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from autodim.dimension.api import allocate
from autodim.embedding.layout import Layout, Slot, Table, uniform_layout

MODELS = ("fm", "deepfm", "dnn", "dcnv2")
SHARED = ("single", "shared_bottom", "omoe", "mmoe", "snr", "ple", "esmm")  # for several tasks; sizes as by default
WEIGHTINGS = ("uniform", "uncertainty", "dwa", "gradnorm", "pcgrad", "gradvac", "mgda", "pe_ltr")
OPTIMIZERS = ("adagrad", "rowwise_adagrad", "lazy_adam")
HIDDEN = (400, 400, 400)

# what is measured beside the tables' rule: a section `optimizer` without its tables
METHODS: dict[str, dict[str, Any]] = {
    "none": {},
    "adagrad": {"dense": {"name": "adagrad", "lr": 1e-2}},
    "clippy_adagrad": {"dense": {"name": "clippy_adagrad", "lr": 1e-2}},
    "clippy_adam": {"dense": {"name": "clippy_adam"}},
    "norm": {"clip": [{"name": "norm", "max_norm": 1.0}]},
    "agc": {"clip": [{"name": "agc"}]},
    "cowclip": {"clip": [{"name": "cowclip"}]},
    "sam": {"perturb": {"name": "sam"}},
    "asam": {"perturb": {"name": "asam"}},
    "helen": {"perturb": {"name": "helen"}},
}


@dataclass(frozen=True)
class Variant:
    """One row of the result.

    Attributes:
        system: autodim, or a peer's name.
        model: one of MODELS, or of SHARED with several tasks. width: D. batch: rows of a step and of an inference
            batch.
        share: of the uniform model's budget, by the power rule; 1: uniform.
        unit: of the share: params or dims.
        optimizer: of the tables; a peer has its own default.
        bf16: the dense part in bfloat16.
        method: one of METHODS.
        scale: the tables have this many times the rows, and the batches the very same number of unique rows.
        tasks: T, labels of the synthetic log. weighting: of their losses; `NAME/k` finds the weights every k steps.
    """

    system: str
    model: str
    width: int
    batch: int
    share: float = 1.0
    unit: str = "params"
    optimizer: str = "rowwise_adagrad"
    bf16: bool = False
    scale: int = 1
    tasks: int = 1
    weighting: str = "uniform"
    method: str = "none"

    @property
    def name(self) -> str:
        """What the table's first column says."""
        cut = "" if self.share == 1 else f" at {self.share:.4g} {self.unit}"
        more = (f", rows x {self.scale}" if self.scale > 1 else "") + (
            f" {self.method}" if self.method != "none" else ""
        )
        many = f", {self.tasks} tasks {self.weighting}" if self.tasks > 1 else ""
        return f"{self.model} {self.width}{cut}{more}{many}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def layout_of(variant: Variant, slots: Sequence[Slot], tables: Sequence[Table]) -> Layout:
    """The variant's layout: uniform, or cut by the power rule (which needs no trained model) to the share;
    every slot keeps at least one dimension.

    Raises:
        BudgetError: nothing fits the share.
    """
    if variant.share == 1:
        return uniform_layout(slots, tables, variant.width)
    rows = {t.name: t.rows for t in tables}
    allocation = allocate(
        {t.name: np.ones(variant.width) for t in tables},
        rows,
        f"{variant.share * 100:.6g}% {variant.unit}",
        strategy="power_rule",
        zero="keep_min",
        min_dim=1,
    )
    return Layout(variant.width, tuple(slots), tuple(tables), tuple(e.block for e in allocation.entries))


def widths_of(layout: Layout) -> list[int]:
    """Per slot the stored width."""
    return [layout.blocks_of(s.table)[0].width for s in layout.slots]
