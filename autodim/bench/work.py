"""The least work that a sample costs, and the limit of a machine that follows from it. Torch-free.

FLOPs: two per multiplication of a matrix, once forward and twice backward (towards the inputs and the weights), so
`6 M` for training and `2 M` for inference, M the multiplications of the dense layers. Sums, activations and the update
are free. Bytes: a vector of `sum(d_i)` float32 is read once forward, and read and written once by the update: `12
sum(d_i)` for training and `4 sum(d_i)` for inference. Activations, gradients, ids and optimizer state are free.

    limit = 1 / max(FLOPs / matrix rate, bytes / copy rate)    samples/s

Nothing can be faster on the machine, short of keeping rows in the cache. At 190 GFLOP/s and 50 GB/s it is 56 k
samples/s for DeepFM 3x400 with 39 slots at width 16, 24 k at width 64, and 6.7 M and 1.7 M for FM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Rates:
    """What a machine does per second with the threads of a run.

    Attributes:
        copy: bytes read plus bytes written by a copy of memory that is in no cache.
        fp32: FLOPs of a product of float32 matrices. bf16: of bfloat16 ones.
    """

    copy: float
    fp32: float
    bf16: float


@dataclass(frozen=True)
class Work:
    """What a sample costs at least."""

    multiplications: float
    numbers: int

    def flops(self, train: bool) -> float:
        return (6 if train else 2) * self.multiplications

    def bytes(self, train: bool) -> float:
        return (12 if train else 4) * self.numbers

    def limit(self, rates: Rates, train: bool, bf16: bool) -> float:
        """Samples/s that no program passes."""
        matrix = rates.bf16 if bf16 else rates.fp32
        return 1 / max(self.flops(train) / matrix, self.bytes(train) / rates.copy)


def work(model: str, widths: Sequence[int], common: int, numeric: int, hidden: Sequence[int], cross: int = 3) -> Work:
    """The least work of a model on slots of these widths (all `common`: uniform), dense layers `hidden`, one output.

    A first dense layer reads sum(d_i) numbers, projections folded. Products of slot vectors themselves (FM's pairs,
    DCNv2's x_0) need the projected sum or stack: d_i D multiplications a projected slot.

    Raises:
        ValueError: no work is known for the model.
    """
    total = sum(widths)
    projected = common * sum(w for w in widths if w < common)
    layers = [total + numeric, *hidden, 1]
    deep = sum(a * b for a, b in pairwise(layers))
    if model == "fm":
        return Work(projected, total)
    if model == "deepfm":
        return Work(projected + deep, total)
    if model == "dnn":
        return Work(deep, total)
    if model == "dcnv2":
        wide = len(widths) * common + numeric
        return Work(projected + deep + (total + numeric) * wide + (cross - 1) * wide**2 + wide, total)
    raise ValueError(f"no work is known for the model {model!r}; known: fm, deepfm, dnn, dcnv2")
