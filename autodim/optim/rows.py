"""What all rules for tables share: read the batch's rows, update them, write them back.

A table's `.grad` is a sparse tensor: U row numbers and U x w values. Sorted unique rows (`is_coalesced`) are taken as
they are; repeated rows, as `nn.Embedding(sparse=True)` leaves them, are summed first. A dense gradient means all rows.

Lazy L2. A dense penalty `l2 / 2 |w|^2` would pull every row at every step. Here only the batch's rows are pulled:
`g_k += l2 c_k w_k`, c_k from the group's `l2_scale`. With c_k = 1 / P(row k is in a batch), a row's expected pull per
step equals the dense one's; with None (c = 1) frequent rows are pulled more than rare ones.

Letters: n rows of a table, w width, U rows of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


def rows_and_values(gradient: Tensor) -> tuple[Tensor | None, Tensor]:
    """Unique rows (U) and their gradient (U x w); rows None: all rows, from a dense gradient.

    Raises:
        ValueError: a sparse gradient with more than one sparse dimension.
    """
    if gradient.layout == torch.strided:
        return None, gradient
    if gradient.layout != torch.sparse_coo or gradient.sparse_dim() != 1:
        raise ValueError(
            f"a table's gradient must be dense or a sparse COO tensor of whole rows (one sparse dimension); found "
            f"{gradient.layout} with {gradient.sparse_dim()} sparse dimensions"
        )
    gradient = gradient.coalesce()  # free where it already is
    return gradient._indices()[0], gradient._values()


def gather(tensor: Tensor, rows: Tensor | None) -> Tensor:
    """The batch's rows as a copy to work on; the tensor itself where the batch is all rows."""
    return tensor if rows is None else tensor.index_select(0, rows)


def scatter(tensor: Tensor, rows: Tensor | None, values: Tensor) -> None:
    """Write what `gather` gave back; nothing to do where that was the tensor itself."""
    if rows is not None:
        tensor.index_copy_(0, rows, values)  # index_copy_: 2.5 times faster than tensor[rows] = values on a CPU


def per_row(factors: Tensor, like: Tensor) -> Tensor:
    """U factors shaped so that they multiply U x w numbers (or U x anything)."""
    return factors.view(-1, *([1] * (like.dim() - 1)))


class RowOptimizer(torch.optim.Optimizer):
    """Base of the rules for tables. A rule is two methods, `fresh` and `update`.

    Args:
        params: tables or groups of tables, as for any torch optimizer. A group may have its own options.
        lr: learning rate, > 0.
        l2: strength of the lazy L2 penalty, >= 0.
        l2_scale: n factors c_k (see the module), or None for all 1; a group with it has tables of n rows only.
        options: the rule's own options.

    State: tensors and Python numbers only, made at a table's first step on the table's device, so that `state_dict`
    can be written without pickle and a restored rule continues to the bit.

    Cost: per table two gathers and two scatters of U rows and the arithmetic on them.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        l2: float,
        l2_scale: Tensor | None,
        options: dict[str, Any],
    ):
        if lr <= 0 or l2 < 0:
            raise ValueError(f"lr must be positive and l2 must not be negative; found lr={lr}, l2={l2}")
        super().__init__(params, {"lr": lr, "l2": l2, "l2_scale": l2_scale, **options})

    def fresh(self, table: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        """State of a table (n x w) that has made no step: tensors and Python numbers."""
        raise NotImplementedError

    def update(
        self,
        weights: Tensor,
        gradient: Tensor,
        rows: Tensor | None,
        state: dict[str, Any],
        group: dict[str, Any],
    ) -> None:
        """Update the batch's rows in place.

        Args:
            weights: U x w, the rows to change (a copy that is written back afterwards, or the table itself).
            gradient: U x w, not to be changed.
            rows: U row numbers, or None for all.
            state: the table's state.
            group: the table's options.
        """
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every table that has a gradient, on the rows that the gradient holds."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is None:
                    continue
                rows, gradient = rows_and_values(table.grad)
                weights = gather(table, rows)
                if group["l2"]:
                    gradient = self._with_l2(gradient, weights, rows, group)
                if not self.state[table]:
                    self.state[table] = self.fresh(table, group)
                self.update(weights, gradient, rows, self.state[table], group)
                scatter(table, rows, weights)
        return loss

    @staticmethod
    def _with_l2(gradient: Tensor, weights: Tensor, rows: Tensor | None, group: dict[str, Any]) -> Tensor:
        if group["l2_scale"] is None:
            return gradient.add(weights, alpha=group["l2"])
        scale = per_row(gather(group["l2_scale"], rows), weights)
        return torch.addcmul(gradient, weights, scale, value=group["l2"])
