"""Tables and model together: from a batch to logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from autodim.data.batch import Batch
from autodim.embedding.lookup import Lookup
from autodim.embedding.tables import Tables


class Network(nn.Module):
    """A recommender: the embedding side and a model that reads it.

    Args:
        tables: the embedding side; any widths.
        model: `(slot vectors, first-order terms, numerics) -> logits B x T`; it never sees a width.
    """

    def __init__(self, tables: Tables, model: nn.Module):
        super().__init__()
        self.tables = tables
        self.model = model

    def logits(self, lookup: Lookup, batch: Batch, leaves: Sequence[Tensor] | None = None) -> Tensor:
        """Logits B x T from a lookup that was made already."""
        vectors, linear = lookup.inputs(leaves)
        return self.model(vectors, linear, batch.numeric)

    def forward(self, batch: Batch) -> Tensor:
        """Logits B x T of a batch, without gradients to the tables."""
        return self.logits(self.tables.lookup(batch), batch)

    def dense_parameters(self) -> list[nn.Parameter]:
        """Everything that is not a table: the model, projections and biases."""
        return [*self.model.parameters(), *self.tables.dense_parameters()]

    def state(self) -> dict[str, Tensor]:
        """All weights and buffers by name, for a safetensors file."""
        return {k: v.detach().contiguous() for k, v in self.state_dict().items()}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """The reverse of `state`; names and shapes must agree."""
        with torch.no_grad():
            self.load_state_dict(tensors)
