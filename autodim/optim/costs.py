"""What the rules for tables keep beside the weights. Torch-free: budgets in bytes need it before any training."""

from __future__ import annotations

# name -> (numbers per stored number, numbers per row)
STATE_NUMBERS: dict[str, tuple[int, int]] = {
    "adagrad": (1, 0),
    "rowwise_adagrad": (0, 1),
    "lazy_adam": (2, 0),
    "sgd": (0, 0),
}


def state_numbers(name: str) -> tuple[int, int]:
    """State of a rule for tables: numbers per stored number, and numbers per row."""
    return STATE_NUMBERS[name]
