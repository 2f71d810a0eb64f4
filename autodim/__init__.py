"""autodim finds how wide each embedding table of a recommender model should be, within a budget.

    import autodim
    result = autodim.search(frame, label="click", budget="25% params", run="runs/first")
    print(result.widths)              # a DataFrame: slot, rows, width, cost
    print(result.metrics)             # a DataFrame: AUC, log loss, sizes before and after
    scores = result.predict(new_rows) # a DataFrame of probabilities

On a model of your own, without the pipeline:

    scores = autodim.saliency(model, loss, batches, {"user": model.user, "item": model.item})
    widths = autodim.allocate(scores, {"user": 6041, "item": 3707}, "25% params")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "Factored",
    "Result",
    "allocate",
    "cut_tables",
    "factorise",
    "open_run",
    "saliency",
    "save_cut",
    "search",
    "spectral",
]

if TYPE_CHECKING:
    from autodim.api import Result, open_run, search
    from autodim.dimension.api import allocate
    from autodim.dimension.factor import factorise
    from autodim.dimension.saliency import saliency
    from autodim.dimension.spectral import spectral
    from autodim.own_model import Factored, cut_tables, save_cut

_WHERE = {
    "Result": "autodim.api",
    "search": "autodim.api",
    "open_run": "autodim.api",
    "saliency": "autodim.dimension.saliency",
    "allocate": "autodim.dimension.api",
    "spectral": "autodim.dimension.spectral",
    "factorise": "autodim.dimension.factor",
    "cut_tables": "autodim.own_model",
    "save_cut": "autodim.own_model",
    "Factored": "autodim.own_model",
}


def __getattr__(name: str) -> Any:
    # torch takes seconds to load: only what is asked for is imported
    if name not in _WHERE:
        raise AttributeError(f"module 'autodim' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_WHERE[name]), name)
